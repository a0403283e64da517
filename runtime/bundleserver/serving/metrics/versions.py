"""Prometheus metrics of versions: the manager's state at each scrape."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache, partial
from typing import TYPE_CHECKING

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from bundleserver.bundle.trust.verification import SignatureStatus
from bundleserver.errors import ModelNotFound
from bundleserver.serving.metrics.exposition import Family, Written, label_block
from bundleserver.serving.metrics.retention import Present
from bundleserver.versions.lifecycle import State

if TYPE_CHECKING:
    from bundleserver.manager import Manager, ModelStatus, VersionStatus

    Told = Callable[[ModelStatus], ModelStatus]


class ManagerCollector(Collector):
    """Collects every version's state from the manager at each scrape."""

    def __init__(
        self,
        manager: Manager,
        told: Told = lambda status: status,
        keep: Callable[[Present], None] = lambda _: None,
    ) -> None:
        """Collect from a manager what is told of each model's status.

        ``keep`` is called with the versions that there are at each scrape, so that series of
        others are forgotten.
        """
        self._manager = manager
        self._told = told
        self._keep = keep
        self._texts: dict[str, tuple[tuple[object, ...], tuple[str, ...]]] = {}

    def collect(self) -> Iterable[Metric]:
        """Yield the state, load time and bundle of every version."""
        statuses = list(self._statuses())
        self._keep({one.name: _names(one) for one in statuses})
        yield from self._families(statuses)
        yield _failures(self._manager.failures(), {one.name for one in statuses})
        yield from _polls(self._manager)

    def _families(self, statuses: Sequence[ModelStatus]) -> Iterator[Metric]:
        """Yield what is of models and versions, written anew for those that have changed only."""
        before, self._texts = self._texts, {}
        texts = self._texts
        for status in statuses:
            shown = _shown(status)
            known = before.get(status.name)
            if known is None or known[0] != shown:
                lines = tuple("".join(one.lines(True)) for one in _families([status]))
                known = shown, lines
            texts[status.name] = known
        for at, family in enumerate(_families(())):
            column = [lines[at] for _, lines in texts.values()]
            yield Written(family.name, family.documentation, family.type, partial(_same, column))

    def _statuses(self) -> Iterator[ModelStatus]:
        for name in self._manager.models():
            # A model may be removed between the two calls.
            with suppress(ModelNotFound):
                yield self._told(self._manager.status(name))

    def describe(self) -> Iterable[Metric]:
        """Return no metric: registering must not call the manager."""
        return ()


def _same(lines: Sequence[str], _: bool) -> Sequence[str]:
    return lines


def _shown(status: ModelStatus) -> tuple[object, ...]:
    """Return all that the families of a model are written from."""
    versions = [
        (
            *(one.version, one.state, one.reason, one.load_seconds, one.metadata, one.mismatches),
            *(one.probe_problem, one.breaks, one.refused_signature),
        )
        for one in status.versions
    ]
    return status.default, status.config_problem, versions


def _families(statuses: Sequence[ModelStatus]) -> Iterator[Written]:
    yield _states(statuses)
    yield from _version_families(statuses)
    yield from _model_families(statuses)


def _names(status: ModelStatus) -> set[str]:
    return {*status.known, *(one.version for one in status.versions)}


def _states(statuses: Iterable[ModelStatus]) -> Written:
    name, about = "bundleserver_version_state", "1 for the state of a version, 0 for the others."

    def lines(_: bool) -> Iterable[str]:
        for status in statuses:
            for version in status.versions:
                yield _state_lines(name, status.name, version.version, version.state)

    return Written(name, about, "gauge", lines)


@lru_cache(maxsize=8192)
def _state_lines(name: str, model: str, version: str, current: State) -> str:
    labels = ("model", "version", "state")
    heads = {s: f"{name}{{{label_block(labels, (model, version, s.value))}}}" for s in State}
    return "".join(f"{head} {float(current is state)}\n" for state, head in heads.items())


def _one(name: str, about: str, value: float) -> Metric:
    family = Family(name, about, "gauge")
    family.add((), value)
    return family


