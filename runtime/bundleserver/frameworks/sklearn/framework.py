"""The sklearn framework: any fitted estimator or pipeline in a pickle or joblib file."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from traceback import walk_tb
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any

import joblib
import numpy as np
from sklearn.exceptions import NotFittedError

from bundleserver.errors import InvalidInput, LoadError, StoreError
from bundleserver.frameworks import LoadContext, pickles
from bundleserver.frameworks.fast.option import read_option
from bundleserver.frameworks.imports.lean import IMPORTING, complete_at_once
from bundleserver.frameworks.interface import first_line
from bundleserver.frameworks.pickles.by_value import write_by_value
from bundleserver.frameworks.sklearn.call_traits import is_predictable, is_row_by_row
from bundleserver.frameworks.sklearn.estimators import (
    first_step,
    intake_of,
    methods_of,
    output_of,
    why_not_served,
)
from bundleserver.frameworks.sklearn.fast.engines import (
    Shortcut,
    accelerate,
    use_one_thread,
)
from bundleserver.frameworks.sklearn.samples import samples_of
from bundleserver.frameworks.tables.columns import MOST_TRIED
from bundleserver.frameworks.tables.intake import Intake
from bundleserver.frameworks.tables.logged_columns import LoggedTable, read_columns
from bundleserver.frameworks.tables.results import Outputs, dense, several_outputs
from bundleserver.frameworks.tables.row_by_row import random_rows, same_in_parts
from bundleserver.tensors import NUMPY_DTYPES, Array, NamedTensor, TensorSpec
from bundleserver.tensors.call_traits import UNKNOWN, CallTraits
from bundleserver.tensors.signature import Signature

if TYPE_CHECKING:
    import pandas as pd

for _library, _classes in {
    "pandas": ("DataFrame", "Series", "Index"),
    "polars": ("DataFrame", "Series"),
    "pyarrow": ("Table", "RecordBatch", "Array", "ChunkedArray"),
}.items():
    complete_at_once(_library, _classes)

_TRANSFORMS = frozenset({"transform", "inverse_transform"})
# A ValueError or TypeError raised in these is about the input.
_CHECKING_LIBRARIES = frozenset({"sklearn", "numpy", "pandas", "scipy", "xgboost", "lightgbm"})


def load(path: Path, context: LoadContext) -> SklearnPredictor | LoggedTable:
    """Open a pickle or joblib file of one fitted estimator.

    The option ``accelerate`` is ``"auto"`` (use a faster implementation with the same results, if
    there is one) or ``"off"`` (the model runs as it was saved, with its own ``n_jobs``). The option
    ``columns`` has the datatype of every column by name, as in an MLflow signature.

    Raises:
        LoadError: names the file, what is wrong with it and what to do.
    """
    return served(pickles.load(path, context.trust), path, context)


def served(model: Any, path: Path, context: LoadContext) -> SklearnPredictor | LoggedTable:
    """Return the predictor of an estimator that a file held, whatever its format; as ``load``."""
    faster = read_option(context.options, f"'{path}'")
    if problem := why_not_served(model):
        raise LoadError(f"'{path}' has {problem}")
    # A model that ignores unknown categories would warn in every request with one: "once" does not
    # help, since scikit-learn's own checks reset the registry of warnings.
    warnings.filterwarnings("ignore", message="Found unknown categories", category=UserWarning)
    if faster:
        use_one_thread(model)
    columns: Mapping[str, str] = {}
    if "columns" in context.options:
        columns = read_columns(context.options["columns"], f"'{path}'")
        if not _is_fitted_with(intake_of(model), tuple(columns)):
            # As MLflow does: the estimator gets this table, and says whether it takes it.
            asked = SklearnPredictor(model, as_saved=True, columns=tuple(columns))
            return LoggedTable(columns, asked)
    predictor = SklearnPredictor(model, accelerate(model) if faster else None, as_saved=not faster)
    return LoggedTable(columns, predictor) if columns else predictor


def _is_fitted_with(intake: Intake, columns: tuple[str, ...]) -> bool:
    """Ask whether columns are those of fitting, or as many as an estimator without names knows."""
    return columns == intake.columns or (not intake.columns and intake.width == len(columns))


def save(model: object, directory: Path, stem: str) -> tuple[Path, dict[str, object]]:
    """Write a fitted estimator as ``directory/stem.joblib``, without options.

    One that uses classes or functions of a notebook is written with their code, as ``stem.pkl``.

    Raises:
        StoreError: it is not a fitted estimator, or cannot be pickled.
    """
    if problem := why_not_served(model):
        raise StoreError(f"component '{stem}' is {problem}")
    path = directory / f"{stem}.joblib"
    try:
        joblib.dump(model, path, compress=0)
        names = pickles.notebook_names(path)
        why = f"uses {', '.join(names)}, defined in a notebook" if names else ""
    except OSError as error:
        raise StoreError(f"component '{stem}' cannot be written to '{path}': {error}") from error
    except Exception as error:  # noqa: BLE001  # the object's own code runs while it is pickled
        why = f"cannot be pickled by name ({first_line(error)})"
    if why:
        path.unlink(missing_ok=True)
        path = directory / f"{stem}.pkl"
        write_by_value(model, path, stem, why)
    return path, {}


class SklearnPredictor:
    """One fitted estimator and its methods; immutable, so any thread may call it."""

    def __init__(
        self,
        model: Any,
        shortcut: Shortcut | None = None,
        *,
        as_saved: bool = False,
        columns: tuple[str, ...] = (),
    ) -> None:
        """Serve an estimator; with ``columns`` its table has these, whatever it was fitted with."""
        self._model = model
        self._shortcut = shortcut
        self._as_saved = as_saved
        intake, taker = intake_of(model), type(model).__name__
        if columns:
            intake = Intake(taker, len(columns), columns, numeric=intake.numeric)
        self._width = intake.width
        if intake.columns or intake.width is None:
            # Now, rather than with the first request that needs a DataFrame.
            with IMPORTING:
                import pandas as pd  # noqa: F401
        self._intakes = {
            method: Intake(taker) if method == "inverse_transform" else intake
            for method in methods_of(model)
        }
        self._methods = MappingProxyType(
            {
                method: Signature((self._intakes[method].spec,), (output_of(model, method),))
                for method in self._intakes
            }
        )

    @property
    def metadata(self) -> Mapping[str, object]:
        """How the model is accelerated, if it is."""
        return {} if self._shortcut is None else {"accelerated": dict(self._shortcut.metadata)}

    @property
    def methods(self) -> Mapping[str, Signature]:
        """The estimator's prediction methods: ``predict`` first, else ``transform``."""
        return self._methods

    def call_traits(self, method: str) -> CallTraits:
        """Return a method's call traits; unknown for an estimator that runs as it was saved."""
        intake = self._intakes[method]
        if self._as_saved or not 0 < (intake.width or 0) <= MOST_TRIED:
            return UNKNOWN
        columns, width = intake.columns, intake.width or 0
        return CallTraits(
            predictable=intake.numeric and is_predictable(self._model),
            batchable=is_row_by_row(self._model)
            and same_in_parts(
                lambda rows: self._call(method, (NamedTensor("input-0", rows, columns),)),
                random_rows(width),
            ),
        )

    def call(
        self, method: str, inputs: Sequence[NamedTensor], parameters: Mapping[str, object]
    ) -> Sequence[Array] | Mapping[str, Array]:
        """Run one method on a table: one tensor ``[n, f]``, or a tensor ``[n]`` for each column.

        A transformer accepts sequences ``[n, t, f]`` too and transforms their last axis. Parameters
        are ignored.

        Raises:
            InvalidInput: the inputs are not valid, or the estimator rejects a value.
        """
        values = inputs[0].values
        if method == "inverse_transform" and values.ndim == 1 and self._width == 1:
            # A model's predictions [n] are the one column of the scaler of its target.
            column = inputs[0]._replace(values=values[:, np.newaxis])
            return (self._call(method, (column,))[:, 0],)
        if method not in _TRANSFORMS or len(inputs) > 1 or values.ndim != 3:
            return self._outputs(method, inputs)
        n, t, f = values.shape
        if self._intakes[method].width not in (None, f):
            return self._outputs(method, inputs)  # which reports the shape
        answer = self._call(method, (inputs[0]._replace(values=values.reshape(n * t, f)),))
        return (answer.reshape(n, t, *answer.shape[1:]),)

    def samples(self, method: str, rows: int) -> Sequence[Sequence[NamedTensor]]:
        """Return tables of so many rows that the estimator is likely to take."""
        if method == "inverse_transform":
            return self._transformed(rows)
        found = samples_of(self._model, first_step(self._model), self._intakes[method], rows)
        return [(table,) for table in found]

    def _transformed(self, rows: int) -> Sequence[Sequence[NamedTensor]]:
        """Return what ``transform`` makes of its own samples."""
        made: list[Sequence[NamedTensor]] = []
        for sample in self.samples("transform", rows) if "transform" in self._methods else ():
            try:
                made.append((NamedTensor("input-0", self._call("transform", sample)),))
            except Exception:  # noqa: BLE001, S112 - the next sample may do
                continue
        return made

    def close(self) -> None:
        """Release the estimator."""
        self._model = self._shortcut = None

    def _call(self, method: str, inputs: Sequence[NamedTensor]) -> Array:
        """Run one method that has a single output."""
        outputs = self._outputs(method, inputs)
        if len(outputs) != 1:
            raise ValueError(f"{method} returned {len(outputs)} outputs; expected one")
        return next(iter(outputs.values() if isinstance(outputs, dict) else outputs))

    def _outputs(self, method: str, inputs: Sequence[NamedTensor]) -> Outputs:
        intake, declared = self._intakes[method], self._methods[method].outputs[0]
        table: Array | pd.DataFrame = inputs[0].values
        if len(inputs) > 1 or not (
            # Most requests are a valid table already and skip the full validation.
            intake.accepts_arrays
            and table.ndim == 2
            and table.shape[1] == intake.width
            and table.dtype.kind in "biuf"
        ):
            table = intake.table(inputs)
        if len(table) == 0:
            return (_no_rows(declared, inputs[0].name),)
        try:
            with np.errstate(all="ignore"):  # log(0) in predict_log_proba is a valid result
                quick = None if self._shortcut is None else self._shortcut.answer(method, table)
                answer = getattr(self._model, method)(table) if quick is None else quick
        except NotFittedError:
            raise  # a ValueError, and not the caller's
        except (TypeError, ValueError) as error:
            if not blames_the_input(error.__traceback__):
                raise
            taker = type(self._model).__name__
            raise InvalidInput(f"{taker} rejects the input: {first_line(error)}") from error
        if type(answer) is not np.ndarray or answer.dtype.kind not in "biufc":
            if several := several_outputs(answer, method):
                return several
            answer = dense(answer)
        if declared.datatype == "FP64" and answer.dtype.kind in "biuf":
            # The estimator's datatype follows the input's; the output keeps the declared one.
            answer = answer.astype(np.float64, copy=False)
        return (answer,)


def _no_rows(declared: TensorSpec, name: str) -> Array:
    """Return an output without rows, if its datatype and shape are known."""
    if declared.datatype is None or declared.shape is None:
        raise InvalidInput(f"input '{name}' has no rows; send at least one")
    return np.empty((0, *declared.shape[1:]), dtype=NUMPY_DTYPES[declared.datatype])


def blames_the_input(traceback: TracebackType | None) -> bool:
    """Ask whether an error was raised by a library's validation, not by code in a pipeline."""
    frames = list(walk_tb(traceback))
    raised_in = str(frames[-1][0].f_globals.get("__name__", "")) if frames else ""
    return raised_in.split(".")[0] in _CHECKING_LIBRARIES
