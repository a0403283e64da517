"""Arrays as columns of Arrow: plain values, texts, and lists for what has more dimensions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from bundleserver.tensors import Array

PLAIN_KINDS = "biuf"

TEXT = pa.string()
"""The type of texts; all others are numbers or booleans."""

_NUMBERS = (bool, int, float, np.bool_, np.number)


def arrow_column(arrays: Sequence[Array], leaf: pa.DataType, depth: int) -> pa.Array | None:
    """Return arrays, one after the other, as a column; None if it would not have their values.

    Numbers have a type if all have the same value in it; an integer may be rounded to a double.

    Args:
        arrays: their first axis is the rows; what they have for a row may differ in length.
        leaf: the type of the plain values.
        depth: how many lists these are in; every array has one more dimension.
    """
    if any(array.ndim != depth + 1 for array in arrays):
        return None
    if len({array.shape[1:] for array in arrays}) > 1:
        parts = [arrow_column([array], leaf, depth) for array in arrays]
        return None if any(part is None for part in parts) else pa.concat_arrays(parts)
    values = arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
    column = _leaves(values.reshape(-1), leaf)
    for axis in range(depth, 0, -1) if column is not None else ():
        length, count = values.shape[axis], int(np.prod(values.shape[:axis], dtype=np.int64))
        offsets = (np.arange(count + 1, dtype=np.int64) * length).astype(np.int32)
        column = pa.ListArray.from_arrays(pa.array(offsets), column)
    return column


def _leaves(values: Array, leaf: pa.DataType) -> pa.Array | None:
    """Return a flat array as one of a type, if it has all of its values."""
    if leaf == TEXT:
        if values.dtype.kind == "f" and np.isnan(values).all():
            # Null in JSON, where no text says that this is a column of texts.
            return pa.nulls(len(values), TEXT)
        if values.dtype.kind in PLAIN_KINDS:
            return None
        texts = values.astype(str) if values.dtype.kind in "Mm" else values
        return pa.array(list(map(_text, texts.tolist())), TEXT)
    if values.dtype.kind in PLAIN_KINDS:
        numbers = _fitting(values, np.dtype(leaf.to_pandas_dtype()))
        return None if numbers is None else pa.array(numbers, leaf)
    plain = values.tolist()
    is_null = np.array([value is None for value in plain], dtype=np.bool_)
    if values.dtype.kind != "O" or not all(
        value is None or isinstance(value, _NUMBERS) for value in plain
    ):
        return None
    filled = np.array([0 if value is None else value for value in plain])
    if filled.size and filled.dtype.kind not in PLAIN_KINDS:
        return None
    numbers = _fitting(filled, np.dtype(leaf.to_pandas_dtype()))
    if numbers is None:
        return None
    return pa.array(numbers, leaf, mask=is_null, from_pandas=False)


def _fitting(values: Array, dtype: np.dtype[np.generic]) -> Array | None:
    """Return numbers in another datatype, if none of them has another value there."""
    if np.can_cast(values.dtype, dtype, "safe"):
        return np.ascontiguousarray(values.astype(dtype, copy=False))
    with np.errstate(all="ignore"):
        cast = values.astype(dtype)
    return cast if np.array_equal(cast, values, equal_nan=values.dtype.kind == "f") else None


def _text(value: object) -> str | None:
    """Return a value as text; bytes that are not UTF-8 have escapes."""
    if value is None:
        return None
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return str(value).encode("utf-8", "backslashreplace").decode()


def dtype_name(array: Array) -> str:
    """Return numpy's name of an array's dtype; all but numbers and booleans are objects."""
    return array.dtype.str if array.dtype.kind in PLAIN_KINDS else "object"


def array_of(column: pa.Array, dtype: str) -> Array:
    """Return a column as the array that it was made of; every row has as many values.

    Args:
        column: of plain values, or of lists.
        dtype: the ``dtype_name`` of the array.
    """
    sizes = []
    inner = column
    while pa.types.is_list(inner.type) or pa.types.is_large_list(inner.type):
        rows, inner = len(inner), inner.flatten()
        sizes.append(len(inner) // rows if rows else 0)
    if dtype == "object":
        values: Array = np.empty(len(inner), dtype=object)
        values[:] = inner.to_pylist()
    else:
        values = inner.to_numpy(zero_copy_only=False).astype(dtype)
    return values.reshape(len(column), *sizes)
