"""The first load of a server: whether it is ready, or has failed for good."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from bundleserver.documents.printable import few
from bundleserver.errors import BundleServerError
from bundleserver.manager.admission import VersionKey
from bundleserver.manager.models import ModelRecord
from bundleserver.manager.records import VersionRecord
from bundleserver.manager.shared import Shared
from bundleserver.manager.status.words import describe, why_not_ready
from bundleserver.versions import Version
from bundleserver.versions.lifecycle import State

PAUSES_SECONDS = (1.0, 3.0)
"""Backoff of a version in a server that ends if its first load fails; the usual one follows."""

_MOST_MODELS = 5
_MOST_VERSIONS = 3


class FirstLoadFailed(BundleServerError):
    """A server has never been ready, and no version of any model will be without other files."""


class FirstLoad:
    """What a manager that has not been ready says of its models. Called from any thread."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared

    def why_failed(self) -> str:
        """Return why no model will be ready without other files; an empty string if one may be.

        That is only said of a server that has never been ready, whose source was read at the last
        poll, with every model's directory: no version is loaded or waited for, and each that was
        ever listed has been tried, and has used up its retries.
        """
        shared = self._shared
        with shared.changed:
            if shared.has_served or shared.is_closing or shared.orders:
                return ""
            if shared.awaited or shared.untried:
                return ""
            if shared.last_poll_at is None or shared.last_poll_error is not None:
                return ""
            models = [shared.models[name] for name in sorted(shared.models)]
            if not all(_is_lost(shared, model) for model in models):
                return ""
            failed = [model for model in models if _failed_versions(model)]
            return "; ".join(few(map(_describe, failed), _MOST_MODELS))

    def is_retried(self) -> bool:
        """Ask whether no version has been ready, and one that failed is about to be retried."""
        with self._shared.changed:
            return not self._shared.has_served and any(
                0 < record.attempts <= len(PAUSES_SECONDS)
                for model in self._shared.models.values()
                for record in model.versions.values()
            )

    def why_waiting(self) -> str:
        """Return why no model is ready, or which wait beside those that are; empty if none do."""
        with self._shared.changed:
            models = [model for _, model in sorted(self._shared.models.items())]
            awaited = [*self._shared.awaited.values()]
            if any(model.default is not None for model in models):
                models, awaited = [model for model in models if model.is_waiting()], []
            said = [f"model '{it.name}' is not ready: {_why(it)}" for it in models] + awaited
            return "; ".join(few(said, _MOST_MODELS))


def is_ready(shared: Shared) -> bool:
    """Ask whether the process is ready; called under the lock.

    Of several models each must be ready or have failed, and one be ready; if strict, all. Once it
    has been, only those count that it had then: what is uploaded to a server that answers must not
    take it away from its clients.
    """
    note_readiness(shared)
    return _is_ready(shared)


def note_readiness(shared: Shared) -> None:
    """Record that the process is ready, with the models that it has now, before others come."""
    if not shared.has_been_ready and _is_ready(shared):
        shared.has_been_ready = True
        shared.expected = {*shared.models}


def _is_ready(shared: Shared) -> bool:
    answering = {name for name, model in shared.models.items() if model.default is not None}
    if shared.is_closing or not answering:
        return False
    counting = {
        name: model
        for name, model in shared.models.items()
        if not shared.has_been_ready or name in shared.expected
    }
    if shared.is_asked or shared.is_strict:
        return counting.keys() <= answering
    return not any(model.is_pending() for model in counting.values())


def _why(model: ModelRecord) -> str:
    return why_not_ready(model, model.wanted())


def _is_lost(shared: Shared, model: ModelRecord) -> bool:
    """Ask whether no version of a model can become ready."""
    if not (model.versions and model.is_read) or model.incomplete or model.untried:
        return False
    if model.manual.unloaded or model.manual.is_stopped:
        return False
    if model.unseen and not model.policy.specific:
        # Only the next poll reads the older ones in place of those that failed.
        return False
    wanted = model.wanted()
    return all(_is_over(shared, model, it, wanted) for it in model.versions.values())


def _is_over(
    shared: Shared, model: ModelRecord, record: VersionRecord, wanted: Collection[Version]
) -> bool:
    if record.is_underway or record.is_open or record.awaiting or not record.is_settled:
        return False
    if record.candidate is None:
        # It went away during its load, and the next poll says what has taken its place.
        return False
    if record.waits_until is not None:
        # For other models of this server, of which none will be ready.
        return bool(record.calls) and record.calls <= shared.models.keys()
    if record.state is not State.FAILED:
        return record.version not in wanted
    if record.is_changed or record.may_pass:
        return False
    if record.is_refused:
        key = VersionKey(model.name, record.version.label, str(record.tried))
        return shared.admission.is_barred_for_good(key)
    return record.retry_at is None or record.attempts > len(PAUSES_SECONDS)


def _failed_versions(model: ModelRecord) -> list[VersionRecord]:
    """Return the versions that failed, or that wait for other models, newest first."""
    found = [it for it in model.versions.values() if it.failure or it.waits_until is not None]
    return sorted(found, key=lambda it: it.version, reverse=True)


def _describe(model: ModelRecord) -> str:
    said: Iterator[str] = (
        f"version {it.version} is {describe(model, it, ())}" for it in _failed_versions(model)
    )
    return f"model '{model.name}' is not ready: {'; '.join(few(said, _MOST_VERSIONS))}"
