"""Which of several ways to the same answer is the fastest, by the number of rows."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Way = Callable[[Any], object]

BATCH_SIZES = (1, 8, 32, 128, 512, 2048)
"""Where the ways are timed."""

MEASURING_SECONDS = 0.15
"""After so long no larger batch is timed."""

MARGIN = 0.8
"""A way replaces another where it takes less than this part of its time."""

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
        winner = _winner(seconds, best_of(native, table, clock))
        choices.append((size, winner))
        ahead = winner is not None
        if not ahead or clock() - started > MEASURING_SECONDS:
            break
    choices.append((None, beyond if ahead and beyond in ways else None))
    return _joined(choices)


def best_of(way: Way, table: object, clock: Callable[[], float], times: int = 3) -> float:
    """Return the shortest time of a few calls."""
    seconds = []
    for _ in range(times):
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
