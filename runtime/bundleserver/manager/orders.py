"""Manual loads and unloads: their immediate effect, and when they are fulfilled."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from bundleserver.errors import BundleServerError, NotReady, VersionNotFound
from bundleserver.manager.models import ModelRecord
from bundleserver.manager.records import VersionRecord
from bundleserver.manager.status.words import describe, why_no_default, why_not, why_not_ready
from bundleserver.versions import Version
from bundleserver.versions.lifecycle import State

MOST_SETTLING_SECONDS = 30.0
"""How long a load waits for files to rest before it says that they do not; it continues."""


@dataclass
class Order:
    """One manual load or unload with a waiting caller; without a version, of the whole model.

    ``apply`` and ``is_fulfilled`` are called by the watcher's thread under the manager's lock.
    """

    model: str
    version: str | None
    loads: bool
    is_applied: bool = False
    error: BundleServerError | None = None
    settling_since: float | None = None
    done: threading.Event = field(default_factory=threading.Event)

    def finish(self, error: BundleServerError | None = None) -> None:
        """End the caller's wait, with an error if there is one; only the first call counts."""
        if not self.done.is_set():
            self.error = error
            self.done.set()

    def apply(self, model: ModelRecord) -> None:
        """Record the order; the lifecycle does the rest."""
        self.is_applied = True
        if self.version is None:
            _load_all(model) if self.loads else _unload_all(model)
        else:
            version = model.resolve(self.version)
            if version not in model.versions and version not in model.unseen:
                raise VersionNotFound(model.name, version.label, model.known_names())
            _load(model, version) if self.loads else _unload(model, version)

    def is_fulfilled(self, model: ModelRecord, now: float) -> bool:
        """Ask whether the requested state is reached.

        Raises:
            BundleServerError: it cannot be reached.
        """
        version = None if self.version is None else model.resolve(self.version)
        records = [r for v, r in model.versions.items() if version in (None, v)]
        is_underway = any(record.is_underway for record in records)
        if not self.loads:
            return not (is_underway or any(record.is_open for record in records))
        if is_underway or model.next_action(now) is not None:
            return False
        self._check_patience(records, now)
        return _is_loaded(model, now) if version is None else _is_ready(model, version, now)

    def _check_patience(self, records: Sequence[VersionRecord], now: float) -> None:
        """End the wait for files that somebody keeps changing, with that reason."""
        changing = [record for record in records if not record.is_settled]
        if not changing:
            self.settling_since = None
            return
        if self.settling_since is None:
            self.settling_since = now
        for_seconds = now - self.settling_since
        if for_seconds < MOST_SETTLING_SECONDS:
            return
        record = max(changing, key=lambda record: record.version)
        raise NotReady(
            f"'{self.model}' version {record.version}",
            f"its files keep changing, for {for_seconds:.0f} s already, and are loaded once they "
            "rest; stop writing there, or rename a whole directory into its place",
        )

    def progress(self, model: ModelRecord | None) -> str:
        """Describe the progress."""
        if model is None:
            return "the model source has not been polled since"
        if self.version is None:
            return (
                f"{model.default} is READY"
                if model.default
                else why_not_ready(model, model.wanted())
            )
        version = Version(model.configuration.labels.get(self.version, self.version))
        record = model.versions.get(version)
        what = describe(model, record, model.wanted()) if record else "not known yet"
        return f"version {version} is {what}"


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
        raise why_not(model, version, now)
    if record.loaded is not None and not record.is_changed:
        return True
    if _is_draining(model) or not record.is_settled:
        return False
    raise why_not(model, version, now)


def _is_draining(model: ModelRecord) -> bool:
    return any(record.state is State.DRAINING for record in model.versions.values())


def _load_all(model: ModelRecord) -> None:
    model.manual.load_all()
    for record in model.versions.values():
        _retry(record)


def _load(model: ModelRecord, version: Version) -> None:
    model.manual.load(version)
    if version in model.versions:
        _retry(model.versions[version])
    if version not in model.wanted():
        model.manual.loaded.add(version)


def _retry(record: VersionRecord) -> None:
    if record.candidate is not None and record.candidate.problem is None:
        record.forget_failure()


def _unload_all(model: ModelRecord) -> None:
    for version in (*model.versions, *model.unseen):
        _unload(model, version)
    model.manual.is_stopped = True


def _unload(model: ModelRecord, version: Version) -> None:
    record = model.versions.get(version)
    model.manual.unload(version, record.candidate if record else None)
    if record is not None and not record.is_open:
        record.withdraw()
