"""Arrays as columns of Arrow: plain values, texts, and lists for what has more dimensions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from bundleserver.tensors import Array

PLAIN_KINDS = "biuf"


def type_of(array: Array) -> pa.DataType:
    """Return the Arrow type of one row's part of an array whose first axis is the rows."""
    kind: pa.DataType = pa.string()
    if array.dtype.kind in PLAIN_KINDS:
        # Hardly a reader knows half floats; every one of them is a float.
        wider = np.dtype(np.float32) if array.dtype == np.float16 else array.dtype
        kind = pa.from_numpy_dtype(wider.newbyteorder("="))
    for _ in range(array.ndim - 1):
        kind = pa.list_(kind)
    return kind


def arrow_column(arrays: Sequence[Array], kind: pa.DataType) -> pa.Array:
    """Return arrays of one type, one after the other, as a column of Arrow.

    Args:
        arrays: their first axis is the rows; what they have for a row may differ in length.
        kind: the ``type_of`` them.
    """
    if len({array.shape[1:] for array in arrays}) > 1:
        return pa.concat_arrays([arrow_column([array], kind) for array in arrays])
    values = arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
    column = _leaves(values.reshape(-1))
    for axis in range(values.ndim - 1, 0, -1):
        length, count = values.shape[axis], int(np.prod(values.shape[:axis], dtype=np.int64))
        offsets = (np.arange(count + 1, dtype=np.int64) * length).astype(np.int32)
        column = pa.ListArray.from_arrays(pa.array(offsets), column)
    return column.cast(kind) if column.type != kind else column


def _leaves(values: Array) -> pa.Array:
    if values.dtype.kind in PLAIN_KINDS:
        if values.dtype == np.float16:
            values = values.astype(np.float32)
        return pa.array(
            np.ascontiguousarray(values.astype(values.dtype.newbyteorder("="), copy=False))
        )
    if values.dtype.kind in "Mm":
        values = values.astype(str)
    return pa.array(list(map(_text, values.tolist())), pa.string())


def _text(value: object) -> str | None:
    """Return a value as text; bytes that are not UTF-8 have escapes."""
    if value is None:
        return None
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return str(value).encode("utf-8", "backslashreplace").decode()


def array_of(column: pa.Array, dtype: str) -> Array:
    """Return a column as the array that it was made of; every row has as many values.

    Args:
        column: of plain values, or of lists.
        dtype: numpy's name of the array's dtype; texts are objects.
    """
    sizes = []
    inner = column
    while pa.types.is_list(inner.type) or pa.types.is_large_list(inner.type):
        rows, inner = len(inner), inner.flatten()
        sizes.append(len(inner) // rows if rows else 0)
    if pa.types.is_string(inner.type) or pa.types.is_large_string(inner.type) or inner.null_count:
        values: Array = np.empty(len(inner), dtype=object)
        values[:] = inner.to_pylist()
    else:
        values = inner.to_numpy(zero_copy_only=False).astype(dtype, copy=False)
    return values.reshape(len(column), *sizes)
