"""A CatBoost model's methods over tables."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import catboost
import numpy as np

from bundleserver.errors import InvalidInput, LoadError
from bundleserver.frameworks import cbm
from bundleserver.frameworks.catboost.columns import intake_of, samples_of
from bundleserver.frameworks.interface import first_line
from bundleserver.frameworks.tables.columns import MOST_TRIED
from bundleserver.frameworks.tables.results import dense
from bundleserver.tensors import NUMPY_DTYPES, Array, NamedTensor, TensorSpec, datatype_of
from bundleserver.tensors.call_traits import CallTraits
from bundleserver.tensors.signature import Signature

RAW = "RawFormulaVal"
"""The sums of the trees, as the library's ``prediction_type`` calls them."""

_METHODS = {
    "CatBoostClassifier": ("predict", "predict_proba", "predict_log_proba", RAW),
    "CatBoostRegressor": ("predict", RAW),
}
_ROWS_A_THREAD = 1_024
"""Fewer rows take less time than it takes to start a thread."""

_TRIED = 32


class CatBoostPredictor:
    """One fitted model; the library may be called from any thread."""

    def __init__(self, model: Any, said: cbm.Model, path: Path) -> None:
        """Try the model once, for the shapes and datatypes of its answers.

        Args:
            model: the library's object.
            said: what its file says of it.
            path: the file, for messages.

        Raises:
            LoadError: it cannot answer.
        """
        self._model = model
        self._trees = 0 if said.trees is None else len(said.trees.sizes)
        self._intake = intake_of(type(model).__name__, said)
        self._text = [f.place for f in said.features if f.kind == "text"]
        self._categories = [f.place for f in said.features if f.kind == "category"]
        names = _METHODS.get(type(model).__name__, ("predict",))
        self._methods = MappingProxyType(self._signatures(names, path))

    @property
    def methods(self) -> Mapping[str, Signature]:
        """The methods of the model's class, and its sums without a link function."""
        return self._methods

    @property
    def metadata(self) -> Mapping[str, object]:
        """The model's class, trees and labels."""
        labels = getattr(self._model, "classes_", None)
        known = [] if labels is None else np.asarray(labels).tolist()
        facts: dict[str, object] = {"class": type(self._model).__name__, "trees": self._trees}
        return {**facts, "classes": known} if known else facts

    def call_traits(self, method: str) -> CallTraits:
        """Return what calls of a method are like: tried with rows alone and together."""
        if self._intake.width is None or self._intake.width > MOST_TRIED or self._text:
            return CallTraits()
        return CallTraits(predictable=True, batchable=self._is_same_alone(method))

    def samples(self, method: str, rows: int) -> Sequence[Sequence[NamedTensor]]:
        """Return tables of so many rows, with some string for each category and text."""
        return [(samples_of(self._intake, rows),)]

    def call(
        self, method: str, inputs: Sequence[NamedTensor], parameters: Mapping[str, object]
    ) -> Sequence[Array]:
        """Run one method on a table: one tensor ``[n, f]``, or a tensor ``[n]`` for each column.

        Raises:
            InvalidInput: a column is missing, or has a value that it does not take.
        """
        rows = self._table(inputs)
        declared = self._methods[method].outputs[0]
        if len(rows) == 0:
            return (_no_rows(declared),)
        return (self._answer(method, rows),)

    def close(self) -> None:
        """Release the model."""
        self._model = None

    def _table(self, inputs: Sequence[NamedTensor]) -> Array:
        values = inputs[0].values
        if (
            # Most requests are valid already and skip the full validation.
            len(inputs) == 1
            and self._intake.accepts_arrays
            and values.ndim == 2
            and values.shape[1] == self._intake.width
            and values.dtype.kind in "biuf"
            and inputs[0].columns in ((), self._intake.columns)
        ):
            return values
        return np.asarray(self._intake.table(inputs))

    def _answer(self, method: str, rows: Array) -> Array:
        threads = _threads(len(rows))
        return self._ask(method, self._pool(rows, threads), threads)

    def _ask(self, method: str, data: catboost.Pool, threads: int) -> Array:
        if method == RAW:
            found = self._model.predict(data, prediction_type=RAW, thread_count=threads)
        else:
            found = getattr(self._model, method)(data, thread_count=threads)
        answer = dense(found)
        # A classifier of several classes gives its labels as one column.
        return answer[:, 0] if answer.ndim == 2 and answer.shape[1] == 1 else answer

    def _pool(self, rows: Array, threads: int) -> catboost.Pool:
        try:
            return catboost.Pool(
                rows,
                cat_features=self._categories or None,
                text_features=self._text or None,
                thread_count=threads,
            )
        except (catboost.CatBoostError, TypeError, ValueError) as error:
            taker = type(self._model).__name__
            raise InvalidInput(f"{taker} rejects the input: {first_line(error)}") from error

    def _signatures(self, names: Sequence[str], path: Path) -> dict[str, Signature]:
        """Return each method's table and the form of its answer, which one row tells."""
        found = {}
        row = self._pool(self._table((samples_of(self._intake, 1),)), 1)
        for name in names:
            try:
                answer = self._ask(name, row, 1)
            except Exception as error:  # of the library, which raises what numpy does too
                raise LoadError(
                    f"'{path}' cannot answer '{name}': {first_line(error)}; if it had another "
                    "class, say so with options.class"
                ) from error
            spec = TensorSpec("output-0", datatype_of(answer), (-1, *answer.shape[1:]))
            found[name] = Signature((self._intake.spec,), (spec,))
        return found

    def _is_same_alone(self, method: str) -> bool:
        """Ask whether rows have the same bits alone, in parts and together."""
        rows = self._table((samples_of(self._intake, _TRIED),))
        try:
            whole = self._answer(method, rows)
            for size in (1, 3, 16):
                parts = [self._answer(method, rows[i : i + size]) for i in range(0, _TRIED, size)]
                if not _are_same(np.concatenate(parts), whole):
                    return False
        except catboost.CatBoostError:
            return False
        return True


def _threads(rows: int) -> int:
    """Return how many threads compute so many rows: no more than the server's limit."""
    # The server says its limit to libraries by this variable; the user's own comes first.
    said = os.environ.get("OMP_NUM_THREADS", "")
    limit = int(said) if said.isdecimal() else (os.cpu_count() or 1)
    return max(1, min(limit, rows // _ROWS_A_THREAD))


def _are_same(one: Array, other: Array) -> bool:
    """Ask whether two answers are the same to the bit."""
    if one.dtype.kind == "O":
        return bool(one.tolist() == other.tolist())
    return one.shape == other.shape and one.tobytes() == other.tobytes()


def _no_rows(declared: TensorSpec) -> Array:
    return np.empty(
        (0, *(declared.shape or ())[1:]), dtype=NUMPY_DTYPES[declared.datatype or "FP64"]
    )
