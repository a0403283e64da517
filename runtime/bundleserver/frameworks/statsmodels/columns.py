"""The columns that a regression takes: their kinds, and a request's values as the training had."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from pandas.api.types import infer_dtype

from bundleserver.documents.forms import quoted
from bundleserver.errors import InvalidInput, LoadError
from bundleserver.frameworks.forecasting.contract import shorten
from bundleserver.tensors import Array

_DATATYPES = {
    "string": "BYTES",
    "boolean": "BOOL",
    "integer": "FP64",
    "floating": "FP64",
    "mixed-integer-float": "FP64",
}
_FP64 = np.dtype(np.float64)
_KINDS = {"BYTES": "text", "BOOL": "true or false", "FP64": "a number"}


@dataclass(frozen=True)
class Column:
    """One column: a datatype of the protocol, the training's dtype, and the only values known.

    ``levels`` is empty where any value of the datatype is known.
    """

    name: str
    datatype: str = "FP64"
    dtype: Any = _FP64
    levels: tuple[object, ...] = ()

    @classmethod
    def of(cls, training: pd.Series[Any], levels: tuple[object, ...], where: str) -> Column:
        """Describe a column of the training table.

        Raises:
            LoadError: its values are neither numbers nor text nor true and false.
        """
        dtype: Any = training.dtype
        is_category = isinstance(dtype, pd.CategoricalDtype)
        kind = infer_dtype(dtype.categories if is_category else training, skipna=True)
        if kind not in _DATATYPES:
            raise LoadError(
                f"{where}: the formula uses '{training.name}', a column of {kind}; fit on numbers, "
                "text, or true and false"
            )
        known = tuple(dtype.categories) if is_category else levels
        return cls(str(training.name), _DATATYPES[kind], dtype, known)

    def read(self, values: Array) -> pd.Series[Any]:
        """Check one value per row; a missing one is None or NaN.

        Raises:
            InvalidInput: a value is of another kind, or unknown to the model.
        """
        plain = [v.item() if isinstance(v, np.generic) else v for v in values.tolist()]
        if values.dtype.kind not in "iuf" or self.datatype != "FP64":
            for value in plain:
                if not _is_missing(value) and not self._is_of_kind(value):
                    raise InvalidInput(
                        f"column '{self.name}' has the value {shorten(value)}; expected "
                        f"{_KINDS[self.datatype]}"
                    )
        if self.levels:
            self._check_levels(plain)
        return pd.Series(values if values.dtype.kind in "iuf" else plain)

    def as_trained(self, values: pd.Series[Any]) -> pd.Series[Any]:
        """Convert values, none of which is missing, to the dtype that the model was fitted on."""
        if self.datatype == "BOOL":
            values = values.astype(bool)
        elif self.datatype == "FP64":
            values = values.astype(np.float64)
        if isinstance(self.dtype, pd.CategoricalDtype):
            return values.astype(self.dtype)
        dtype = getattr(self.dtype, "numpy_dtype", self.dtype)
        if dtype.kind not in "iuf" or self.datatype != "FP64":
            return values
        if dtype.kind == "f":
            return values.astype(dtype)
        with np.errstate(invalid="ignore"):
            whole = values.to_numpy().astype(dtype)
        return pd.Series(whole) if (whole == values.to_numpy()).all() else values

    def _is_of_kind(self, value: object) -> bool:
        if self.datatype == "BYTES":
            return isinstance(value, str)
        if self.datatype == "BOOL":
            return isinstance(value, bool | int | float) and value in (0, 1)
        return isinstance(value, int | float) and not isinstance(value, bool)

    def _check_levels(self, values: list[object]) -> None:
        known = frozenset(self.levels)
        for value in values:
            if not _is_missing(value) and value not in known:
                raise InvalidInput(
                    f"column '{self.name}' has the unknown value {shorten(value)}; the model was "
                    f"fitted on {quoted(map(str, self.levels))}"
                )


def datatypes(columns: tuple[Column, ...]) -> tuple[str, ...]:
    """Return the columns' datatypes where not all are numbers, else nothing."""
    kinds = tuple(column.datatype for column in columns)
    return kinds if set(kinds) - {"FP64"} else ()


def _is_missing(value: object) -> bool:
    return value is None or value != value


def distinct_rows(table: pd.DataFrame, rows: int, *, numeric: bool) -> npt.NDArray[Any]:
    """Take so many rows of a table, different ones as far as there are, as one array."""
    values = table.drop_duplicates().head(rows).to_numpy(np.float64 if numeric else object)
    return values[np.arange(rows) % max(1, len(values))]
