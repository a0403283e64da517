"""The manager's record of one model. Every method is called under the manager's lock."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType

from bundleserver.errors import VersionNotFound
from bundleserver.manager.admission import Admission, VersionKey
from bundleserver.manager.breaking import LastServed
from bundleserver.manager.configuration import Configuration, Note
from bundleserver.manager.leases import Loaded
from bundleserver.manager.manual import ManualOrders
from bundleserver.manager.records import VersionRecord
from bundleserver.sources import Listing
from bundleserver.versions import Version, VersionPolicy, is_version_label
from bundleserver.versions.lifecycle import (
    Load,
    Snapshot,
    State,
    SwapPolicy,
    Unload,
    default_version,
    next_action,
    wanted_versions,
)


class ModelRecord:
    """One model: its versions, its manual loads and unloads, and its default version.

    Attributes:
        is_asked: the process was started for this model, so it is known without versions.
        unseen: versions known by name only, as nothing has demanded them yet.
        incomplete: versions that have no files yet, or not all.
        untried: versions that went away before they were ever tried.
        is_read: the last poll could read its directory; else nothing new is known of it.
        default: the version for requests that name none.
        serving: the default version's open bundle.
        last_served: what clients of the version that served last rely on.
        is_split: as in ``Manager.is_split``.
        reason: what the source waits for, if it found nothing.
    """

    def __init__(
        self,
        name: str,
        policy: VersionPolicy,
        swap: SwapPolicy,
        admission: Admission,
        manual: ManualOrders,
        is_asked: bool = False,
        traffic: Mapping[str, float] = MappingProxyType({}),
    ) -> None:
        self.name = name
        self.is_asked = is_asked
        self.configuration = Configuration(policy, traffic)
        self.versions: dict[Version, VersionRecord] = {}
        self.unseen: tuple[Version, ...] = ()
        self.incomplete: tuple[Version, ...] = ()
        self.untried: set[Version] = set()
        self.is_read = True
        self.manual = manual
        self.default: Version | None = None
        self.serving: Loaded | None = None
        self.last_served = LastServed()
        self.is_split = False
        self.reason = "waiting for the first poll of the model source"
        self._is_listed = False
        self._warnings: tuple[str, ...] = ()
        self._swap = swap
        self._admission = admission
        self._notes: list[Note] = []

    @property
    def policy(self) -> VersionPolicy:
        """The version policy in effect."""
        return self.configuration.policy

    def update(self, listing: Listing) -> None:
        """Update from a poll; an empty listing removes no version that answers.

        One that could not be read changes nothing but the reason.
        """
        for text in listing.warnings:
            if text not in self._warnings:
                self.note(logging.WARNING, text)
        if listing.reason not in ("", self.reason):
            self.note(logging.INFO, listing.reason)
        self.reason, self._is_listed = listing.reason, True
        was_read, self.is_read = self.is_read, listing.is_read
        if not listing.is_read:
            if was_read and self.open_versions():
                self.note(logging.WARNING, f"{listing.reason}; {self.kept()}")
            return
        self._warnings = listing.warnings
        self.unseen, self.incomplete = listing.unseen, listing.incomplete
        listed = {candidate.version: candidate for candidate in listing.candidates}
        if listed or self.unseen or not self.open_versions():
            known = {*listed, *self.unseen, *self.open_versions()}
            self.manual.loaded &= known
            self._note_all(self.configuration.consider(listing, known, self.default is not None))
        elif any(record.candidate for record in self.versions.values()):
            self.note(logging.WARNING, f"{listing.reason or 'no version is listed'}; {self.kept()}")
        for version in {*self.versions} - {*listed}:
            self._lose(version)
        self.untried -= {*listed, *self.unseen}
        for version, candidate in listed.items():
            record = self.versions.setdefault(version, VersionRecord(version))
            if record.see(candidate):
                self.note_failure(record)
            if self.manual.see(candidate):
                self.note(logging.INFO, "published again, so its manual unload ends", version)
        self.settle()

    def settle(self) -> None:
        """Update the configuration in effect and the default version."""
        is_settled = False
        while not is_settled:
            before = self.default
            self._note_all(self.configuration.advance(self.versions, self.manual.unloaded, before))
            self.default = default_version(self.snapshots(), self.policy, before)
            is_settled = self.default == before
        self.serving = None if self.default is None else self.versions[self.default].loaded
        labels = self.configuration.labels
        if not self.manual.is_stopped:
            for version, why in self.last_served.follow(self.serving, labels, self.versions):
                self.note(logging.WARNING, why, version)
        self.is_split = self.configuration.in_effect.is_split

    def would_break(self, loaded: Loaded) -> str:
        """Say what breaks clients if a bundle is installed, for which it may be refused."""
        snapshots = [
            replace(snapshot, state=State.READY) if snapshot.version == loaded.version else snapshot
            for snapshot in self.snapshots()
        ]
        serves = default_version(snapshots, self.policy, self.default) == loaded.version
        return self.last_served.why_not(loaded, self.versions) if serves else ""

    def next_action(self, now: float, may_load: bool = True) -> Load | Unload | None:
        """Return the one thing to do next, or None."""
        may = may_load and self.is_read
        return next_action(self.snapshots(), self.policy, self._swap, now, may)

    def snapshots(self) -> list[Snapshot]:
        """Return a snapshot of every version for the lifecycle."""
        named, default = self.configuration.named, self.configuration.default
        loaded = {*self.manual.loaded, *self._admission.required(self.name)}
        return [
            Snapshot(
                version,
                record.state,
                listed=record.candidate is not None,
                loadable=record.is_loadable,
                changed=record.is_changed,
                manually_unloaded=version in self.manual.unloaded,
                manually_loaded=version in loaded,
                named=version in named,
                default=version == default,
                retry_at=record.retry_at,
                underway_since=record.underway_since,
                waits_until=record.waits_until,
            )
            for version, record in self.versions.items()
        ]

    def wanted(self) -> frozenset[Version]:
        """Return the versions that should be loaded."""
        return wanted_versions(self.snapshots(), self.policy)

    def open_versions(self) -> list[Version]:
        """Return the loaded versions, newest first."""
        return sorted((v for v, record in self.versions.items() if record.loaded), reverse=True)

    def is_settling(self) -> bool:
        """Ask whether any version's files are still being written."""
        return not all(record.is_settled for record in self.versions.values())

    def is_pending(self) -> bool:
        """Ask whether it may become ready soon; failed versions do not count, even if retried."""
        if self.default is not None:
            return False
        wanted = self.wanted()
        hopeful = (record.is_hopeful for v, record in self.versions.items() if v in wanted)
        return not self._is_listed or self.is_settling() or any(hopeful)

    def is_waiting(self) -> bool:
        """Ask whether it has no version that answers, is loaded or has failed: its files lack."""
        return not any(r.is_open or r.is_underway or r.failure for r in self.versions.values())

    def resolve(self, name: str) -> Version:
        """Return the version that a version or label refers to.

        Raises:
            VersionNotFound: it is neither.
        """
        label = self.configuration.labels.get(name, name)
        if is_version_label(label):
            return Version(label)
        raise VersionNotFound(self.name, name, self.known_names())

    def known_versions(self) -> list[Version]:
        """Return every version that there is, newest first."""
        return sorted({*self.versions, *self.unseen}, reverse=True)

    def known_names(self) -> str:
        """List the known versions and labels."""
        return self.configuration.names(self.known_versions())

    def withdraw(self, version: Version) -> None:
        """Drain a version."""
        record = self.versions[version]
        was_open = record.loaded is not None
        record.withdraw()
        if was_open:
            self.note(logging.INFO, "draining", version)
        self.settle()

    def reactivate(self, version: Version) -> bool:
        """Reactivate a draining version if its files are unchanged; returns whether it did."""
        is_open = self.versions[version].reactivate()
        if is_open:
            self.note(logging.INFO, "ready again; it had not been closed yet", version)
            self.settle()
        return is_open

    def reconsider(self) -> None:
        """Let versions that are no longer refused be loaded again."""
        for version, record in self.versions.items():
            if record.is_refused:
                key = VersionKey(self.name, version.label, str(record.tried))
                if self._admission.refusal(key) is None:
                    record.forget_failure()

    def end_waits(self) -> None:
        """End all waits for other models, as one has become ready."""
        for record in self.versions.values():
            record.end_wait()

    def install(self, version: Version, loaded: Loaded) -> None:
        """Let a new bundle answer, and log what it replaces."""
        record, before = self.versions[version], self.default
        in_place = record.loaded is not None
        record.install(loaded)
        self.settle()
        replaced = ""
        if in_place:
            replaced = ", replaces its previous files"
        elif self.default == version and before is not None:
            replaced = f", replaces {before}"
        self.note(logging.INFO, f"ready in {loaded.load_seconds:.1f} s{replaced}", version)

    def note_failure(self, record: VersionRecord) -> None:
        """Log why a version failed, and which versions keep serving."""
        head, colon, why = record.failure.partition(":")
        kept = f"; {self.kept()}" if self.open_versions() else ""
        self.note(logging.ERROR, f"{head.lower()}{colon}{why}{kept}", record.version)

    def kept(self) -> str:
        """List the versions that keep serving."""
        return "kept " + ", ".join(map(str, self.open_versions()))

    def note(self, level: int, text: str, version: Version | None = None) -> None:
        """Store a line for the log, which is written after the lock is released."""
        about = self.name if version is None else f"{self.name} {version}"
        self._notes.append((level, f"{about}: {text}"))

    def take_notes(self) -> list[Note]:
        """Return the stored lines for the log, and remove them."""
        notes, self._notes = self._notes, []
        return notes

    def _note_all(self, notes: Iterable[Note]) -> None:
        for level, text in notes:
            self.note(level, text)

    def drop(self, loaded: Loaded) -> None:
        """Remove a closed bundle."""
        record = self.versions.get(loaded.version)
        if record is not None and loaded in record.draining:
            record.drop(loaded)
            self._forget_lost(record)

    def _lose(self, version: Version) -> None:
        record = self.versions[version]
        was_begun = record.tried is not None or record.is_underway or record.is_open
        if not was_begun and version not in self.manual.unloaded:
            self.untried.add(version)
        record.lose()
        self._forget_lost(record)

    def _forget_lost(self, record: VersionRecord) -> None:
        if record.candidate is None and not (record.is_open or record.is_underway):
            del self.versions[record.version]
