"""What Prometheus sees of versions: the manager's state, read when it is asked."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from bundleserver.errors import ModelNotFound
from bundleserver.versions.lifecycle import State

if TYPE_CHECKING:
    from bundleserver.manager import Manager, ModelStatus, VersionStatus

_FAILED = State.FAILED.value


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
