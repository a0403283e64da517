"""Columns of lists as arrays: a row's value is a tensor of its own, such as a sequence."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from bundleserver.batch.kinds import is_list
from bundleserver.batch.plain_values import flat_values, plain_column
from bundleserver.batch.texts import Problems
from bundleserver.batch.uses import Use
from bundleserver.tensors import Array


def nested_values(column: Any, use: Use) -> tuple[Array, Problems]:
    """Convert lists to ``[n, …]``; see ``values_of``.

    Rows are told of that are null, whose lists differ in length within the row or from the model's
    shape, or that have a value that is not valid.
    """
    nulls = np.asarray(column.is_null())
    why = f"column '{use.column}' has null; expected a list"
    problems: Problems = dict.fromkeys(np.flatnonzero(nulls).tolist(), why)
    places = np.flatnonzero(~nulls)
    if not len(places):
        return np.empty(len(column), object), problems
    present = column.filter(~nulls) if len(problems) else column
    sizes, leaves = _flattened(present)
    if sizes is None or not _fits(sizes, use):
        return _one_by_one(column, use, problems)
    found: Problems = {}
    values = flat_values(leaves, replace(use, has_nulls=False), found)
    per_row = int(np.prod(sizes, dtype=np.int64))
    for leaf, why in found.items():
        problems.setdefault(int(places[leaf // per_row]), why)
    shaped = values.reshape(len(places), *sizes)
    if len(places) == len(column):
        return shaped, problems
    whole = np.zeros((len(column), *sizes), shaped.dtype)
    whole[places] = shaped
    return whole, problems


def _flattened(column: Any) -> tuple[tuple[int, ...] | None, Any]:
    """Return the sizes that all rows have, None if they differ, and the values in order."""
    sizes: list[int] = []
    while is_list(column.type):
        if column.null_count:
            return None, column
        lengths = np.asarray(column.value_lengths())
        size = int(lengths[0]) if len(lengths) else 0
        if (lengths != size).any():
            return None, column
        sizes.append(size)
        column = plain_column(column.flatten())
    return tuple(sizes), column


def _fits(sizes: tuple[int, ...], use: Use) -> bool:
    if use.shape is None or len(sizes) != len(use.shape):
        return use.shape is None
    return all(known in (-1, size) for size, known in zip(sizes, use.shape, strict=True))


def _one_by_one(column: Any, use: Use, problems: Problems) -> tuple[Array, Problems]:
    """Convert rows of different shapes; the slow way, for what is rare."""
    rows: list[Array | None] = []
    for row in range(len(column)):
        values = None
        if row not in problems:
            sizes, leaves = _flattened(column.slice(row, 1))
            found: Problems = {}
            if sizes is None:
                problems[row] = f"column '{use.column}' has lists of different lengths"
            elif not _fits(sizes, use):
                wanted = list(use.shape or ())
                problems[row] = (
                    f"column '{use.column}' has a value of shape {list(sizes)}; expected {wanted}"
                )
            else:
                values = flat_values(leaves, replace(use, has_nulls=False), found).reshape(sizes)
                if found:
                    problems[row] = next(iter(found.values()))
        rows.append(values)
    good = [values for values in rows if values is not None]
    if good and len({(v.shape, v.dtype) for v in good}) == 1:
        filler = np.zeros_like(good[0])
        return np.stack([filler if values is None else values for values in rows]), problems
    objects = np.empty(len(rows), object)
    objects[:] = rows
    return objects, problems
