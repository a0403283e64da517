"""How requests ended and how long they took: plain numbers, which Prometheus reads when it asks.

prometheus-client's own metrics take a lock and several calls for each number, and each request
changes five: more than a small model costs.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Iterator
from itertools import accumulate
from types import TracebackType

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from bundleserver.errors import (
    InvalidInput,
    ModelNotFound,
    NotReady,
    QueueFull,
    RequestTooLarge,
    VersionNotFound,
)

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""The upper bounds in seconds of the histograms of time."""

_BOUNDS = (*map(str, BUCKETS), "+Inf")

_OUTCOMES: dict[type[Exception], str] = {
    InvalidInput: "invalid_input",
    RequestTooLarge: "invalid_input",
    ModelNotFound: "not_found",
    VersionNotFound: "not_found",
    NotReady: "not_ready",
    QueueFull: "queue_full",
}


def outcome_of(error: BaseException) -> str:
    """Name what an error means for a request, as the label ``outcome`` spells it."""
    if not isinstance(error, Exception):
        return "cancelled"
    return _OUTCOMES.get(type(error), "error")


class Measured:
    """One request under way; ``version`` is set as soon as it is known which one answers."""

    __slots__ = ("version",)

    def __init__(self) -> None:
        self.version = ""


class Tally:
    """The requests to one version over one protocol that have ended: counts, and seconds."""

    __slots__ = ("by_bucket", "by_outcome", "seconds")

    def __init__(self) -> None:
        self.by_outcome: dict[str, int] = {}
        self.by_bucket = [0] * len(_BOUNDS)
        self.seconds = 0.0


class Tallies:
    """Every tally, and how many requests are under way.

    Requests are counted on the event loop; any thread may collect.
    """

    def __init__(self) -> None:
        self.ended: dict[tuple[str, str, str], Tally] = {}
        self.in_flight: dict[tuple[str, str], int] = {}

    def count(self, model: str, version: str, protocol: str, outcome: str) -> Tally:
        """Count a request that has ended, and return its tally."""
        key = model, version, protocol
        tally = self.ended.get(key) or self.ended.setdefault(key, Tally())
        tally.by_outcome[outcome] = tally.by_outcome.get(outcome, 0) + 1
        return tally


class Timed(Measured):
    """A request that is counted and timed from the beginning of a block to its end."""

    __slots__ = ("_model", "_protocol", "_started", "_tallies")

    def __init__(self, tallies: Tallies, model: str, protocol: str) -> None:
        self.version = ""
        self._tallies = tallies
        self._model = model
        self._protocol = protocol

    def __enter__(self) -> Measured:
        """Begin."""
        under_way, key = self._tallies.in_flight, (self._model, self._protocol)
        under_way[key] = under_way.get(key, 0) + 1
        self._started = time.perf_counter()
        return self

    def __exit__(
        self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None
    ) -> None:
        """Count how it ended."""
        seconds = time.perf_counter() - self._started
        outcome = "ok" if error is None else outcome_of(error)
        tally = self._tallies.count(self._model, self.version, self._protocol, outcome)
        tally.by_bucket[bisect_left(BUCKETS, seconds)] += 1
        tally.seconds += seconds
        self._tallies.in_flight[self._model, self._protocol] -= 1


class RequestsCollector(Collector):
    """Tells how many requests ended how, and how many are under way."""

    def __init__(self, tallies: Tallies) -> None:
        self._tallies = tallies

    def collect(self) -> Iterator[Metric]:
        """Yield both counts as they stand."""
        ended = CounterMetricFamily(
            "bundleserver_requests",
            "Requests by the way they ended.",
            labels=("model", "version", "protocol", "outcome"),
        )
        for labels, tally in list(self._tallies.ended.items()):
            for outcome, count in list(tally.by_outcome.items()):
                ended.add_metric((*labels, outcome), count)
        yield ended
        in_flight = GaugeMetricFamily(
            "bundleserver_requests_in_flight",
            "Requests that wait or run.",
            labels=("model", "protocol"),
        )
        for key, count in list(self._tallies.in_flight.items()):
            in_flight.add_metric(key, count)
        yield in_flight


class SecondsCollector(Collector):
    """Tells how long requests took."""

    def __init__(self, tallies: Tallies) -> None:
        self._tallies = tallies

    def collect(self) -> Iterator[Metric]:
        """Yield the histogram as it stands; what was refused before it was timed is not in it."""
        seconds = HistogramMetricFamily(
            "bundleserver_request_seconds",
            "Seconds from decoding to the answer, waiting for a worker included.",
            labels=("model", "version", "protocol"),
        )
        for labels, tally in list(self._tallies.ended.items()):
            counts = list(accumulate(tally.by_bucket))
            if counts[-1]:
                buckets = list(zip(_BOUNDS, map(float, counts), strict=True))
                seconds.add_metric(labels, buckets, tally.seconds)
        yield seconds
