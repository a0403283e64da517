"""What the page shows of the last minutes of requests: rates, latencies, failures, and plots."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from bundleserver.serving.page.history import STEP_SECONDS, STEPS, step_at
from bundleserver.serving.page.quantiles import Counts, Steps, quantile_seconds, total

WINDOW_SECONDS = STEP_SECONDS * STEPS
_SPARKS = 60
"""Points of a small plot: each two steps."""


@dataclass(frozen=True)
class Activity:
    """The requests of a model or version in the last minutes.

    ``now`` is the number of the current step, the last one of the window.
    """

    steps: Steps = field(default_factory=dict)
    now: int = 0

    @cached_property
    def sum(self) -> Counts:
        """All counts of the window."""
        return total(self.steps.values())

    @property
    def per_second(self) -> float:
        """Requests per second in the last minute."""
        since = self.now - round(60 / STEP_SECONDS)
        return sum(c.requests for at, c in self.steps.items() if at > since) / 60

    @property
    def p50(self) -> float | None:
        """The median latency of the window in seconds."""
        return quantile_seconds(0.5, self.sum.buckets)

    @property
    def p99(self) -> float | None:
        """The latency that 99 of 100 requests did not exceed, in seconds."""
        return quantile_seconds(0.99, self.sum.buckets)

    @property
    def spark(self) -> str:
        """The requests of the window as the points of an SVG's polyline, 120 wide and 20 high."""
        first, wide = self.now - STEPS + 1, STEPS // _SPARKS
        bars = [0.0] * _SPARKS
        for at, counts in self.steps.items():
            if 0 <= at - first < STEPS:
                bars[(at - first) // wide] += counts.requests
        highest = max(bars) or 1.0
        return " ".join(
            f"{at * 120 / (_SPARKS - 1):.1f},{19 - 18 * bar / highest:.1f}"
            for at, bar in enumerate(bars)
        )

    def plots(self) -> dict[str, list[float | None]]:
        """Return what the plots draw: times in seconds since the epoch, and a value for each."""
        window = range(self.now - STEPS + 1, self.now + 1)
        counts = [self.steps.get(at, Counts()) for at in window]
        return {
            "times": [at * STEP_SECONDS for at in window],
            "requests": [one.requests / STEP_SECONDS for one in counts],
            "failed": [one.failed / STEP_SECONDS for one in counts],
            "refused": [one.refused / STEP_SECONDS for one in counts],
            "p50": [quantile_seconds(0.5, one.buckets) for one in counts],
            "p99": [quantile_seconds(0.99, one.buckets) for one in counts],
        }


@dataclass(frozen=True)
class Activities:
    """The last minutes of several models' versions."""

    found: Mapping[tuple[str, str], Steps]
    clock: Callable[[], float] = time.time

    def of_version(self, model: str, version: str) -> Activity:
        """Return the requests that one version got."""
        return Activity(self.found.get((model, version), {}), self._now)

    def of_model(self, model: str) -> Activity:
        """Return the requests of all versions, and those for which none was chosen."""
        return Activity(_added(s for (own, _), s in self.found.items() if own == model), self._now)

    @property
    def _now(self) -> int:
        return step_at(self.clock())


def _added(several: Iterable[Steps]) -> dict[int, Counts]:
    found: dict[int, Counts] = {}
    for steps in several:
        for at, counts in steps.items():
            found[at] = found.get(at, Counts()).plus(counts)
    return found
