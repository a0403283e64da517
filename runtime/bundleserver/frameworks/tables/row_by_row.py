"""Whether the rows of a table have the same answers alone and among others, to the bit."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bundleserver.frameworks.fast.comparing import same_bits
from bundleserver.tensors import Array

_PARTS = (1, 2, 5, 24)
"""The sizes of the parts that rows are split into."""

TRIED = sum(_PARTS)
"""So many rows are asked."""


def same_in_parts(ask: Callable[[Array], Array], rows: Array) -> bool:
    """Call a model with :data:`TRIED` rows, together and in parts; compare the results' bits."""
    ends = np.cumsum(_PARTS)
    try:
        whole = ask(rows)
        parts = [ask(rows[end - size : end]) for size, end in zip(_PARTS, ends, strict=True)]
    except Exception:  # noqa: BLE001 - a model that rejects these rows is not batched
        return False
    return len(whole) == len(rows) and same_bits(whole, np.concatenate(parts))


def random_rows(width: int) -> Array:
    """Return rows ``[TRIED, width]`` of small and large numbers."""
    generator = np.random.default_rng(0)
    scales = generator.choice([0.01, 1.0, 3.0, 100.0], (TRIED, width))
    return np.asarray(generator.normal(size=(TRIED, width)) * scales)
