"""The status of models and versions in words: states with their reasons, and why not.

Every function is called under the manager's lock.
"""

from __future__ import annotations

from collections.abc import Collection

from bundleserver.bundle.libraries import said
from bundleserver.errors import NotReady, VersionNotFound
from bundleserver.manager.models import ModelRecord
from bundleserver.manager.records import VersionRecord
from bundleserver.versions import Version
from bundleserver.versions.lifecycle import State

MANUALLY = "UNLOADED: manually; it stays unloaded until it is loaded manually or published again"


def describe(model: ModelRecord, record: VersionRecord, wanted: Collection[Version]) -> str:
    """Describe a version's state and its reason, starting with the state's name."""
    state = record.state
    if state is State.FAILED:
        return record.failure
    if state is State.READY:
        reload = _describe_reload(record)
        word = "READY"
        if record.loaded is not None and record.loaded.probe_problem:
            word = f"READY although its probe failed: {record.loaded.probe_problem}"
        elif record.loaded is not None and record.loaded.signature_problem:
            word = f"READY although {record.loaded.signature_problem}"
        elif record.loaded is not None and record.loaded.breaks:
            word = f"READY although {record.loaded.breaks}"
        elif record.loaded is not None and record.loaded.mismatches:
            word = f"READY, {said(record.loaded.mismatches)}"
        return f"READY (serving the previous files); {reload}" if reload else word
    if state is State.DRAINING:
        count = sum(loaded.in_flight for loaded in record.draining)
        return f"DRAINING: waiting for requests in flight: {count}"
    if state in (State.DISCOVERED, State.UNLOADED):
        return _describe_closed(model, record, wanted)
    if record.failure and not record.is_changed:
        return f"{state.value} again; {record.failure}"
    return str(state.value)


def _describe_reload(record: VersionRecord) -> str:
    if record.reloading:
        return f"reload {record.reloading.value}"
    if record.waits_for or record.failure:
        return f"reload {record.waits_for or record.failure}"
    if record.is_changed and not record.is_settled:
        return "reload waits: its files are still changing"
    problem = record.candidate.problem if record.candidate else None
    return f"reload not possible: {problem}" if problem else ""


def _describe_closed(model: ModelRecord, record: VersionRecord, wanted: Collection[Version]) -> str:
    if record.version in model.manual.unloaded:
        return MANUALLY
    word = record.state.value
    if record.waits_for:
        return f"{word}: {record.waits_for}"
    if not record.is_settled:
        return f"{word}: its files are still changing"
    if record.version not in wanted:
        return f"{word}: not selected by the policy '{model.policy}'"
    return f"{word}: waiting to be loaded"


def why_not_ready(model: ModelRecord, wanted: Collection[Version]) -> str:
    """Return why a model has no default version."""
    default = model.configuration.default
    if default in model.versions:
        what = describe(model, model.versions[default], wanted)
        return f"version {default}, the default of {model.configuration.name}, is {what}"
    if not (model.versions and model.is_read):
        return model.reason or "no version was found"
    first = max(model.versions, key=lambda version: (version in wanted, version))
    return f"version {first} is {describe(model, model.versions[first], wanted)}"


def why_not(model: ModelRecord, version: Version, now: float) -> VersionNotFound | NotReady:
    """Return why a version of a model is not available."""
    record, wanted = model.versions.get(version), model.wanted()
    identity = f"'{model.name}' version {version}"
    if version in model.manual.unloaded and (record is None or not record.is_open):
        return NotReady(identity, MANUALLY, _LATER_SECONDS)
    if record is None and version not in model.unseen:
        return VersionNotFound(model.name, version.label, model.known_names())
    is_closed = record is None or record.state in (State.DISCOVERED, State.UNLOADED)
    if record is None or (is_closed and record.is_loadable and version not in wanted):
        return VersionNotFound(
            model.name,
            version.label,
            f"it exists, but is not selected by the policy '{model.policy}'; load it manually, or "
            "refer to it in serving.json",
        )
    return NotReady(identity, describe(model, record, wanted), _retry_after_seconds(record, now))


def why_no_default(model: ModelRecord, now: float) -> NotReady:
    """Return why a model has no default version, with the time of a retry."""
    pauses = [_retry_after_seconds(record, now) for record in model.versions.values()]
    reason = why_not_ready(model, model.wanted())
    return NotReady(f"model '{model.name}'", reason, min(pauses, default=1))


_LATER_SECONDS = 60


def _retry_after_seconds(record: VersionRecord, now: float) -> int:
    """Return when to retry a request: soon, unless the version has failed."""
    if record.state is not State.FAILED:
        return 1
    if record.retry_at is None:
        return _LATER_SECONDS
    return max(1, min(_LATER_SECONDS, round(record.retry_at - now)))
