"""Regressions fitted with statsmodels (OLS, GLM, Logit and others): one answer per row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd

from bundleserver.documents.forms import quoted
from bundleserver.errors import InvalidInput, LoadError
from bundleserver.frameworks.forecasting.contract import FloatArray
from bundleserver.frameworks.interface import first_line, named_line
from bundleserver.frameworks.statsmodels.columns import Column, datatypes, distinct_rows
from bundleserver.frameworks.statsmodels.formula import ENGINES, formula_columns, training_table
from bundleserver.frameworks.statsmodels.series import class_name, installed
from bundleserver.tensors import Array, NamedTensor, TensorSpec
from bundleserver.tensors.columns import column_problems
from bundleserver.tensors.signature import Signature

_KEPT = 1000
"""How many rows of the training are kept for samples."""


class RegressionPredictor:
    """Fitted results of a regression; its method ``predict`` is the library's own.

    The input ``exog`` FP64 ``[n, k]`` has the columns of the design, with the constant if the model
    was fitted with one. A model fitted by formula expects the variables of the formula: numbers,
    text, true and false. A row with a missing value is answered by NaN. Any thread may call it.
    """

    def __init__(self, results: Any, where: str) -> None:
        self._results = results
        table = training_table(results.model, where)
        self._by_formula = table is not None
        columns = () if table is None else formula_columns(results.model, table, where)
        self._columns = columns or _design_columns(results, where)
        self._names = tuple(column.name for column in self._columns)
        self._plausible = _plausible_rows(results, table, self._names)
        kinds = datatypes(self._columns)
        self._exog = TensorSpec(
            "exog",
            None if kinds else "FP64",
            (-1, len(self._columns)),
            self._names,
            column_datatypes=kinds,
            required_columns=self._names,
        )
        self._row = self._probe(where)[1:]
        answer = TensorSpec("prediction", "FP64", (-1, *self._row))
        self.methods: Mapping[str, Signature] = MappingProxyType(
            {"predict": Signature(inputs=(self._exog,), outputs=(answer,))}
        )

    def call(
        self, method: str, inputs: Sequence[NamedTensor], parameters: Mapping[str, object]
    ) -> Sequence[Array]:
        """Predict one table, whatever its name, or several tensors with a column each.

        Raises:
            InvalidInput: the columns differ, or a value is not of its column's kind.
        """
        one = len(inputs) == 1
        columns = list(self._table(inputs[0]).T) if one else self._by_name(inputs)
        if not len(columns[0]):
            return [np.empty((0, *self._row))]
        if self._by_formula:
            return [self._predict_table(columns)]
        known = inputs if one else [tensor for tensor in inputs if tensor.name in self._names]
        return [self._ask(_numbers(known, columns))]

    def samples(self, method: str, rows: int) -> Sequence[Sequence[NamedTensor]]:
        """Return rows of the training; made-up numbers, if the data were removed."""
        return [[NamedTensor("exog", self._sample(rows), self._names)]]

    def close(self) -> None:
        """Release the results."""
        self._results = None

    def _sample(self, rows: int) -> Array:
        return distinct_rows(self._plausible, rows, numeric=not self._exog.column_datatypes)

    def _table(self, tensor: NamedTensor) -> Array:
        values, width = tensor.values, len(self._columns)
        if values.ndim == 1 and width == 1:
            values = values[:, np.newaxis]
        if values.ndim != 2 or values.shape[1] != (len(tensor.columns) or width):
            raise InvalidInput(
                f"input '{tensor.name}' has shape {list(tensor.values.shape)}; the regression "
                f"expects [-1, {width}], the columns {quoted(self._names)}"
            )
        if tensor.columns in ((), self._names):
            return values
        self._check_names(tensor.columns)
        return values[:, [tensor.columns.index(name) for name in self._names]]

    def _by_name(self, inputs: Sequence[NamedTensor]) -> list[Array]:
        self._check_names([tensor.name for tensor in inputs])
        columns = {t.name: _column(t) for t in inputs if t.name in self._names}
        lengths = {name: len(values) for name, values in columns.items()}
        if len(set(lengths.values())) > 1:
            listed = ", ".join(f"'{name}' has {length}" for name, length in lengths.items())
            raise InvalidInput(f"the columns differ in their number of rows: {listed}")
        return [columns[name] for name in self._names]

    def _check_names(self, came: Sequence[str]) -> None:
        if problems := column_problems(came, self._names, self._names):
            said, meant = problems
            raise InvalidInput(
                f"{said}; the regression expects the columns {quoted(self._names)}{meant}"
            )

    def _predict_table(self, values: Sequence[Array]) -> FloatArray:
        """Predict the complete rows; the library would drop others, and with them their place."""
        pairs = list(zip(self._columns, values, strict=True))
        table = pd.concat({column.name: column.read(v) for column, v in pairs}, axis=1)
        complete = table.notna().all(axis=1).to_numpy()
        answer = np.full((len(table), *self._row), np.nan)
        if complete.any():
            answer[complete] = self._ask(self._as_trained(table[complete]))
        return answer

    def _as_trained(self, table: pd.DataFrame) -> pd.DataFrame:
        rows = table.reset_index(drop=True)
        return pd.DataFrame({c.name: c.as_trained(rows[c.name]) for c in self._columns})

    def _ask(self, rows: Array | pd.DataFrame) -> FloatArray:
        try:
            answer = np.asarray(self._results.predict(rows), dtype=np.float64)
        except Exception as error:
            cause = error.__cause__ or error
            if type(cause).__module__.partition(".")[0] not in ENGINES:
                raise
            raise InvalidInput(f"the formula rejects a row: {first_line(cause)}") from error
        if answer.shape[:1] != (len(rows),):
            raise ValueError(f"{len(rows)} rows got answers of shape {list(answer.shape)}")
        return answer

    def _probe(self, where: str) -> tuple[int, ...]:
        rows = self._sample(2)
        try:
            if not self._by_formula:
                return self._ask(rows).shape
            return self._ask(self._as_trained(pd.DataFrame(rows, columns=list(self._names)))).shape
        except Exception as error:
            raise LoadError(
                f"{where} has a {class_name(self._results)} that cannot predict a row: "
                f"{named_line(error)}; if another version saved it, save it again with "
                f"{installed()}"
            ) from error


def _design_columns(results: Any, where: str) -> tuple[Column, ...]:
    """Return the columns of a design, whose data may have been removed."""
    model = results.model
    exog = getattr(model, "exog", None)
    params = np.asarray(results.params)
    # Some models estimate more than a number per column: thresholds, a dispersion.
    width = len(params) - (getattr(model, "k_extra", 0) or 0) if exog is None else exog.shape[1]
    original = getattr(model.data, "orig_exog", None)
    named = (
        getattr(original, "columns", None),
        model.exog_names,
        getattr(results.params, "index", None),
    )
    for names in named:
        # Names of what else is estimated follow; they stand with the data, if those are there.
        if names is not None and (len(names) == width or (exog is None and len(names) > width)):
            return tuple(Column(str(name)) for name in names[:width])
    if width < 1:
        raise LoadError(f"{where} has a {class_name(results)} without columns")
    return tuple(Column(f"x{position + 1}") for position in range(width))


def _plausible_rows(
    results: Any, table: pd.DataFrame | None, names: tuple[str, ...]
) -> pd.DataFrame:
    """Keep some rows of the training for the probe."""
    if table is not None:
        return table.reindex(columns=list(names), fill_value=1.0).dropna().head(_KEPT)
    exog = getattr(results.model, "exog", None)
    if exog is None:
        exog = np.random.default_rng(0).normal(size=(_KEPT, len(names)))
    return pd.DataFrame(np.asarray(exog, dtype=np.float64)[:_KEPT], columns=list(names))


def _column(tensor: NamedTensor) -> Array:
    values = tensor.values
    if values.ndim == 2 and values.shape[1] == 1:
        return values[:, 0]
    if values.ndim != 1:
        raise InvalidInput(
            f"input '{tensor.name}' has shape {list(values.shape)}; the regression expects [-1]"
        )
    return values


def _numbers(inputs: Sequence[NamedTensor], columns: Sequence[Array]) -> FloatArray:
    """Make one table of numbers, in the array layout of a direct call.

    The last bit of a product depends on the layout.
    """
    for tensor in inputs:
        if tensor.values.dtype.kind not in "iuf":
            raise InvalidInput(f"input '{tensor.name}' is not numeric; the regression expects FP64")
    return np.column_stack(columns).astype(np.float64)
