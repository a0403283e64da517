"""The status of models and versions, for readiness, the index and metrics.

Every function and method is called under the manager's lock.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from bundleserver.bundle.libraries import Mismatch
from bundleserver.bundle.trust.verification import SignatureStatus
from bundleserver.manager.admission import Outcomes, VersionKey
from bundleserver.manager.models import ModelRecord
from bundleserver.manager.records import VersionRecord
from bundleserver.manager.status.words import describe, why_not_ready
from bundleserver.tensors.signature import Signature
from bundleserver.versions import Version
from bundleserver.versions.lifecycle import State
from bundleserver.versions.serving_config import ServingConfig


@dataclass(frozen=True)
class VersionStatus:
    """The status of one version.

    Attributes:
        reason: the reason for its state, starting with the state's name; an empty string if there
            is none.
        wanted: it should be loaded, by policy, ``serving.json`` or a manual load.
        in_flight: the requests that have a lease of it.
        load_seconds: from fetching to READY; None while it is not loaded.
        loaded_at: seconds since the epoch; None while it is not loaded.
        probe_problem: why it probably cannot answer, although it is READY; else an empty string.
        breaks: why clients of the version that served before it break; an empty string if none do.
        mismatches: the libraries that are other ones than those that it was saved with.
        entered_at: when it came to its state, in seconds since the epoch.
        failing_since: when it first failed for what it still fails for, whatever its retries have
            come to, in seconds since the epoch; None if it does not fail.
        waits_for: what its load waits for other than its files; an empty string if nothing.
        refused_signature: what its signature is worth, if it is FAILED for it; else None.
    """

    version: str
    state: State
    reason: str
    wanted: bool
    in_flight: int
    load_seconds: float | None
    metadata: Mapping[str, object]
    signature: Signature | None
    loaded_at: float | None
    probe_problem: str = ""
    breaks: str = ""
    mismatches: tuple[Mismatch, ...] = ()
    refused_signature: SignatureStatus | None = None
    entered_at: float | None = None
    failing_since: float | None = None
    waits_for: str = ""


@dataclass(frozen=True)
class ModelStatus:
    """The status of one model.

    Attributes:
        default: the version for requests that name none; None if no version is ready for them.
        labels: versions by label, of the ``serving.json`` in effect.
        versions: the versions whose files were read, newest first; old unselected ones are not.
        reason: why there is no default version; an empty string if there is one.
        config_problem: why ``serving.json`` is not in effect, or None.
        policy: the version policy in effect.
        stale_since: the time of the last successful poll, in seconds since the epoch, if the last
            poll failed.
        source_problem: why the last poll failed; an empty string if it did not.
        known: the versions that there are, newest first, also those that were not read; not more
            than so many.
    """

    name: str
    default: str | None
    labels: Mapping[str, str]
    versions: tuple[VersionStatus, ...]
    reason: str
    config_problem: str | None
    policy: str
    stale_since: float | None = None
    source_problem: str = ""
    known: tuple[str, ...] = ()


_MOST_KNOWN = 20


@dataclass(frozen=True)
class TrafficStatus:
    """How requests that name no version are routed.

    Attributes:
        config: the ``serving.json`` in effect, completed by the flags.
        default: the default version; None if there is none.
        ready: the ready versions, with their files' fingerprints.
        root: the directory of the versions; None for a registry.
    """

    config: ServingConfig
    default: str | None
    ready: Mapping[str, str]
    root: Path | None


def model_status(
    model: ModelRecord, stale_since: float | None = None, source_problem: str = ""
) -> ModelStatus:
    """Return the status of a model and its versions; what is of the source is given."""
    wanted, versions = model.wanted(), sorted(model.versions, reverse=True)
    known = model.known_versions() if model.unseen else versions
    return ModelStatus(
        name=model.name,
        default=model.default.label if model.default else None,
        labels=dict(model.configuration.labels),
        versions=tuple(
            _version_status(model, model.versions[version], wanted) for version in versions
        ),
        reason="" if model.default else why_not_ready(model, wanted),
        config_problem=model.configuration.problem,
        policy=str(model.policy),
        stale_since=stale_since,
        source_problem=source_problem,
        known=tuple(version.label for version in known[:_MOST_KNOWN]),
    )


class TrafficMemo:
    """A cache of each model's traffic status, which every request needs."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[tuple[object, ...], TrafficStatus]] = {}

    def of(self, model: ModelRecord) -> TrafficStatus:
        """Return a model's traffic status, computed anew if it has changed."""
        # Without the bundles themselves, which could not be freed then.
        key = (
            model.configuration,
            model.configuration.active,
            model.default,
            *[
                (version, record.loaded and record.loaded.fingerprint, record.candidate)
                for version, record in model.versions.items()
            ],
        )
        known = self._known.get(model.name)
        if known is None or known[0] != key:
            known = self._known[model.name] = key, _traffic_status(model)
        return known[1]

    def forget(self, model: str) -> None:
        """Forget a model that is gone."""
        self._known.pop(model, None)


def _traffic_status(model: ModelRecord) -> TrafficStatus:
    ready = {v.label: r.loaded.fingerprint for v, r in model.versions.items() if r.loaded}
    listed = (record.candidate for record in model.versions.values() if record.candidate)
    root = next((candidate.root for candidate in listed if candidate.root), None)
    default = model.default.label if model.default else None
    return TrafficStatus(model.configuration.in_effect, default, ready, root)


def outcomes(models: Mapping[str, ModelRecord]) -> Outcomes:
    """Return the outcome of every load, without refused ones."""
    found: dict[VersionKey, str | None] = {}
    for name, model in models.items():
        for version, record in model.versions.items():
            for loaded in filter(None, (record.loaded, record.awaiting)):
                found[VersionKey(name, version.label, loaded.fingerprint)] = None
            is_over = not (record.is_underway or record.is_refused)
            if record.tried is not None and record.failure and is_over:
                found[VersionKey(name, version.label, record.tried)] = record.failure
    return found


def _version_status(
    model: ModelRecord, record: VersionRecord, wanted: Collection[Version]
) -> VersionStatus:
    loaded = record.loaded
    opened = [loaded, *record.draining] if loaded else record.draining
    reason = describe(model, record, wanted)
    return VersionStatus(
        version=record.version.label,
        state=record.state,
        reason="" if reason == record.state.value else reason,
        wanted=record.version in wanted,
        in_flight=sum(bundle.in_flight for bundle in opened),
        load_seconds=loaded.load_seconds if loaded else None,
        metadata=loaded.metadata if loaded else {},
        signature=loaded.signature if loaded else None,
        loaded_at=loaded.loaded_at if loaded else None,
        probe_problem=loaded.probe_problem if loaded else "",
        breaks=loaded.breaks if loaded else "",
        mismatches=loaded.mismatches if loaded else (),
        refused_signature=record.signature if record.state is State.FAILED else None,
        entered_at=record.entered_at,
        failing_since=record.failing_since,
        waits_for=record.waits_for,
    )
