"""Rows that are JSON objects, collected into the columns of a table."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np

from bundleserver.errors import InvalidInput
from bundleserver.tensors import NamedTensor, TensorSpec, array_from_rows, describe
from bundleserver.tensors.columns import column_problems

_MOST_EXPANDED = 10_000_000
"""Values of the rows for which one object with arrays stands."""


def table_of_objects(
    rows: Sequence[object],
    taker: str,
    *,
    expand: bool,
    required: Collection[str] = (),
    whole: Collection[str] = (),
) -> dict[str, list[object]]:
    """Collect rows into columns.

    Args:
        rows: the objects.
        taker: the model, for messages.
        expand: whether an object may have arrays of several rows.
        required: the only keys that all rows must have alike, if it is not empty; keys that are in
            some of the rows only are left out.
        whole: keys whose arrays are values of one row.

    Raises:
        InvalidInput: a row is no object, or the rows differ in their keys.
    """
    keys: dict[str, None] = {}
    for index, row in enumerate(rows):
        if not isinstance(row, dict):
            raise InvalidInput(
                f"instances[{index}] is a {type(row).__name__}, instances[0] an object; {taker} "
                "expects rows of one kind"
            )
        if not index:
            keys = dict.fromkeys(row)
        if row.keys() != keys.keys():
            odd = row.keys() ^ keys.keys()
            odd = odd.intersection(required) if required else odd
            if odd:
                raise _different_keys(index, odd, taker)
            keys = {key: None for key in keys if key in row}

    def may_expand(key: object) -> bool:
        # A list in a column that is ignored has no rows.
        return key not in whole and (not required or key in required)

    table: dict[str, list[object]] = {str(key): [] for key in keys}
    for row in rows:
        values = [row[key] for key in keys]  # type: ignore[index]  # a dict, as checked above
        pairs = zip(keys, values, strict=True)
        several = [v for k, v in pairs if isinstance(v, list) and may_expand(k)]
        lists = several if expand else []
        if not lists:
            for column, value in zip(table.values(), values, strict=True):
                column.append(value)
            continue
        # As in a DataFrame, one value beside arrays is the value of each of their rows.
        sizes = {len(value) for value in lists}
        count = sizes.pop() if len(sizes) == 1 else 1
        if count * len(keys) > _MOST_EXPANDED:
            raise InvalidInput(
                f"an object has {count} rows of {len(keys)} columns; {taker} expects at most "
                f"{_MOST_EXPANDED} values"
            )
        for (key, column), value in zip(table.items(), values, strict=True):
            is_several = isinstance(value, list) and may_expand(key)
            column.extend(value if is_several else (value,) * count)
    if not table.keys().isdisjoint(required):
        # What is ignored need not be a column of values.
        table = {k: c for k, c in table.items() if k in required or not _has_list(c)}
    return table


def depth_of(value: object) -> int:
    """Return how deep a JSON value's arrays are nested."""
    depth = 0
    while isinstance(value, list):
        value, depth = value[0] if value else None, depth + 1
    return depth


def merged_columns(table: Mapping[str, list[object]], spec: TensorSpec, taker: str) -> NamedTensor:
    """Merge the columns of a table into the tensor of the only input.

    Raises:
        InvalidInput: a column is missing or unknown, or its values are not valid.
    """
    is_open = bool(spec.required_columns)
    required = spec.required_columns or spec.columns
    if problems := column_problems(table, spec.columns, required, strict=not is_open):
        said, meant = problems
        raise InvalidInput(f"instances: {said}; {taker} expects {describe(spec)}{meant}")
    columns = tuple(column for column in spec.columns if column in table)
    column_spec = TensorSpec(spec.name, spec.datatype)
    arrays = [
        array_from_rows(table[column], replace(column_spec, name=column), taker)
        for column in columns
    ]
    for column, array in zip(columns, arrays, strict=True):
        if array.ndim != 1 or len(array) != len(arrays[0]):
            raise InvalidInput(
                f"column '{column}' has values of shape {list(array.shape)}; {taker} expects one "
                "value per row in each column"
            )
    if len({array.dtype.kind == "O" for array in arrays}) > 1:
        arrays = [array.astype(object) for array in arrays]
    return NamedTensor(spec.name, np.stack(arrays, axis=1), columns)


def _has_list(column: Sequence[object]) -> bool:
    return any(isinstance(value, list) for value in column)


def _different_keys(index: int, odd: Collection[str], taker: str) -> InvalidInput:
    listed = ", ".join(f"'{key}'" for key in sorted(odd))
    return InvalidInput(
        f"instances[{index}] and instances[0] differ in keys: {listed}; {taker} expects rows with "
        "equal keys"
    )
