"""Measurements during which the host took the processors away, made again.

A virtual machine shares its processors. What the host takes shows as stolen time, and a neighbour
on the other half of a core as loops that take longer than they can; that lasts for minutes and hits
all servers alike, so it is only told.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import psutil

T = TypeVar("T")

MOST_STOLEN = 0.05
"""The share of the processors that the host may take from a measurement."""

ATTEMPTS = 4
PAUSE_SECONDS = 4.0
"""What comes before another attempt: neighbours are busy for seconds at least."""

_SPINS = 8
_LOOPS = 100_000


@dataclass(frozen=True)
class Quiet(Generic[T]):
    """What was measured, and what others did meanwhile.

    Attributes:
        value: what was measured.
        stolen: the share of the processors that the host took.
        spin_seconds: what a loop took just before or after it, the longer of the two.
    """

    value: T
    stolen: float
    spin_seconds: float


@dataclass
class Patience:
    """Measures again what was not quiet, and remembers how quiet those were that count."""

    attempts: int = ATTEMPTS
    repeated: int = 0
    counted: list[Quiet[object]] = field(default_factory=list)

    def measure(self, call: Callable[[], T]) -> T:
        """Measure until the host took little, or as often as may be; the quietest counts."""
        quietest = _measure(call)
        for _ in range(self.attempts - 1):
            if quietest.stolen <= MOST_STOLEN:
                break
            self.repeated += 1
            time.sleep(PAUSE_SECONDS)
            quietest = min(quietest, _measure(call), key=lambda measured: measured.stolen)
        self.counted.append(Quiet(None, quietest.stolen, quietest.spin_seconds))
        return quietest.value

    def summary(self) -> str:
        """Say what a reader has to know of the neighbours."""
        loud = sum(measured.stolen > MOST_STOLEN for measured in self.counted)
        spins = [measured.spin_seconds for measured in self.counted]
        median, least = statistics.median(spins), min(spins)
        return (
            f"{self.repeated} measurements in which the host took over {MOST_STOLEN:.0%} of the "
            f"processors were made again, {loud} of {len(self.counted)} stayed so; a loop took "
            f"{median / least:.2f} times its best (up to {max(spins) / least:.2f})"
        )


def _measure(call: Callable[[], T]) -> Quiet[T]:
    first, before = _spin(), psutil.cpu_times()
    value = call()
    after, last = psutil.cpu_times(), _spin()
    # Guests' time is part of the user's; the first eight are all there is.
    passed = sum(after[:8]) - sum(before[:8])
    stolen = getattr(after, "steal", 0.0) - getattr(before, "steal", 0.0)
    return Quiet(value, stolen / passed if passed else 0.0, max(first, last))


def _spin() -> float:
    """Return the least seconds that a loop took of several times, a few milliseconds each."""
    best = float("inf")
    for _ in range(_SPINS):
        started = time.perf_counter()
        for _ in range(_LOOPS):
            pass
        best = min(best, time.perf_counter() - started)
    return best
