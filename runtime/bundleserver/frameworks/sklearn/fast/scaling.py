"""StandardScaler and MinMaxScaler by the two operations that they are, without their checks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from bundleserver.frameworks.sklearn.fast.tree_sums import FloatArray
from bundleserver.frameworks.sklearn.tables import with_columns
from bundleserver.tensors import Array

if TYPE_CHECKING:
    import pandas as pd

_Operation = Callable[[FloatArray], FloatArray]
_ROWS = 64


@dataclass(frozen=True)
class ScalerShortcut:
    """One scaler's ``transform`` of finite numbers, equal to its own to the bit."""

    operation: _Operation
    width: int
    columns: tuple[str, ...]
    metadata: Mapping[str, object] = field(
        default_factory=lambda: MappingProxyType(
            {"methods": ["transform"], "equal": f"bit for bit on {_ROWS} drawn rows"}
        )
    )

    @classmethod
    def of(cls, model: Any) -> ScalerShortcut | None:
        """Make the shortcut of a fitted scaler; None where there is none, or it is not equal."""
        reader = _READERS.get(type(model))
        if reader is None:
            return None
        columns = tuple(getattr(model, "feature_names_in_", ()))
        shortcut = cls(reader(model), int(model.n_features_in_), columns)
        rows = _draw_rows(shortcut.width)
        table = with_columns(rows, columns)
        native, quick = model.transform(table), shortcut.answer("transform", table)
        # With set_output the scaler answers a DataFrame.
        if type(native) is not np.ndarray or quick is None:
            return None
        return shortcut if native.tobytes() == quick.tobytes() else None

    def answer(self, method: str, table: Array | pd.DataFrame) -> Array | None:
        """Transform numbers of 64 bits; others keep their own datatype in the library's code."""
        if method != "transform":
            return None
        if not isinstance(table, np.ndarray):
            if tuple(table.columns) != self.columns:
                return None
            table = table.to_numpy()
        if type(table) is not np.ndarray or table.dtype not in (np.float64, np.int64):
            return None
        if table.shape[1:] != (self.width,) or not np.isfinite(table).all():
            return None
        return self.operation(table.astype(np.float64))


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
