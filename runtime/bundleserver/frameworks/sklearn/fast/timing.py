"""Which of several ways to the same answer is the fastest, by the number of rows."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Way = Callable[[Any], object]

BATCH_SIZES = (1, 8, 32, 128, 512, 2048)
"""Where the ways are timed."""

MEASURING_SECONDS = 0.15
"""After so long no larger batch is timed."""

DECISIVE = 4.0
"""A way that took so many times as long as the best one is not timed again: it takes seconds of a
start, and no second try would make it the fastest."""

MARGIN = 0.8
"""A way replaces another where it takes less than this part of its time."""

_TIMES = 3

Choice = tuple[int | None, str | None]
"""Up to how many rows (None: any number) which way is used (None: the model's own)."""


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
        ways: the others by name; of two that are alike, the first is kept.
        tables: makes a table of so many rows.
        beyond: the way that keeps its lead with larger batches than were timed.
        clock: tells the time in seconds.
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
    way: Way, table: object, clock: Callable[[], float], hopeless_seconds: float = math.inf
) -> float:
    """Return the shortest time of a few calls; of one where that took so long already."""
    seconds: list[float] = []
    while len(seconds) < _TIMES and min(seconds, default=0.0) <= hopeless_seconds:
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
    """Leave out a choice that the next one continues."""
    last = len(choices) - 1
    return tuple(
        choice for i, choice in enumerate(choices) if i == last or choices[i + 1][1] != choice[1]
    )
