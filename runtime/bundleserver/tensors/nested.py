"""Nested JSON values as one array; no string makes room for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

_DEEPEST = 64
"""Deeper than numpy's arrays."""


def array_of(rows: Sequence[object]) -> npt.NDArray[Any]:
    """Convert values; strings and mixed values stay objects, numbers with nulls become floats.

    Raises:
        ValueError: they are ragged, or nested too deep.
        OverflowError: a number is too large.
    """
    # numpy would give each value the room of the longest string.
    has_strings = isinstance(rows, (list, tuple)) and _has_strings(rows)
    values = np.array(rows, dtype=object if has_strings else None)
    if values.dtype.kind not in "OU":
        return values
    values = np.array(rows, dtype=object)
    kinds = {type(value) for value in values.flat}
    if has_strings and list in kinds:
        raise ValueError("rows of different lengths")
    if kinds <= {int, float, type(None)} and kinds != {int}:
        return values.astype(np.float64)
    return values


def _has_strings(values: Sequence[object], depth: int = 0) -> bool:
    kinds = set(map(type, values))
    if str in kinds or list not in kinds or depth == _DEEPEST:
        return str in kinds
    return any(_has_strings(value, depth + 1) for value in values if isinstance(value, list))
