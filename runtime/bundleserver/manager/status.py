"""What the manager says of models and versions: values for readiness, index and metrics.

Every function is called under the manager's lock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bundleserver.errors import NotReady, VersionNotFound
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
        wanted: it should answer, by policy, ``serving.json`` or by hand.
        in_flight: the requests that hold it now.
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
        versions: those that were looked at, newest first; old ones that nobody wants are left out.
        reason: why no version answers by default; empty when one does.
        config_problem: why ``serving.json`` is not in effect as it is written, or None.
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


BY_HAND = "UNLOADED: by hand; it stays so until it is loaded by hand or published again"


def model_status(model: ModelRecord) -> ModelStatus:
    """Return how a model and its versions stand."""
    wanted = model.wanted()
    return ModelStatus(
        name=model.name,
        default=model.default.label if model.default else None,
        labels=dict(model.configuration.labels),
        versions=tuple(
            _version_status(model, model.versions[version], version in wanted)
            for version in sorted(model.versions, reverse=True)
        ),
        reason="" if model.default else why_not_ready(model),
        config_problem=model.configuration.problem,
        policy=str(model.policy),
    )


def traffic_status(model: ModelRecord) -> TrafficStatus:
    """Return what decides who answers; asked for each request, so it looks at little."""
    ready = {v.label: r.loaded.fingerprint for v, r in model.versions.items() if r.loaded}
    places = (record.candidate.location for record in model.versions.values() if record.candidate)
    root = next((place.parent for place in places if is_version_label(place.name)), None)
    default = model.default.label if model.default else None
    return TrafficStatus(model.configuration.in_effect, default, ready, root)


def _version_status(model: ModelRecord, record: VersionRecord, is_wanted: bool) -> VersionStatus:
    loaded = record.loaded
    opened = [loaded, *record.draining] if loaded else record.draining
    reason = describe(model, record)
    return VersionStatus(
        version=record.version.label,
        state=record.state,
        reason="" if reason == record.state.value else reason,
        wanted=is_wanted,
        in_flight=sum(bundle.in_flight for bundle in opened),
        load_seconds=loaded.load_seconds if loaded else None,
        metadata=loaded.metadata if loaded else {},
        signature=loaded.signature if loaded else None,
        loaded_at=loaded.loaded_at if loaded else None,
    )


def describe(model: ModelRecord, record: VersionRecord) -> str:
    """Say where a version stands and why, beginning with the state's word."""
    state = record.state
    if state is State.FAILED:
        return record.failure
    if state is State.READY and record.reloading:
        return f"READY: with its former files; the new ones are {record.reloading.value}"
    if state is State.READY and record.waits_for:
        return f"READY: with its former files; the load of the new ones {record.waits_for}"
    if state is State.READY and record.failure:
        return f"READY: with its former files; the new ones {record.failure}"
    problem = record.candidate.problem if record.candidate else None
    if state is State.READY and problem:
        return f"READY: with its former files; the new ones cannot be loaded: {problem}"
    if state is State.DRAINING:
        count = sum(loaded.in_flight for loaded in record.draining)
        return f"DRAINING: requests that still hold it: {count}"
    if state in (State.DISCOVERED, State.UNLOADED):
        return _describe_closed(model, record)
    if record.failure and not record.is_changed:
        return f"{state.value} again; {record.failure}"
    return str(state.value)


def _describe_closed(model: ModelRecord, record: VersionRecord) -> str:
    if record.version in model.held:
        return BY_HAND
    word = record.state.value
    if record.waits_for:
        return f"{word}: {record.waits_for}"
    if record.candidate is not None and not record.candidate.settled:
        return f"{word}: its files are still changing"
    if record.version not in model.wanted():
        return f"{word}: the policy '{model.policy}' does not want it"
    return f"{word}: waiting for its turn"


def why_not_ready(model: ModelRecord) -> str:
    """Say why no version of a model answers by default."""
    default = model.configuration.default
    if default in model.versions:
        stands = describe(model, model.versions[default])
        return f"version {default}, which {model.configuration.name} makes the default, is {stands}"
    if not model.versions:
        return model.reason or "no version is there"
    wanted = model.wanted()
    first = max(model.versions, key=lambda version: (version in wanted, version))
    return f"version {first} is {describe(model, model.versions[first])}"


def why_not(model: ModelRecord, version: Version, now: float) -> VersionNotFound | NotReady:
    """Say why one version of a model does not answer."""
    record = model.versions.get(version)
    identity = f"'{model.name}' version {version}"
    if version in model.held and (record is None or not record.is_open):
        return NotReady(identity, BY_HAND, _LATER_SECONDS)
    if record is None and version not in model.unseen:
        return VersionNotFound(model.name, version.label, model.known_names())
    if record is None or _is_left_out(model, record):
        return VersionNotFound(
            model.name,
            version.label,
            f"it is there, but the policy '{model.policy}' does not want it; load it by hand, or "
            "name it in serving.json",
        )
    return NotReady(identity, describe(model, record), _ask_again_seconds(record, now))


def _is_left_out(model: ModelRecord, record: VersionRecord) -> bool:
    is_closed = record.state in (State.DISCOVERED, State.UNLOADED)
    return is_closed and record.is_loadable and record.version not in model.wanted()


def why_no_default(model: ModelRecord, now: float) -> NotReady:
    """Say that a model does not answer by default, and why."""
    pauses = [_ask_again_seconds(record, now) for record in model.versions.values()]
    return NotReady(f"model '{model.name}'", why_not_ready(model), min(pauses, default=1))


_LATER_SECONDS = 60


def _ask_again_seconds(record: VersionRecord, now: float) -> int:
    """Return when it is worth asking again: soon while something goes on."""
    if record.state is not State.FAILED:
        return 1
    if record.retry_at is None:
        return _LATER_SECONDS
    return max(1, min(_LATER_SECONDS, round(record.retry_at - now)))