def _version_families(statuses: Iterable[ModelStatus]) -> Iterable[Written]:
    labels = ("model", "version")
    problems = Family(
        "bundleserver_version_failure",
        "Why the newest files of a version are not served, as in the index and the log.",
        "info",
        labels,
    )
    probed = Family(
        "bundleserver_version_probed",
        "1 for a version that has answered a call before it was READY, 0 for one that has not.",
        "gauge",
        labels,
    )
    probe_problems = Family(
        "bundleserver_version_probe_failure",
        "Why a version that is READY with --probe=warn probably cannot answer.",
        "info",
        labels,
    )
    breaking = Family(
        "bundleserver_version_breaking",
        "1 for a version that breaks clients of what answered before it, 0 for every other.",
        "gauge",
        labels,
    )
    verified = Family(
        "bundleserver_version_verified",
        "1 for a version whose files a trusted key signed, 0 for every other.",
        "gauge",
        (*labels, "status", "key"),
    )
    mismatches = Family(
        "bundleserver_version_library_mismatches",
        "How many libraries are other versions than those that a version was saved with.",
        "gauge",
        labels,
    )
    load_seconds = Family(
        "bundleserver_version_load_seconds",
        "Seconds from fetching a version to READY.",
        "gauge",
        labels,
    )
    bundles = Family("bundleserver_bundle", "The bundle of a version.", "info", labels)
    for status in statuses:
        for version in status.versions:
            at = (status.name, version.version)
            if State.FAILED.value in version.reason:
                problems.add(at, 1.0, {"reason": version.reason})
            if version.probe_problem:
                probe_problems.add(at, 1.0, {"reason": version.probe_problem})
            if version.load_seconds is not None:
                breaking.add(at, float(bool(version.breaks)))
                mismatches.add(at, float(len(version.mismatches)))
            if "probed" in version.metadata:
                probed.add(at, float(version.metadata["probed"] is True))
            if signature := _signature_of(version):
                is_verified = signature[0] == SignatureStatus.VERIFIED.value
                verified.add((*at, *signature), float(is_verified))
            if version.load_seconds is not None:
                load_seconds.add(at, version.load_seconds)
            found = {name: version.metadata.get(name) for name in ("digest", "trained_at")}
            if known := {name: str(value) for name, value in found.items() if value is not None}:
                bundles.add(at, 1.0, known)
    of_files = breaking, verified, mismatches, load_seconds, bundles
    return problems, probed, probe_problems, *of_files


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


def _model_families(statuses: Iterable[ModelStatus]) -> Iterable[Written]:
    defaults = Family(
        "bundleserver_default_version",
        "The version of requests that name none.",
        "info",
        ("model",),
    )
    config_problems = Family(
        "bundleserver_config_problem",
        "1 while a model's serving.json is invalid and the last valid one applies.",
        "gauge",
        ("model",),
    )
    for status in statuses:
        if status.default is not None:
            defaults.add((status.name,), 1.0, {"version": status.default})
        config_problems.add((status.name,), float(status.config_problem is not None))
    return defaults, config_problems


def _failures(counts: Mapping[tuple[str, State], int], present: Collection[str]) -> Metric:
    family = Family(
        "bundleserver_failures",
        "Failures of a model's versions, by the state in which they failed.",
        "counter",
        ("model", "state"),
    )
    for (model, state), count in counts.items():
        if model in present:
            family.add((model, state.value), count)
    return family


def _polls(manager: Manager) -> Iterator[Metric]:
    if manager.last_poll_at is not None:
        yield _one(
            "bundleserver_last_poll_timestamp_seconds",
            "Time of the last successful poll of the source.",
            manager.last_poll_at,
        )
        yield _one(
            "bundleserver_last_poll_age_seconds",
            "Seconds since the last successful poll of the source.",
            max(0.0, time.time() - manager.last_poll_at),
        )
    yield _one(
        "bundleserver_poll_failed",
        "1 while polling the source fails; the loaded versions keep serving.",
        float(manager.last_poll_error is not None),
    )
