"""Loads and unloads by hand: what they change at once, and when they are fulfilled."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from bundleserver.errors import BundleServerError, NotReady, VersionNotFound
from bundleserver.manager.models import ModelRecord
from bundleserver.manager.status import describe, why_no_default, why_not, why_not_ready
from bundleserver.versions import Version
from bundleserver.versions.lifecycle import State


@dataclass
class Order:
    """One load or unload that somebody waits for; without a version it is about the whole model.

    ``apply`` and ``is_fulfilled`` are called by the watcher's thread under the manager's lock.
    """

    model: str
    version: str | None
    loads: bool
    is_applied: bool = False
    error: BundleServerError | None = None
    done: threading.Event = field(default_factory=threading.Event)

    def finish(self, error: BundleServerError | None = None) -> None:
        """Let the caller go on, with the reason if it was not to be; the first end counts."""
        if not self.done.is_set():
            self.error = error
            self.done.set()

    def apply(self, model: ModelRecord) -> None:
        """Change what is held and pinned; the lifecycle does the rest."""
        self.is_applied = True
        if self.version is None:
            _release_all(model) if self.loads else _hold_all(model)
        else:
            version = model.resolve(self.version)
            _release(model, version) if self.loads else _hold(model, version)

    def is_fulfilled(self, model: ModelRecord, now: float) -> bool:
        """Ask whether the state is reached.

        Raises:
            BundleServerError: it will not be, and why.
        """
        version = None if self.version is None else model.resolve(self.version)
        if not self.loads:
            return _is_unloaded(model, version)
        if model.next_action(now) is not None or _is_underway(model, version):
            return False
        return _is_loaded(model, now) if version is None else _is_ready(model, version, now)

    def stands(self, model: ModelRecord | None) -> str:
        """Say how far it has come."""
        if model is None:
            return "the models have not been looked at since"
        if self.version is None:
            return f"{model.default} is READY" if model.default else why_not_ready(model)
        label = model.configuration.labels.get(self.version, self.version)
        for version, record in model.versions.items():
            if version.label == label:
                return f"version {version} is {describe(model, record)}"
        return f"version {label} has not been looked at"


def _is_unloaded(model: ModelRecord, version: Version | None) -> bool:
    if version is None:
        return not any(r.is_open or r.is_underway for r in model.versions.values())
    record = model.versions.get(version)
    return record is None or not (record.is_open or record.is_underway)


def _is_underway(model: ModelRecord, version: Version | None) -> bool:
    wanted = model.versions.values() if version is None else [model.versions.get(version)]
    return any(record is not None and record.is_underway for record in wanted)


def _is_loaded(model: ModelRecord, now: float) -> bool:
    if model.default is not None:
        return True
    if model.is_settling() or _is_draining(model):
        return False
    raise why_no_default(model, now)


def _is_ready(model: ModelRecord, version: Version, now: float) -> bool:
    record = model.versions.get(version)
    if record is None:
        if version in model.unseen:
            return False
        raise why_not(model, version, now)
    if record.loaded is not None and record.failure:
        raise NotReady(f"'{model.name}' version {version}", describe(model, record))
    if record.loaded is not None and not record.is_changed:
        return True
    if _is_draining(model) or not (record.candidate is None or record.candidate.settled):
        return False
    raise why_not(model, version, now)


def _is_draining(model: ModelRecord) -> bool:
    return any(record.state is State.DRAINING for record in model.versions.values())


def _release_all(model: ModelRecord) -> None:
    model.held.clear()
    model.is_stopped = False
    for record in model.versions.values():
        _start_again(model, record.version)


def _release(model: ModelRecord, version: Version) -> None:
    _check_known(model, version)
    model.held.pop(version, None)
    model.is_stopped = False
    _start_again(model, version)
    if version not in model.wanted():
        model.pinned.add(version)


def _start_again(model: ModelRecord, version: Version) -> None:
    record = model.versions.get(version)
    if record is not None and record.candidate is not None and record.candidate.problem is None:
        record.forget_failure()


def _hold_all(model: ModelRecord) -> None:
    for version in (*model.versions, *model.unseen):
        _hold(model, version)
    model.is_stopped = True


def _hold(model: ModelRecord, version: Version) -> None:
    _check_known(model, version)
    record = model.versions.get(version)
    candidate = record.candidate if record else None
    model.held[version] = candidate.fingerprint if candidate else None
    model.pinned.discard(version)
    if record is not None and not record.is_open:
        record.withdraw()


def _check_known(model: ModelRecord, version: Version) -> None:
    if version not in model.versions and version not in model.unseen:
        raise VersionNotFound(model.name, version.label, model.known_names())
