"""What Prometheus sees: requests as they are answered, and the manager's state when it is asked."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from functools import lru_cache, partial
from typing import TYPE_CHECKING

from prometheus_client import REGISTRY, CollectorRegistry, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from bundleserver.errors import ModelNotFound
from bundleserver.serving.metrics.tallies import (
    BUCKETS,
    RequestsCollector,
    SecondsCollector,
    Tallies,
    Timed,
    outcome_of,
)
from bundleserver.versions.lifecycle import State

if TYPE_CHECKING:
    from bundleserver.manager import Manager, ModelStatus, VersionStatus

_FAILED = State.FAILED.value

_POWERS = tuple(2.0**power for power in range(13))
_KEPT = 1024
"""So many metrics are found at once; more labels than that are searched for each time."""


class RequestMetrics:
    """Counts and times requests per model, version and protocol.

    Attributes:
        measure: counts and times the request that a ``with`` block answers, by model and protocol.
        seconds: the histogram of how long requests take.
    """

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self._tallies = Tallies()
        self.measure = partial(Timed, self._tallies)
        self.seconds = SecondsCollector(self._tallies)
        registry.register(self.seconds)
        registry.register(RequestsCollector(self._tallies))
        self._queue = Histogram(
            "bundleserver_queue_seconds",
            "Seconds until a thread took a request up; what runs on the event loop never waits.",
            ("model",),
            buckets=BUCKETS,
            registry=registry,
        )
        self._batch_requests = Histogram(
            "bundleserver_batch_requests",
            "Requests that one call answered, for models whose waiting requests gather.",
            ("model", "version"),
            buckets=_POWERS[:8],
            registry=registry,
        )
        self._batch_rows = Histogram(
            "bundleserver_batch_rows",
            "Rows that one call answered, for models whose waiting requests gather.",
            ("model", "version"),
            buckets=_POWERS,
            registry=registry,
        )
        # Finding a metric by its labels costs more than counting.
        self._queue_of = lru_cache(_KEPT)(self._queue.labels)
        self._batch_requests_of = lru_cache(_KEPT)(self._batch_requests.labels)
        self._batch_rows_of = lru_cache(_KEPT)(self._batch_rows.labels)

    def refused(self, model: str, protocol: str, error: Exception) -> None:
        """Count a request to a known model that was refused before a version was chosen."""
        if not isinstance(error, ModelNotFound):
            self._tallies.count(model, "", protocol, outcome_of(error))

    def waited(self, model: str, seconds: float) -> None:
        """Time how long a request waited until a thread took it up."""
        self._queue_of(model).observe(seconds)

    def called(self, model: str, version: str, requests: int, rows: int) -> None:
        """Count how many requests, and how many rows of them, one call answered."""
        self._batch_requests_of(model, version).observe(requests)
        self._batch_rows_of(model, version).observe(rows)


class ManagerCollector(Collector):
    """Reads every version's state from the manager each time Prometheus asks, so none is stale."""

    def __init__(self, manager: Manager) -> None:
        self._manager = manager

    def collect(self) -> Iterable[Metric]:
        """Yield the state, load time and origin of every known version."""
        statuses = list(self._statuses())
        yield _states(statuses)
        yield _problems(statuses)
        yield _load_seconds(statuses)
        yield _default_versions(statuses)
        yield _config_problems(statuses)
        yield _bundle_info(statuses)
        yield _failures(self._manager.failures())
        yield from _polls(self._manager)

    def _statuses(self) -> Iterator[ModelStatus]:
        for name in self._manager.models():
            # A model may be withdrawn between the two questions.
            with suppress(ModelNotFound):
                yield self._manager.status(name)

    def describe(self) -> Iterable[Metric]:
        """Name no metric ahead of time: registering must not ask the manager."""
        return ()


def _states(statuses: Iterable[ModelStatus]) -> Metric:
    family = GaugeMetricFamily(
        "bundleserver_version_state",
        "1 for the state that a version is in, 0 for the others.",
        labels=("model", "version", "state"),
    )
    for model, version in _versions(statuses):
        for state in State:
            family.add_metric((model, version.version, state.value), float(version.state is state))
    return family


def _problems(statuses: Iterable[ModelStatus]) -> Metric:
    family = InfoMetricFamily(
        "bundleserver_version_failure",
        "Why the newest files of a version do not serve, in the words of the index and the log.",
        labels=("model", "version"),
    )
    for model, version in _versions(statuses):
        if _FAILED in version.reason:
            family.add_metric((model, version.version), {"reason": version.reason})
    return family


def _load_seconds(statuses: Iterable[ModelStatus]) -> Metric:
    family = GaugeMetricFamily(
        "bundleserver_version_load_seconds",
        "Seconds from fetching a version to READY.",
        labels=("model", "version"),
    )
    for model, version in _versions(statuses):
        if version.load_seconds is not None:
            family.add_metric((model, version.version), version.load_seconds)
    return family


def _default_versions(statuses: Iterable[ModelStatus]) -> Metric:
    family = InfoMetricFamily(
        "bundleserver_default_version",
        "The version that answers requests that name none.",
        labels=("model",),
    )
    for status in statuses:
        if status.default is not None:
            family.add_metric((status.name,), {"version": status.default})
    return family


def _config_problems(statuses: Iterable[ModelStatus]) -> Metric:
    family = GaugeMetricFamily(
        "bundleserver_config_problem",
        "1 while a model's serving.json cannot be used and the last good one goes on.",
        labels=("model",),
    )
    for status in statuses:
        family.add_metric((status.name,), float(status.config_problem is not None))
    return family


def _bundle_info(statuses: Iterable[ModelStatus]) -> Metric:
    family = InfoMetricFamily(
        "bundleserver_bundle",
        "Which bundle a version is.",
        labels=("model", "version"),
    )
    for model, version in _versions(statuses):
        known = {
            name: str(version.metadata[name])
            for name in ("digest", "trained_at")
            if version.metadata.get(name) is not None
        }
        if known:
            family.add_metric((model, version.version), known)
    return family


def _failures(counts: Mapping[tuple[str, State], int]) -> Metric:
    family = CounterMetricFamily(
        "bundleserver_failures",
        "How often a model's versions have failed, by the state they were in.",
        labels=("model", "state"),
    )
    for (model, state), count in counts.items():
        family.add_metric((model, state.value), count)
    return family


def _polls(manager: Manager) -> Iterator[Metric]:
    if manager.last_poll_at is not None:
        yield GaugeMetricFamily(
            "bundleserver_last_poll_timestamp_seconds",
            "When the source of versions was last read with success.",
            manager.last_poll_at,
        )
        yield GaugeMetricFamily(
            "bundleserver_last_poll_age_seconds",
            "Seconds since the source of versions was last read with success.",
            max(0.0, time.time() - manager.last_poll_at),
        )
    yield GaugeMetricFamily(
        "bundleserver_poll_failed",
        "1 while the source of versions cannot be read and what is served goes on.",
        float(manager.last_poll_error is not None),
    )


def _versions(statuses: Iterable[ModelStatus]) -> Iterator[tuple[str, VersionStatus]]:
    for status in statuses:
        for version in status.versions:
            yield status.name, version
