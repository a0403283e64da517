"""What the manager says of models and versions: values for readiness, index and metrics.

Every function and method is called under the manager's lock.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from bundleserver.errors import NotReady, VersionNotFound
from bundleserver.manager.admission import Outcomes, VersionKey
from bundleserver.manager.models import ModelRecord
from bundleserver.manager.records import VersionRecord
from bundleserver.tensors.signature import Signature
from bundleserver.versions import Version, is_version_label
from bundleserver.versions.lifecycle import State
from bundleserver.versions.serving_config import ServingConfig


@dataclass(frozen=True)
class VersionStatus:
    """How one version stood when it was asked.

    Attributes:
        reason: why it stands there, beginning with the state's word; empty when there is no more
            to say than the state.
        wanted: it should answer, by policy, ``serving.json`` or a manual load.
        in_flight: the requests that have a lease of it now.
        load_seconds: from fetching to READY; None while it is not loaded.
        loaded_at: seconds since the epoch; None while it is not loaded.
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


@dataclass(frozen=True)
class ModelStatus:
    """How one model stood when it was asked.

    Attributes:
        default: the version that answers requests which name none; None when none does.
        labels: versions by the labels of the ``serving.json`` in effect.
        versions: those whose files are known, newest first, so none that is old and not wanted.
        reason: why no version answers by default; empty when one does.
        config_problem: why ``serving.json`` is not in effect as it stands, or None.
        policy: the version policy in force.
        stale_since: seconds since the epoch when the source was last read, while it cannot be.
    """

    name: str
    default: str | None
    labels: Mapping[str, str]
    versions: tuple[VersionStatus, ...]
    reason: str
    config_problem: str | None
    policy: str
    stale_since: float | None = None


@dataclass(frozen=True)
class TrafficStatus:
    """What decides which version answers a request that names none.

    Attributes:
        config: the ``serving.json`` in effect, completed by the flags.
        default: the version that answers where nothing else is said; None when none does.
        ready: the versions that answer, and what changes with their files.
        root: the directory that the versions lie in; None where there is none.
    """

    config: ServingConfig
    default: str | None
    ready: Mapping[str, str]
    root: Path | None


MANUALLY = "UNLOADED: manually; it stays unloaded until it is loaded manually or published again"


def model_status(model: ModelRecord) -> ModelStatus:
    """Return how a model and its versions stand."""
    wanted = model.wanted()
    return ModelStatus(
        name=model.name,
        default=model.default.label if model.default else None,
        labels=dict(model.configuration.labels),
        versions=tuple(
            _version_status(model, model.versions[version], wanted)
            for version in sorted(model.versions, reverse=True)
        ),
        reason="" if model.default else why_not_ready(model, wanted),
        config_problem=model.configuration.problem,
        policy=str(model.policy),
    )


class TrafficMemo:
    """What decides who answers, kept until it changes: it is asked for each request."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[tuple[object, ...], TrafficStatus]] = {}

    def of(self, model: ModelRecord) -> TrafficStatus:
        """Return what decides who answers."""
        # Without the bundles themselves, which would outlive their end here.
        stands = (
            model.configuration,
            model.configuration.active,
            model.default,
            *[
                (version, record.loaded and record.loaded.fingerprint, record.candidate)
                for version, record in model.versions.items()
            ],
        )
        known = self._known.get(model.name)
        if known is None or known[0] != stands:
            known = self._known[model.name] = stands, _traffic_status(model)
        return known[1]


def _traffic_status(model: ModelRecord) -> TrafficStatus:
    ready = {v.label: r.loaded.fingerprint for v, r in model.versions.items() if r.loaded}
    paths = (record.candidate.location for record in model.versions.values() if record.candidate)
    root = next((path.parent for path in paths if is_version_label(path.name)), None)
    default = model.default.label if model.default else None
    return TrafficStatus(model.configuration.in_effect, default, ready, root)


def outcomes(models: Mapping[str, ModelRecord]) -> Outcomes:
    """Return what has come of every version; what was refused is left out."""
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
    )


def describe(model: ModelRecord, record: VersionRecord, wanted: Collection[Version]) -> str:
    """Say where a version stands and why, beginning with the state's word."""
    state = record.state
    if state is State.FAILED:
        return record.failure
    if state is State.READY:
        reload = _describe_reload(record)
        return f"READY (serving the previous files); {reload}" if reload else "READY"
    if state is State.DRAINING:
        count = sum(loaded.in_flight for loaded in record.draining)
        return f"DRAINING: waiting for requests in flight: {count}"
    if state in (State.DISCOVERED, State.UNLOADED):
        return _describe_closed(model, record, wanted)
    if record.failure and not record.is_changed:
        return f"{state.value} again; {record.failure}"
    return str(state.value)


