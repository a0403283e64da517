"""A booster and its methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, cast

import numpy as np

from bundleserver.frameworks.fast.boosted import Shortcut, of_lightgbm
from bundleserver.frameworks.lightgbm.intake import Numbers, intake_of
from bundleserver.frameworks.lightgbm.rows import random_rows, samples_of
from bundleserver.frameworks.lightgbm_text.model import ModelText
from bundleserver.frameworks.tables.columns import MOST_MADE_UP, MOST_TRIED
from bundleserver.frameworks.tables.row_by_row import same_in_parts
from bundleserver.tensors import Array, NamedTensor, TensorSpec
from bundleserver.tensors.call_traits import UNKNOWN, CallTraits
from bundleserver.tensors.signature import Signature

if TYPE_CHECKING:
    from lightgbm import Booster

_PROBABILITIES = frozenset({"binary", "multiclass", "multiclassova"})
"""Objectives whose answers are the probabilities of classes."""

_NATIVE = ("predict", "raw_score")


class BoosterPredictor:
    """One booster; nothing of it changes, so any thread may call it.

    ``predict`` gives what ``Booster.predict`` does, ``predict_proba`` a column for each class, also
    of two, and ``raw_score`` the sums of leaves.
    """

    def __init__(self, booster: Booster, model: ModelText, *, accelerate: bool = False) -> None:
        self._booster: Booster | None = booster
        self._model = model
        self._intake = intake_of(model)
        several = () if model.classes == 1 else (model.classes,)
        shapes = {"predict": several, "raw_score": several}
        if model.objective in _PROBABILITIES:
            shapes["predict_proba"] = (max(2, model.classes),)
        self._rows_out = shapes
        self._shortcut: Shortcut | None = None
        may_have_codes = model.has_codes or model.categories
        if accelerate and not may_have_codes and 0 < len(model.names) <= MOST_TRIED:
            native = {name: partial(self._in_library, method=name) for name in _NATIVE}
            self._shortcut = of_lightgbm(booster, len(model.names), native)
        self.methods: Mapping[str, Signature] = MappingProxyType(
            {
                method: Signature(
                    (self._intake.spec,), (TensorSpec("output-0", "FP64", (-1, *shape)),)
                )
                for method, shape in shapes.items()
            }
        )

    @property
    def metadata(self) -> Mapping[str, object]:
        """The objective and the number of trees; whether categories are given by their numbers."""
        facts: dict[str, object] = {
            "objective": self._model.objective or "custom",
            "trees": self._model.trees,
        }
        if self._model.has_codes:
            facts["categories"] = "numbers"
        return facts if self._shortcut is None else {**facts, **self._shortcut.facts}

    def call_traits(self, method: str) -> CallTraits:
        """Return a method's call traits; rows are independent where a test of them says so."""
        if len(self._model.names) > MOST_TRIED:
            return UNKNOWN
        rows = random_rows(self._model)
        return CallTraits(
            predictable=not self._model.categories,
            batchable=same_in_parts(lambda part: self._answer(method, np.asarray(part)), rows),
        )

    def call(
        self, method: str, inputs: Sequence[NamedTensor], parameters: Mapping[str, object]
    ) -> Sequence[Array] | Mapping[str, Array]:
        """Run one method on a table: one tensor ``[n, f]``, or a tensor ``[n]`` for each column.

        Parameters are ignored.

        Raises:
            InvalidInput: the inputs are not valid.
        """
        table = self._intake.numbers(inputs)
        if len(table) == 0:
            return (np.empty((0, *self._rows_out[method])),)
        return (self._answer(method, table),)

    def samples(self, method: str, rows: int) -> Sequence[Sequence[NamedTensor]]:
        """Return a table of so many rows, of numbers and categories that training has seen."""
        if len(self._model.names) > MOST_MADE_UP:
            return ()
        return ((NamedTensor("input-0", samples_of(self._model, rows), self._intake.columns),),)

    def close(self) -> None:
        """Release the booster."""
        self._booster = None

    def _answer(self, method: str, table: Numbers) -> Array:
        native = "raw_score" if method == "raw_score" else "predict"
        quick = None if self._shortcut is None else self._shortcut.answer(native, table)
        answer = self._in_library(table, native) if quick is None else cast(Numbers, quick)
        if method != "predict_proba" or self._model.classes > 1:
            # Of one row with a class more than one, the library's own shape is [1, classes].
            return answer.reshape(len(table), *self._rows_out[method])
        return np.column_stack((1.0 - answer, answer))

    def _in_library(self, table: Numbers, method: str) -> Numbers:
        booster = self._booster
        if booster is None:
            raise ValueError("the booster is closed")
        return np.asarray(booster.predict(table, raw_score=method == "raw_score"))
