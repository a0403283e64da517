"""Prometheus metrics of versions: the manager's state at each scrape."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from bundleserver.bundle.trust.verification import SignatureStatus
from bundleserver.errors import ModelNotFound
from bundleserver.versions.lifecycle import State

if TYPE_CHECKING:
    from bundleserver.manager import Manager, ModelStatus, VersionStatus

    Told = Callable[[ModelStatus], ModelStatus]


class ManagerCollector(Collector):
    """Collects every version's state from the manager at each scrape."""

    def __init__(self, manager: Manager, told: Told = lambda status: status) -> None:
        """Collect from a manager what is told of each model's status."""
        self._manager = manager
        self._told = told

    def collect(self) -> Iterable[Metric]:
        """Yield the state, load time and bundle of every version."""
        statuses = list(self._statuses())
        yield from _version_families(statuses)
        yield from _model_families(statuses)
        yield _failures(self._manager.failures())
        yield from _polls(self._manager)

    def _statuses(self) -> Iterator[ModelStatus]:
        for name in self._manager.models():
            # A model may be removed between the two calls.
            with suppress(ModelNotFound):
                yield self._told(self._manager.status(name))

    def describe(self) -> Iterable[Metric]:
        """Return no metric: registering must not call the manager."""
        return ()


def _version_families(statuses: Iterable[ModelStatus]) -> Iterable[Metric]:
    labels = ("model", "version")
    states = GaugeMetricFamily(
        "bundleserver_version_state",
        "1 for the state of a version, 0 for the others.",
        labels=(*labels, "state"),
    )
    problems = InfoMetricFamily(
        "bundleserver_version_failure",
        "Why the newest files of a version are not served, as in the index and the log.",
        labels=labels,
    )
    probed = GaugeMetricFamily(
        "bundleserver_version_probed",
        "1 for a version that has answered a call before it was READY, 0 for one that has not.",
        labels=labels,
    )
    probe_problems = InfoMetricFamily(
        "bundleserver_version_probe_failure",
        "Why a version that is READY with --probe=warn probably cannot answer.",
        labels=labels,
    )
    breaking = GaugeMetricFamily(
        "bundleserver_version_breaking",
        "1 for a version that breaks clients of what answered before it, 0 for every other.",
        labels=labels,
    )
    verified = GaugeMetricFamily(
        "bundleserver_version_verified",
        "1 for a version whose files a trusted key signed, 0 for every other.",
        labels=(*labels, "status", "key"),
    )
    mismatches = GaugeMetricFamily(
        "bundleserver_version_library_mismatches",
        "How many libraries are other versions than those that a version was saved with.",
        labels=labels,
    )
    load_seconds = GaugeMetricFamily(
        "bundleserver_version_load_seconds",
        "Seconds from fetching a version to READY.",
        labels=labels,
    )
    bundles = InfoMetricFamily("bundleserver_bundle", "The bundle of a version.", labels=labels)
    for status in statuses:
        for version in status.versions:
            at = (status.name, version.version)
            for state in State:
                states.add_metric((*at, state.value), float(version.state is state))
            if State.FAILED.value in version.reason:
                problems.add_metric(at, {"reason": version.reason})
            if version.probe_problem:
                probe_problems.add_metric(at, {"reason": version.probe_problem})
            if version.load_seconds is not None:
                breaking.add_metric(at, float(bool(version.breaks)))
                mismatches.add_metric(at, float(len(version.mismatches)))
            if "probed" in version.metadata:
                probed.add_metric(at, float(version.metadata["probed"] is True))
            if signature := _signature_of(version):
                is_verified = signature[0] == SignatureStatus.VERIFIED.value
                verified.add_metric((*at, *signature), float(is_verified))
            if version.load_seconds is not None:
                load_seconds.add_metric(at, version.load_seconds)
            found = {name: version.metadata.get(name) for name in ("digest", "trained_at")}
            if known := {name: str(value) for name, value in found.items() if value is not None}:
                bundles.add_metric(at, known)
    of_files = breaking, verified, mismatches, load_seconds, bundles
    return states, problems, probed, probe_problems, *of_files


def _signature_of(version: VersionStatus) -> tuple[str, str] | None:
    """Return what a version's signature is worth, and the digest of its key; None if not known.

    That is of what is served, or of what is FAILED for it.
    """
    if version.refused_signature is not None:
        return version.refused_signature.value, ""
    if not version.metadata:
        return None
    verification = version.metadata.get("verification")
    signature = verification.get("signature") if isinstance(verification, Mapping) else None
    if not isinstance(signature, Mapping):
        return SignatureStatus.OFF.value, ""
    key = signature.get("key")
    return str(signature.get("status")), str(key["sha256"]) if isinstance(key, Mapping) else ""


def _model_families(statuses: Iterable[ModelStatus]) -> Iterable[Metric]:
    defaults = InfoMetricFamily(
        "bundleserver_default_version",
        "The version of requests that name none.",
        labels=("model",),
    )
    config_problems = GaugeMetricFamily(
        "bundleserver_config_problem",
        "1 while a model's serving.json is invalid and the last valid one applies.",
        labels=("model",),
    )
    for status in statuses:
        if status.default is not None:
            defaults.add_metric((status.name,), {"version": status.default})
        config_problems.add_metric((status.name,), float(status.config_problem is not None))
    return defaults, config_problems


def _failures(counts: Mapping[tuple[str, State], int]) -> Metric:
    family = CounterMetricFamily(
        "bundleserver_failures",
        "Failures of a model's versions, by the state in which they failed.",
        labels=("model", "state"),
    )
    for (model, state), count in counts.items():
        family.add_metric((model, state.value), count)
    return family


def _polls(manager: Manager) -> Iterator[Metric]:
    if manager.last_poll_at is not None:
        yield GaugeMetricFamily(
            "bundleserver_last_poll_timestamp_seconds",
            "Time of the last successful poll of the source.",
            manager.last_poll_at,
        )
        yield GaugeMetricFamily(
            "bundleserver_last_poll_age_seconds",
            "Seconds since the last successful poll of the source.",
            max(0.0, time.time() - manager.last_poll_at),
        )
    yield GaugeMetricFamily(
        "bundleserver_poll_failed",
        "1 while polling the source fails; the loaded versions keep serving.",
        float(manager.last_poll_error is not None),
    )