def _describe_reload(record: VersionRecord) -> str:
    """Say what keeps the files that are there from answering; empty where nothing does."""
    if record.reloading:
        return f"reload {record.reloading.value}"
    if record.waits_for or record.failure:
        return f"reload {record.waits_for or record.failure}"
    problem = record.candidate.problem if record.candidate else None
    return f"reload not possible: {problem}" if problem else ""


def _describe_closed(model: ModelRecord, record: VersionRecord, wanted: Collection[Version]) -> str:
    if record.version in model.manual.unloaded:
        return MANUALLY
    word = record.state.value
    if record.waits_for:
        return f"{word}: {record.waits_for}"
    if record.candidate is not None and not record.candidate.settled:
        return f"{word}: its files are still changing"
    if record.version not in wanted:
        return f"{word}: not selected by the policy '{model.policy}'"
    return f"{word}: waiting to be loaded"


def why_not_ready(model: ModelRecord, wanted: Collection[Version]) -> str:
    """Say why no version of a model answers by default."""
    default = model.configuration.default
    if default in model.versions:
        stands = describe(model, model.versions[default], wanted)
        return f"version {default}, the default of {model.configuration.name}, is {stands}"
    if not model.versions:
        return model.reason or "no version was found"
    first = max(model.versions, key=lambda version: (version in wanted, version))
    return f"version {first} is {describe(model, model.versions[first], wanted)}"


def why_not(model: ModelRecord, version: Version, now: float) -> VersionNotFound | NotReady:
    """Say why one version of a model does not answer."""
    record, wanted = model.versions.get(version), model.wanted()
    identity = f"'{model.name}' version {version}"
    if version in model.manual.unloaded and (record is None or not record.is_open):
        return NotReady(identity, MANUALLY, _LATER_SECONDS)
    if record is None and version not in model.unseen:
        return VersionNotFound(model.name, version.label, model.known_names())
    if record is None or (_is_selectable(record) and version not in wanted):
        return VersionNotFound(
            model.name,
            version.label,
            f"it exists, but is not selected by the policy '{model.policy}'; load it manually, or "
            "refer to it in serving.json",
        )
    return NotReady(identity, describe(model, record, wanted), _ask_again_seconds(record, now))


def _is_selectable(record: VersionRecord) -> bool:
    return record.state in (State.DISCOVERED, State.UNLOADED) and record.is_loadable


def why_no_default(model: ModelRecord, now: float) -> NotReady:
    """Say that a model does not answer by default, and why."""
    pauses = [_ask_again_seconds(record, now) for record in model.versions.values()]
    reason = why_not_ready(model, model.wanted())
    return NotReady(f"model '{model.name}'", reason, min(pauses, default=1))


_LATER_SECONDS = 60


def _ask_again_seconds(record: VersionRecord, now: float) -> int:
    """Return when it is worth asking again: soon while something goes on."""
    if record.state is not State.FAILED:
        return 1
    if record.retry_at is None:
        return _LATER_SECONDS
    return max(1, min(_LATER_SECONDS, round(record.retry_at - now)))
