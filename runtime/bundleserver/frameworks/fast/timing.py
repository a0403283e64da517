"""The fastest of several implementations ("ways"), by the number of rows."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Way = Callable[[Any], object]

BATCH_SIZES = (1, 8, 32, 128, 512, 2048)
"""The sizes at which the ways are timed."""

MEASURING_SECONDS = 0.15
"""The time after which no larger batch is timed."""

DECISIVE = 4.0
"""A way that is so many times slower than the best one is timed only once, to load faster."""

MARGIN = 0.8
"""A way replaces another if it needs less than this part of its time."""

_TIMES = 3

Choice = tuple[int | None, str | None]
"""The maximum rows (None: any number), and the way for them (None: the model's own)."""


def choose_ways(
    native: Way,
    ways: Mapping[str, Way],
    tables: Callable[[int], Any],
    beyond: str | None,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[Choice, ...]:
    """Time the ways at growing sizes and choose one for each.

    Args:
        native: the model's own way.
        ways: the others by name; of two that are equally fast, the first is used.
        tables: returns a table of so many rows.
        beyond: the way that stays the fastest for larger batches than were timed.
        clock: returns the time in seconds.
    """
    if not ways:
        return ((None, None),)
    choices: list[Choice] = []
    started, ahead = clock(), True
    for size in BATCH_SIZES:
        table = tables(size)
        seconds = {name: best_of(way, table, clock) for name, way in ways.items()}
        winner = _winner(seconds, best_of(native, table, clock, DECISIVE * min(seconds.values())))
        choices.append((size, winner))
        ahead = winner is not None
        if not ahead or clock() - started > MEASURING_SECONDS:
            break
    choices.append((None, beyond if ahead and beyond in ways else None))
    return _joined(choices)


def best_of(
    way: Way, table: object, clock: Callable[[], float], give_up_seconds: float = math.inf
) -> float:
    """Return the shortest time of a few calls, or of the first if it exceeds the limit."""
    seconds: list[float] = []
    while len(seconds) < _TIMES and min(seconds, default=0.0) <= give_up_seconds:
        started = clock()
        way(table)
        seconds.append(clock() - started)
    return min(seconds)


def _winner(seconds: Mapping[str, float], native: float) -> str | None:
    best, *others = seconds
    for name in others:
        if seconds[name] < MARGIN * seconds[best]:
            best = name
    return best if seconds[best] < MARGIN * native else None


def _joined(choices: Sequence[Choice]) -> tuple[Choice, ...]:
    """Merge adjacent choices of the same way."""
    last = len(choices) - 1
    return tuple(
        choice for i, choice in enumerate(choices) if i == last or choices[i + 1][1] != choice[1]
    )
