"""Bringing a version up, from DISCOVERED to READY or FAILED, while the watcher goes on looking."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

from bundleserver.errors import BundleServerError, ModelNotFound, NotReady
from bundleserver.manager.leases import Loaded, give_memory_back, settle_memory
from bundleserver.manager.models import ModelRecord
from bundleserver.manager.records import VersionRecord
from bundleserver.manager.shared import LOG, Shared, log_notes
from bundleserver.sources import Candidate, OpenBundle
from bundleserver.versions.lifecycle import State

WAIT_FOR_MEMBERS_SECONDS = (5.0, 10.0, 30.0, 60.0, 300.0)
"""How long a version waits for a model that it calls before it asks again by itself; the last one
for all more. A model that comes up is noticed at once."""


class Loader:
    """Loads versions, each in a thread of its own; a load that hangs keeps one thread, no more.

    The watcher's thread claims a version under the lock and starts it; what the load has come to is
    put into the records under the lock as well.
    """

    def __init__(
        self,
        shared: Shared,
        open_bundle: OpenBundle,
        pauses_seconds: Sequence[float],
        clock: Callable[[], float],
        threads: int,
    ) -> None:
        """Take at most so many loads at a time; with 0 threads each runs in the caller's."""
        self._shared = shared
        self._open = open_bundle
        self._pauses_seconds = pauses_seconds
        self._clock = clock
        self._threads = threads
        self._underway = 0

    def has_room(self) -> bool:
        """Ask whether another load may start now; called under the lock."""
        return self._threads == 0 or self._underway < self._threads

    def claim(self, record: VersionRecord) -> None:
        """Count a load that is about to start; called under the lock."""
        record.underway_since = self._clock()
        self._underway += 1

    def start(self, model: ModelRecord, record: VersionRecord, candidate: Candidate) -> None:
        """Begin the load of a version that was claimed; without threads, also end it."""
        if self._threads == 0:
            self._run(model, record, candidate)
            return
        name = f"load {model.name} {record.version}"
        run = threading.Thread(target=self._run, args=(model, record, candidate), name=name)
        # A load that hangs must not keep the process from ending.
        run.daemon = True
        run.start()

    def wait(self, timeout_seconds: float) -> bool:
        """Wait until no load is underway; returns whether that was in time."""
        with self._shared.changed:
            return self._shared.changed.wait_for(lambda: not self._underway, timeout_seconds)

    def _run(self, model: ModelRecord, record: VersionRecord, candidate: Candidate) -> None:
        try:
            if not self._bring_up(model, record, candidate):
                give_memory_back()
        finally:
            with self._shared.changed:
                record.underway_since = None
                self._underway -= 1
                is_idle = not self._underway
                self._shared.changed.notify_all()
            if is_idle:
                settle_memory()
            self._shared.work.set()

    def _bring_up(self, model: ModelRecord, record: VersionRecord, candidate: Candidate) -> bool:
        """Take a version from DISCOVERED to READY, or to FAILED; returns whether it is up."""
        started, at = self._clock(), State.DISCOVERED

        def enter(state: State) -> None:
            nonlocal at
            at = state
            with self._shared.changed:
                record.enter(state)
                self._shared.changed.notify_all()
            LOG.info("%s %s: %s", model.name, record.version, state.value.lower())

        try:
            loaded = self._open_candidate(candidate, enter, started)
            if not self._wait_for_others(model, record, loaded):
                loaded.close()
                return False
        except (NotReady, ModelNotFound) as error:
            # It calls another model of this process, which is not there yet.
            self._wait_for_member(model, record, error)
        except BundleServerError as error:
            self._fail(model, record, candidate, at, str(error))
        except (Exception, SystemExit) as error:  # noqa: BLE001  # a framework may raise anything
            what = (model.name, record.version, at.value.lower())
            LOG.exception("%s %s: unexpected error while %s", *what)
            self._fail(model, record, candidate, at, f"{type(error).__name__}: {error}")
        else:
            return self._install(model, record, loaded)
        return False

    def _open_candidate(
        self, candidate: Candidate, enter: Callable[[State], None], started: float
    ) -> Loaded:
        bundle = self._open(candidate, enter)
        try:
            seconds = self._clock() - started
            return Loaded(bundle, candidate.version, candidate.fingerprint, seconds, time.time())
        except BaseException:
            bundle.close()
            raise

    def _wait_for_others(self, model: ModelRecord, record: VersionRecord, loaded: Loaded) -> bool:
        """Wait until the version may answer, or is to be withdrawn; returns False for all else.

        What waits keeps no other version from being loaded.
        """
        gate, key = self._shared.gate, (model.name, record.version.label, loaded.fingerprint)
        if gate.agreed is None:
            return True

        def is_withdrawn() -> bool:
            return self._shared.is_closing or record.version in model.held

        def is_over() -> bool:
            is_decided = gate.passes(key) or key in gate.failed
            return is_decided or is_withdrawn() or not record.is_about(loaded)

        with self._shared.changed:
            gate.waiting.add(key)
            self._underway -= 1
            self._shared.changed.notify_all()
            self._shared.changed.wait_for(is_over)
            self._underway += 1
            gate.waiting.discard(key)
            may_answer = gate.passes(key) or is_withdrawn()
            if not may_answer and key in gate.failed:
                record.block(key, gate.failed[key])
                model.note_failure(record)
                model.settle()
            elif not may_answer:
                record.give_up()
            notes = self._shared.take_notes()
            self._shared.changed.notify_all()
        log_notes(notes)
        return may_answer

    def _wait_for_member(self, model: ModelRecord, record: VersionRecord, why: Exception) -> None:
        with self._shared.changed:
            is_new = record.wait(f"waits, as {why}", self._clock(), WAIT_FOR_MEMBERS_SECONDS)
            model.settle()
            notes = self._shared.take_notes()
        if is_new:
            # A model that is not there at all is likely to be somebody's mistake.
            level = logging.WARNING if isinstance(why, ModelNotFound) else logging.INFO
            LOG.log(level, "%s %s: %s", model.name, record.version, record.waits_for)
        log_notes(notes)

    def _fail(
        self,
        model: ModelRecord,
        record: VersionRecord,
        candidate: Candidate,
        at: State,
        why: str,
    ) -> None:
        with self._shared.changed:
            record.fail(candidate.fingerprint, at, why, self._clock(), self._pauses_seconds)
            self._shared.failures[model.name, at] += 1
            if record.version in model.held:
                record.withdraw()
            else:
                model.note_failure(record)
            model.settle()
            notes = self._shared.take_notes()
            self._shared.changed.notify_all()
        log_notes(notes)

    def _install(self, model: ModelRecord, record: VersionRecord, loaded: Loaded) -> bool:
        """Lend what was opened, unless it was unloaded by hand meanwhile, or the process ends."""
        with self._shared.changed:
            is_wanted = not self._shared.is_closing and record.version not in model.held
            if is_wanted:
                model.install(record.version, loaded)
                for other in self._shared.models.values():
                    other.wait_no_longer()
            else:
                record.withdraw()
            notes = self._shared.take_notes()
            self._shared.changed.notify_all()
        log_notes(notes)
        if not is_wanted:
            loaded.close()
            LOG.info("%s %s: closed, as it was unloaded meanwhile", model.name, record.version)
        return is_wanted
