"""The categories of columns, which XGBoost records from version 3.1 on."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np

from bundleserver.frameworks.boosting.soundness import demand
from bundleserver.frameworks.xgboost.checked.values import (
    Array,
    is_ordered,
    member,
    objects,
    whole_numbers,
)

_INTEGERS: Mapping[int, type[np.integer[Any]]] = {
    9: np.int8,
    10: np.uint8,
    11: np.int16,
    13: np.int32,
    15: np.int64,
}
"""XGBoost's numbers of the types that categories may have; it writes no others that it can read."""


def categories_in(model: Mapping[str, object], columns: int) -> Mapping[int, tuple[object, ...]]:
    """Return the categories of columns, by their place; empty: none are recorded.

    Those of a column with letters beyond ASCII are an empty tuple: XGBoost 3.2 counts letters where
    it cuts bytes, so that what it records of them is not what they were.

    Raises:
        NotSound: they do not agree with themselves or with the number of columns.
    """
    if "cats" not in model:
        return {}
    cats = member(model, "cats", dict)
    recorded = member(cats, "enc", list)
    segments, order = (whole_numbers(cats.get(k), k) for k in ("feature_segments", "sorted_idx"))
    if not recorded:
        demand(holds=not len(segments) + len(order), what="'cats' has an order of no categories")
        return {}
    demand(holds=len(recorded) == columns, what=f"'cats' is not for the model's {columns} columns")
    found = [_values(column) for column in objects(recorded, "enc")]
    sizes = np.array([size for size, _ in found])
    demand(
        holds=len(segments) == columns + 1
        and is_ordered(segments, len(order))
        and np.array_equal(np.diff(segments), sizes),
        what="'feature_segments' are not the numbers of categories",
    )
    for start, size in zip(segments[:-1], sizes, strict=True):
        demand(
            holds=np.array_equal(np.sort(order[start : start + size]), np.arange(size)),
            what="'sorted_idx' is not an order of the categories",
        )
    return {place: values for place, (size, values) in enumerate(found) if size}


def _values(column: Mapping[str, object]) -> tuple[int, tuple[object, ...]]:
    """Return how many categories a column has, and those that can be read."""
    values = whole_numbers(column.get("values"), "values")
    if "offsets" not in column:
        kind = member(column, "type", int)
        demand(holds=kind in _INTEGERS, what="categories have a type that XGBoost does not write")
        limits = np.iinfo(_INTEGERS[kind])
        is_within = ((values >= limits.min) & (values <= limits.max)).all()
        demand(holds=is_within, what="a category does not fit the type of its column")
        size, found = len(values), tuple(values.tolist())
    else:
        offsets = whole_numbers(column["offsets"], "offsets")
        size, found = max(0, len(offsets) - 1), _strings(values, offsets)
    demand(holds=len({*found}) == len(found), what="a column has a category twice")
    return size, found


def _strings(values: Array, offsets: Array) -> tuple[object, ...]:
    if not len(offsets):
        demand(holds=not len(values), what="the categories of a column have no 'offsets'")
        return ()
    demand(
        holds=is_ordered(offsets, len(values)) and ((values >= -128) & (values < 256)).all(),
        what="'offsets' do not cut the categories of a column",
    )
    text = (values & 255).astype(np.uint8).tobytes()
    if not text.isascii():
        return ()
    return tuple(text[a:b].decode() for a, b in pairwise(offsets.tolist()))
