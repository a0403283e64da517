"""Columns of plain values as arrays of a model's datatypes, with the rows that are not valid.

The rules are those of a V1 request: an integer is valid for every numeric datatype, rounded to the
nearest floating-point number; a whole number for integers; and null is NaN where the datatype has
it. Nothing else is converted.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as kinds

from bundleserver.batch.kinds import is_string
from bundleserver.batch.texts import Problems, of_decimals
from bundleserver.batch.uses import Use
from bundleserver.errors import InvalidInput
from bundleserver.serving.codecs.tensor_form import string_or_bytes
from bundleserver.tensors import NUMPY_DTYPES, Array

Numbers = npt.NDArray[Any]


def plain_column(column: Any) -> Any:
    """Return one array of plain values, without chunks, dictionaries and extension types."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
        if isinstance(column, pa.ChunkedArray):  # older ones return one of no or one chunk
            column = column.chunk(0) if column.num_chunks else pa.array([], column.type)
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    if kinds.is_dictionary(column.type):
        column = column.dictionary_decode()
    return column


def flat_values(column: Any, use: Use, problems: Problems) -> Array:
    """Convert a column of plain values; adds to the problems.

    Raises:
        InvalidInput: it has a type that no datatype stands for.
    """
    kind = column.type
    if kinds.is_null(kind):
        return _nulls(len(column), use, problems)
    if is_string(kind):
        return _strings(column, use, problems)
    if kinds.is_timestamp(kind) or kinds.is_date(kind):
        return _strings(iso_dates(column), use, problems)
    if kinds.is_boolean(kind):
        return _booleans(column, use, problems)
    if kinds.is_decimal(kind):
        column = of_decimals(column, use, problems)
    if kinds.is_integer(column.type) or kinds.is_floating(column.type):
        return _numbers(column, use, problems)
    raise InvalidInput(f"column '{use.column}' is {kind}; expected numbers, booleans or strings")


def _numbers(column: Any, use: Use, problems: Problems) -> Array:
    target = None if use.datatype is None else NUMPY_DTYPES[use.datatype]
    nulls = np.asarray(column.is_null()) if column.null_count else None
    if nulls is None:
        values: Array = column.to_numpy(zero_copy_only=False)
    elif kinds.is_floating(column.type):
        values = column.to_numpy(zero_copy_only=False)  # null is NaN
    elif target is not None and target.kind in "iub":
        values = pc.fill_null(column, 0).to_numpy(zero_copy_only=False)
    else:
        filled: Array = pc.fill_null(column, 0).to_numpy(zero_copy_only=False)
        values = filled.astype(np.float64)
        values[nulls] = np.nan
    if target is None or use.is_flag:
        return values
    if nulls is not None and target.kind in "iub":
        if use.has_nulls:
            return _with_none(_narrowed(values, target, use, problems), nulls)
        _tell(nulls, "null", use, problems)
    return values if values.dtype == target else _narrowed(values, target, use, problems)


def _narrowed(values: Numbers, target: np.dtype[Any], use: Use, problems: Problems) -> Array:
    """Convert numbers as V1 does, and tell of those that would become others."""
    with np.errstate(all="ignore"):
        converted = values.astype(target)
    if target.kind == "f":
        is_odd = np.isinf(converted) & np.isfinite(values)
    else:
        limits = np.iinfo(target)
        is_odd = (values < limits.min) | (values > limits.max)
        if values.dtype.kind == "f":
            # The largest integers of 64 bits are no floating-point numbers.
            is_odd |= ~(values == np.floor(values)) | (values >= float(limits.max) + 1)
    if is_odd.any():
        for row in np.flatnonzero(is_odd).tolist():
            problems.setdefault(row, _said(use, f"the value {values[row].item()!r}"))
    return converted


def _booleans(column: Any, use: Use, problems: Problems) -> Array:
    if not column.null_count:
        values: Array = column.to_numpy(zero_copy_only=False)
        return values
    nulls = np.asarray(column.is_null())
    filled: Array = pc.fill_null(column, False).to_numpy(zero_copy_only=False)
    if use.datatype is None or use.has_nulls:
        return _with_none(filled, nulls)
    _tell(nulls, "null", use, problems)
    return filled


def _strings(column: Any, use: Use, problems: Problems) -> Array:
    values: Array = column.to_numpy(zero_copy_only=False).astype(object, copy=False)
    if not kinds.is_string(column.type) and not kinds.is_large_string(column.type):
        values = np.array([v if v is None else _text(v) for v in values] or [], dtype=object)
    if column.null_count and use.datatype == "BYTES" and not use.has_nulls:
        _tell(np.asarray(column.is_null()), "null", use, problems)
    return values


def _text(value: object) -> str | bytes:
    return string_or_bytes(value) if isinstance(value, bytes) else str(value)


def _nulls(rows: int, use: Use, problems: Problems) -> Array:
    datatype = use.datatype or use.text_datatype or "BYTES"
    if datatype.startswith("FP"):
        return np.full(rows, np.nan, NUMPY_DTYPES[datatype])
    if use.datatype is not None and not use.has_nulls:
        _tell(np.ones(rows, bool), "null", use, problems)
    return np.full(rows, None, dtype=object)


def iso_dates(column: Any) -> Any:
    """Write dates as V2 does, in ISO 8601; moments with a time zone as those of UTC."""
    zone = getattr(column.type, "tz", None)
    if zone is not None:
        column = pc.cast(column, pa.timestamp(column.type.unit))
    if kinds.is_date(column.type):
        return pc.cast(column.cast(pa.date32()), pa.string())
    text = np.asarray(column.to_numpy(zero_copy_only=False)).astype(str).astype(object)
    shown = [None if one == "NaT" else f"{one}+00:00" if zone else one for one in text]
    return pa.array(shown, pa.string())


def _with_none(values: Array, nulls: Array) -> Array:
    objects = values.astype(object)
    objects[nulls] = None
    return objects


def _tell(rows: Array, what: str, use: Use, problems: Problems) -> None:
    for row in np.flatnonzero(rows).tolist():
        problems.setdefault(row, _said(use, what))


def _said(use: Use, what: str) -> str:
    return f"column '{use.column}' has {what}; expected {use.datatype or 'FP64'}"
