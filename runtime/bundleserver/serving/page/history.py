"""The last minutes of requests: what the metrics counted, looked at every few seconds.

Requests pay nothing for it: a thread of its own reads the counters, and only of what has changed
the histograms.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate
from typing import NamedTuple

from bundleserver.serving.metrics.requests import RequestMetrics
from bundleserver.serving.page.quantiles import Counts

LOG = logging.getLogger(__name__)

STEP_SECONDS = 5.0
STEPS = 120
"""Ten minutes."""
MOST_VERSIONS = 256
"""Versions of which a step keeps the counts: those with the most requests."""

_NOT_FAILED = ("ok", "cancelled", "invalid_input", "not_found")
_REFUSED = ("invalid_input", "not_found")


class Key(NamedTuple):
    """Whose requests: a model's version, an empty one if none was chosen, and the protocol."""

    model: str
    version: str
    protocol: str


Row = list[object]
"""A model, a version, a step's number, and the step's counts, as JSON."""


class History:
    """The counts of each version in each of the last steps.

    ``sample`` is called by one thread at a time; ``rows`` from any.
    """

    def __init__(
        self,
        metrics: RequestMetrics,
        clock: Callable[[], float] = time.time,
        most_versions: int = MOST_VERSIONS,
    ) -> None:
        self._metrics = metrics
        self._most_versions = most_versions
        self._clock = clock
        self._seen: dict[Key, Counts] = {}
        self._steps: deque[tuple[int, dict[tuple[str, str], Counts]]] = deque(maxlen=STEPS)

    def start(self) -> None:
        """Take a sample now and at every step's end, while the event loop runs."""
        loop = asyncio.get_running_loop()
        thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="page-history")

        def take() -> None:
            thread.submit(self._take)
            # At the same moments in all worker processes, so that their steps can be added.
            loop.call_later(STEP_SECONDS - time.time() % STEP_SECONDS, take)

        take()

    def sample(self) -> None:
        """Keep what came since the last sample as one step."""
        number = step_at(self._clock())
        came: dict[tuple[str, str], Counts] = {}
        for key, ended in self._read().items():
            before = self._seen.get(key, Counts())
            if ended == before[:3]:
                continue
            if ended[0] < before.requests:
                before = Counts()  # a series that was dropped begins again
            buckets = self._buckets(key) if key.version else before.buckets
            now = self._seen[key] = Counts(*ended, buckets)
            at = (key.model, key.version)
            came[at] = came.get(at, Counts()).plus(now.minus(before))
        busiest = sorted(came, key=lambda at: -came[at].requests)[: self._most_versions]
        kept = {at: came[at] for at in busiest}
        if self._steps and self._steps[-1][0] == number:
            # Two samples within a step, as at the start.
            for at, counts in self._steps.pop()[1].items():
                kept[at] = kept.get(at, Counts()).plus(counts)
        self._steps.append((number, kept))

    def rows(self, models: Collection[str]) -> list[Row]:
        """Return the steps of some models."""
        wanted = frozenset(models)
        return [
            [model, version, number, counts.requests, counts.failed, counts.refused, counts.buckets]
            for number, kept in list(self._steps)
            for (model, version), counts in kept.items()
            if model in wanted
        ]

    def _take(self) -> None:
        try:
            self.sample()
        except Exception:
            # Only the plots go without it.
            LOG.exception("the page cannot read the metrics of requests")

    def _read(self) -> dict[Key, tuple[float, float, float]]:
        """Read how the requests of every version have ended: all, failed and refused ones."""
        found: dict[Key, tuple[float, float, float]] = {}
        for (model, version, protocol, outcome), counter in self._metrics.outcomes.items():
            key, n = Key(model, version, protocol), float(counter.value)
            count, failed, refused = found.get(key, (0.0, 0.0, 0.0))
            failed += 0.0 if outcome in _NOT_FAILED else n
            refused += n if outcome in _REFUSED else 0.0
            found[key] = (count + n, failed, refused)
        return found

    def _buckets(self, key: Key) -> tuple[float, ...]:
        return tuple(map(float, accumulate(self._metrics.seconds_of(*key).counts)))


def step_at(seconds: float) -> int:
    """Return the number of the step that has ended at a time in seconds since the epoch."""
    # A timer may be early.
    return int((seconds + 0.1) // STEP_SECONDS)


def steps_of(rows: Iterable[Row]) -> dict[tuple[str, str], dict[int, Counts]]:
    """Add rows of several processes up: the steps of each model's version."""
    found: dict[tuple[str, str], dict[int, Counts]] = {}
    for model, version, number, requests, failed, refused, buckets in rows:
        counts = Counts(requests, failed, refused, tuple(buckets))  # type: ignore[arg-type]
        steps = found.setdefault((str(model), str(version)), {})
        step = int(str(number))
        steps[step] = steps.get(step, Counts()).plus(counts)
    return found
