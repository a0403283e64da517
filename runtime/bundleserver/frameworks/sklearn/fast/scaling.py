"""StandardScaler and MinMaxScaler as two operations each, without their validation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from bundleserver.frameworks.sklearn.fast.tree_sums import FloatArray
from bundleserver.frameworks.tables.intake import with_columns
from bundleserver.tensors import Array

if TYPE_CHECKING:
    import pandas as pd

_Operation = Callable[[FloatArray], FloatArray]
_ROWS = 64


@dataclass(frozen=True)
class ScalerShortcut:
    """One scaler's ``transform`` for finite numbers, equal to the library's to the bit."""

    operation: _Operation
    width: int
    columns: tuple[str, ...]
    metadata: Mapping[str, object] = field(
        default_factory=lambda: MappingProxyType(
            {"methods": ["transform"], "equal": f"bit for bit on {_ROWS} random rows"}
        )
    )

    @classmethod
    def of(cls, model: Any) -> ScalerShortcut | None:
        """Make the shortcut of a fitted scaler; None if it is not supported or not equal."""
        reader = _READERS.get(type(model))
        if reader is None:
            return None
        columns = tuple(getattr(model, "feature_names_in_", ()))
        shortcut = cls(reader(model), int(model.n_features_in_), columns)
        rows = _draw_rows(shortcut.width)
        table = with_columns(rows, columns)
        native, quick = model.transform(table), shortcut.answer("transform", table)
        # With set_output the scaler returns a DataFrame.
        if type(native) is not np.ndarray or quick is None:
            return None
        return shortcut if native.tobytes() == quick.tobytes() else None

    def answer(self, method: str, table: Array | pd.DataFrame) -> Array | None:
        """Transform 64-bit numbers; the library's code preserves other datatypes."""
        rows = array_of(table, self.columns) if method == "transform" else None
        if rows is None or rows.dtype not in (np.float64, np.int64):
            return None
        if rows.shape[1:] != (self.width,) or not np.isfinite(rows).all():
            return None
        return self.operation(rows.astype(np.float64))


def array_of(table: Any, columns: tuple[str, ...]) -> Any:
    """Return a table's array; None if it is neither an array nor a DataFrame of these columns."""
    if hasattr(table, "to_numpy"):
        table = table.to_numpy() if tuple(table.columns) == columns else None
    return table if type(table) is np.ndarray else None


def _standard(model: StandardScaler) -> _Operation:
    mean = model.mean_ if model.with_mean else None
    scale = model.scale_ if model.with_std else None

    def operation(rows: FloatArray) -> FloatArray:
        if mean is not None:
            rows -= mean
        if scale is not None:
            rows /= scale
        return rows

    return operation


def _min_max(model: MinMaxScaler) -> _Operation:
    low, high = model.feature_range

    def operation(rows: FloatArray) -> FloatArray:
        rows *= model.scale_
        rows += model.min_
        if model.clip:
            rows.clip(low, high, out=rows)
        return rows

    return operation


def _draw_rows(width: int) -> FloatArray:
    generator = np.random.default_rng(0)
    sizes = generator.choice([0.0, -0.0, 1e-310, 1e-9, 1.0, 1e9, 1e300], (_ROWS, width))
    rows: FloatArray = generator.normal(size=(_ROWS, width)) * sizes
    return rows


_READERS: Mapping[type, Callable[[Any], _Operation]] = {
    StandardScaler: _standard,
    MinMaxScaler: _min_max,
}
