"""A booster's methods: the answers of XGBoost for the same table, to the bit."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import cast

import numpy as np
import numpy.typing as npt
import xgboost

from bundleserver.errors import InvalidInput
from bundleserver.frameworks.boosting.samples import samples_of
from bundleserver.frameworks.boosting.table import NumberTable
from bundleserver.frameworks.fast.boosted import Shortcut, of_xgboost
from bundleserver.frameworks.tables.columns import MOST_TRIED
from bundleserver.frameworks.tables.row_by_row import random_rows, same_in_parts
from bundleserver.frameworks.xgboost.checked.recorded import Recorded
from bundleserver.tensors import NUMPY_DTYPES, Array, NamedTensor, TensorSpec, datatype_of
from bundleserver.tensors.call_traits import UNKNOWN, CallTraits
from bundleserver.tensors.signature import Signature

_OF_PROBABILITIES = frozenset({"binary:logistic", "multi:softprob"})


Numbers = npt.NDArray[np.float32]


class BoosterPredictor:
    """One booster and its methods; any thread may call it.

    A booster that one of XGBoost's scikit-learn estimators saved answers as that estimator would.
    """

    def __init__(
        self, booster: xgboost.Booster, recorded: Recorded, *, accelerate: bool = False
    ) -> None:
        self._booster = booster
        self._recorded = recorded
        known = {place: values for place, values in recorded.categories.items() if values}
        by_place = {i for i, kind in enumerate(recorded.types) if kind == "c"} - {*known}
        self._table = NumberTable("Booster", recorded.columns, recorded.names, known, by_place)
        self._is_linear = recorded.booster == "gblinear"
        # Booster.predict adds the trees of 'dart' in another order than the estimators, which ask
        # as here; XGBoost asks a linear model in one way only.
        self._in_place = recorded.booster == "gbtree" or bool(
            recorded.booster == "dart" and recorded.estimator
        )
        self._alone = threading.Lock()
        self._trees = (0, 0)
        if recorded.estimator and recorded.best_iteration is not None and not self._is_linear:
            self._trees = (0, recorded.best_iteration + 1)
        # What the model was trained with does not count here: the threads are OpenMP's.
        booster.set_param({"nthread": 0})
        self._shortcut: Shortcut | None = None
        if accelerate and self._may_be_converted():
            native = {kind: partial(self._in_library, kind=kind) for kind in ("value", "margin")}
            self._shortcut = of_xgboost(booster, recorded.columns, native)
        self._methods = MappingProxyType(
            {
                method: Signature((self._table.spec,), (self._output_of(method),))
                for method in self._names()
            }
        )

    @property
    def methods(self) -> Mapping[str, Signature]:
        """``predict``, ``predict_proba`` where there are probabilities, and ``output_margin``."""
        return self._methods

    @property
    def metadata(self) -> Mapping[str, object]:
        """What was trained, and with which XGBoost."""
        written_by = ".".join(map(str, self._recorded.version))
        facts = {"objective": self._recorded.objective, "saved_with": f"xgboost {written_by}"}
        return facts if self._shortcut is None else {**facts, **self._shortcut.facts}

    def call_traits(self, method: str) -> CallTraits:
        """Return a method's call traits: trees see each row by itself, which is tried as well."""
        if self._is_linear or self._recorded.columns > MOST_TRIED:
            return UNKNOWN
        return CallTraits(
            predictable=self._in_place and not self._table.categories,
            batchable=same_in_parts(
                lambda rows: self._answer(method, rows), random_rows(self._recorded.columns)
            ),
        )

    def call(
        self, method: str, inputs: Sequence[NamedTensor], parameters: Mapping[str, object]
    ) -> Sequence[Array]:
        """Run one method on a table: one tensor ``[n, f]``, or a tensor ``[n]`` for each column.

        NaN and null are missing. Parameters are ignored.

        Raises:
            InvalidInput: the inputs are not valid, or have an infinite number.
        """
        rows = self._table.numbers(inputs)
        if len(rows):
            return (self._answer(method, rows),)
        declared = self._methods[method].outputs[0]
        if declared.datatype is None or declared.shape is None:
            raise InvalidInput(f"input '{inputs[0].name}' has no rows; send at least one")
        return (np.empty((0, *declared.shape[1:]), dtype=NUMPY_DTYPES[declared.datatype]),)

    def samples(self, method: str, rows: int) -> Sequence[Sequence[NamedTensor]]:
        """Return tables of so many rows, of recorded categories where there are any."""
        return [(table,) for table in samples_of(self._table, rows)]

    def close(self) -> None:
        """Release the booster."""
        del self._booster

    def _names(self) -> tuple[str, ...]:
        has_probabilities = self._recorded.objective in _OF_PROBABILITIES
        return (
            ("predict", "predict_proba", "output_margin")
            if has_probabilities
            else ("predict", "output_margin")
        )

    def _output_of(self, method: str) -> TensorSpec:
        """Ask for one row of zeros, which configures the booster too, before threads share it."""
        if self._recorded.columns > MOST_TRIED:
            return TensorSpec("output-0")
        answer = self._answer(method, np.zeros((1, self._recorded.columns)))
        return TensorSpec("output-0", datatype_of(answer), (-1, *answer.shape[1:]))

    def _answer(self, method: str, rows: Array) -> Array:
        if method == "output_margin":
            return self._raw(rows, "margin")
        values = self._raw(rows, "value")
        if method == "predict_proba":
            return values if values.ndim > 1 else np.vstack((1.0 - values, values)).transpose()
        return self._labels(values) if self._recorded.estimator == "classifier" else values

    def _labels(self, values: Numbers) -> Array:
        """Choose classes as XGBClassifier does."""
        if values.ndim > 1 and self._recorded.classes > 2:
            return np.asarray(np.argmax(values, axis=1))
        if values.ndim > 1 and values.shape[1] != 1:
            return np.asarray(values > 0.5, dtype=np.float64)
        if self._recorded.objective == "multi:softmax":
            return values.astype(np.int32)
        return np.asarray(values.reshape(-1) > 0.5, dtype=np.int64)

    def _raw(self, rows: Array, kind: str) -> Numbers:
        """Ask XGBoost.

        Raises:
            InvalidInput: a number is infinite, as 32-bit numbers have it.
        """
        with np.errstate(over="ignore"):
            numbers = np.ascontiguousarray(rows, np.float32)
        if np.isinf(numbers).any():
            raise InvalidInput(
                "the input has an infinite number, or one too large for 32 bits; XGBoost takes "
                "finite ones, and null for a missing one"
            )
        quick = None if self._shortcut is None else self._shortcut.answer(kind, numbers)
        return self._in_library(numbers, kind) if quick is None else cast(Numbers, quick)

    def _may_be_converted(self) -> bool:
        recorded = self._recorded
        is_plain = recorded.booster == "gbtree" and "c" not in recorded.types
        return is_plain and self._trees == (0, 0) and 0 < recorded.columns <= MOST_TRIED

    def _in_library(self, rows: Array, kind: str) -> Numbers:
        numbers = np.ascontiguousarray(rows, np.float32)
        if not self._in_place:
            with self._alone:
                return self._by_matrix(numbers, kind)
        answer: Numbers = self._booster.inplace_predict(
            numbers, iteration_range=self._trees, predict_type=kind, validate_features=False
        )
        return answer

    def _by_matrix(self, numbers: Numbers, kind: str) -> Numbers:
        table = xgboost.DMatrix(numbers)
        answer: Numbers = self._booster.predict(
            table, output_margin=kind == "margin", validate_features=False
        )
        return answer
