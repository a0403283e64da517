"""Whether the rows of a table have the same answers alone and among others, to the bit."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bundleserver.frameworks.fast.comparing import same_bits
from bundleserver.tensors import Array

_PARTS = (1, 2, 5, 24)
"""The sizes of the parts that the random rows are split into."""


def same_in_parts(ask: Callable[[Array], Array], width: int) -> bool:
    """Call a model with random rows, together and in parts, and compare the results' bits."""
    rows = _draw_rows(sum(_PARTS), width)
    ends = np.cumsum(_PARTS)
    try:
        whole = ask(rows)
        parts = [ask(rows[end - size : end]) for size, end in zip(_PARTS, ends, strict=True)]
    except Exception:  # noqa: BLE001 - a model that rejects random rows is not batched
        return False
    return len(whole) == len(rows) and same_bits(whole, np.concatenate(parts))


def _draw_rows(count: int, width: int) -> Array:
    generator = np.random.default_rng(0)
    scales = generator.choice([0.01, 1.0, 3.0, 100.0], (count, width))
    return np.asarray(generator.normal(size=(count, width)) * scales)
