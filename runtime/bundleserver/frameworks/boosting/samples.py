"""Samples: tables of different rows that a booster takes."""

from __future__ import annotations

from itertools import cycle, islice

import numpy as np

from bundleserver.frameworks.boosting.table import NumberTable
from bundleserver.frameworks.tables.columns import MOST_MADE_UP
from bundleserver.tensors import NamedTensor


def samples_of(table: NumberTable, rows: int) -> tuple[NamedTensor, ...]:
    """Return tables of so many rows, the most plausible first; none if rows would be too wide."""
    if table.width > MOST_MADE_UP:
        return ()
    numbers = np.random.default_rng(0).normal(size=(rows, table.width))
    if not table.categories:
        drawn = (numbers, np.abs(numbers).round())
        return tuple(NamedTensor("input-0", values, table.columns) for values in drawn)
    mixed = numbers.astype(object)
    for place, categories in table.categories.items():
        mixed[:, place] = [*islice(cycle(categories), rows)]
    return (NamedTensor("input-0", mixed, table.columns),)
