"""The values of one column, as the fitted estimator knows them from its training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date
from types import MappingProxyType
from typing import Any

import numpy as np

from bundleserver.errors import InvalidInput
from bundleserver.frameworks.tables.columns import Column, is_gap
from bundleserver.tensors import Array

_NUMBERS = (int, float, np.number)


def column_values(values: Array, column: Column, name: str, taker: str) -> Any:
    """Convert a request's values ``[n]`` of a column to an array, or to pandas' categories.

    A gap (None, NaN) becomes what it was in training. Of a column whose kind is unknown numbers
    stay numbers, and whatever else is there makes it a column of objects. A column that is not used
    is left empty.

    Raises:
        InvalidInput: a value is not of the column's kind.
    """
    if not column.is_used:
        return np.full(len(values), np.nan)
    try:
        converted = _BY_KIND[column.kind or ""](values, column)
    except _OddValue as error:
        raise InvalidInput(
            f"column '{name}' has {_shown(error.value)}; {taker} expects "
            f"{_EXPECTED.get(column.kind or '', column.kind)}"
        ) from None
    return _categorical(converted, column) if column.is_category else converted


def without_gaps_as_none(values: Array) -> Array:
    """Return an array with NaN for None."""
    if values.dtype.kind != "O" or not any(value is None for value in values.flat):
        return values
    return _objects([np.nan if value is None else value for value in values.flat], values.shape)


def numbers_of(values: Array) -> Array | None:
    """Convert an array of objects to numbers, booleans and gaps too; None for anything else."""
    try:
        return _numbers(values.reshape(-1), Column("numbers")).reshape(values.shape)
    except _OddValue:
        return None


class _OddValue(Exception):
    def __init__(self, value: object) -> None:
        self.value = value


def _numbers(values: Array, column: Column) -> Array:
    if values.dtype.kind not in "biuf":
        listed = values.tolist() if values.dtype.kind == "O" else list(values)
        for value in listed:
            if not (is_gap(value) or isinstance(value, (*_NUMBERS, np.bool_))):
                raise _OddValue(value)
        values = _array_of_numbers(listed)
    return values.astype(object) if column.is_object else values


def _array_of_numbers(listed: Sequence[object]) -> Array:
    if listed and set(map(type, listed)) == {int}:
        try:
            return np.array(listed, dtype=np.int64)
        except OverflowError:
            pass
    return np.array([np.nan if is_gap(value) else value for value in listed], dtype=np.float64)


def _strings(values: Array, column: Column) -> Array:
    strings = []
    for value in values.astype(object, copy=False).tolist():
        if is_gap(value):
            strings.append(column.gap)
        elif isinstance(value, str | bytes):
            strings.append(value)
        else:
            raise _OddValue(value)
    return _objects(strings)


def _categories(values: Array, column: Column) -> Array:
    """Return the texts of strings and integers; numbers of a tensor may be integers as well.

    Booleans are the integers 1 and 0, as CatBoost has them in training.
    """
    categories: list[object] = []
    for value in values.astype(object, copy=False).tolist():
        if isinstance(value, str | bytes | bool | np.bool_ | int | np.integer):
            categories.append(value if isinstance(value, str | bytes) else str(int(value)))
        elif isinstance(value, float | np.floating) and float(value).is_integer():
            categories.append(str(int(value)))
        else:
            raise _OddValue(value)
    return _objects(categories)


def _texts(values: Array, column: Column) -> Array:
    for value in values.astype(object, copy=False).tolist():
        if not isinstance(value, str | bytes):
            raise _OddValue(value)
    return values.astype(object, copy=False)


def _booleans(values: Array, column: Column) -> Array:
    booleans = []
    for value in values.astype(object, copy=False).tolist():
        if is_gap(value):
            booleans.append(column.gap)
        elif isinstance(value, (*_NUMBERS, bool, np.bool_)) and value in (0, 1):
            booleans.append(bool(value))
        else:
            raise _OddValue(value)
    if column.is_object or any(map(is_gap, booleans)):
        return _objects(booleans)
    return np.array(booleans, dtype=bool)


def _dates(values: Array, column: Column) -> Array:
    if values.dtype.kind == "M":
        return values
    dates = []
    for value in values.astype(object, copy=False).tolist():
        try:
            dates.append(np.datetime64("NaT" if is_gap(value) else value, "ns"))
        except (TypeError, ValueError):
            raise _OddValue(value) from None
    return np.array(dates, dtype="M8[ns]")


def _unknown(values: Array, column: Column) -> Array:
    if values.dtype.kind != "O":
        return values.astype(object) if values.dtype.kind in "US" else values
    kinds = {type(value) for value in values.tolist()}
    if kinds == {bool}:
        return values.astype(bool)
    if kinds <= {int, float, type(None)}:
        return _array_of_numbers(values.tolist())
    objects = _objects([column.gap if value is None else value for value in values])
    return _inferred(objects) if any(issubclass(kind, date) for kind in kinds) else objects


def _inferred(values: Array) -> Any:
    """Make dates of date objects, which come from callers in this process only."""
    import pandas as pd

    return pd.Series(values).infer_objects()


_BY_KIND: Mapping[str, Callable[[Array, Column], Array]] = MappingProxyType(
    {
        "numbers": _numbers,
        "places": _numbers,
        "strings": _strings,
        "booleans": _booleans,
        "dates": _dates,
        "categories": _categories,
        "texts": _texts,
        "": _unknown,
    }
)

_EXPECTED = {
    "categories": "strings or integers, without gaps",
    "places": "the places of the column's categories in training (0, 1, …), as numbers",
    "texts": "strings, without gaps",
}


def _categorical(values: Array, column: Column) -> Any:
    """Make a column of categories; what a library does with unknown ones is left to it."""
    import pandas as pd

    if column.kind == "numbers" and values.dtype.kind == "b":
        values = values.astype(np.int64)
    listed = [None if is_gap(value) else value for value in values.tolist()]
    came = dict.fromkeys(value for value in listed if value is not None)
    known = set(column.categories)
    more = [value for value in came if value not in known]
    return pd.Categorical(listed, categories=[*column.categories, *more])


def _objects(values: Sequence[object], shape: tuple[int, ...] | None = None) -> Array:
    array: Array = np.fromiter(values, dtype=object, count=len(values))
    return array if shape is None else array.reshape(shape)


def _shown(value: object) -> str:
    if is_gap(value):
        return "null"
    if isinstance(value, str):
        return f"the string '{value if len(value) <= 40 else value[:40] + '…'}'"
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    if isinstance(value, _NUMBERS):
        return f"the number {value}"
    return f"a value of the type {type(value).__name__}"
