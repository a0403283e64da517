"""Loading a version in the background, from DISCOVERED to READY or FAILED."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

from bundleserver.errors import BundleServerError, ModelNotFound, NotReady
from bundleserver.frameworks.interface import is_from_the_keyboard
from bundleserver.manager.admission import VersionKey
from bundleserver.manager.leases import Loaded, give_memory_back, settle_memory
from bundleserver.manager.models import ModelRecord
from bundleserver.manager.records import VersionRecord
from bundleserver.manager.shared import LOG, Shared
from bundleserver.sources import Candidate, OpenBundle
from bundleserver.versions.lifecycle import State

WAIT_FOR_MEMBERS_SECONDS = (5.0, 10.0, 30.0, 60.0, 300.0)
"""The backoff of a version that waits for a model it calls, the last value repeated. The wait ends
at once when a model becomes ready."""

WAIT_FOR_THREAD_SECONDS = (1.0, 2.0, 5.0, 15.0)
"""As above, for a version whose load could not get a thread."""


class Loader:
    """Loads versions, each in its own thread; a load that hangs occupies only one thread.

    The watcher's thread claims a version under the lock and starts its load, whose outcome is
    recorded under the lock too.
    """

    def __init__(
        self,
        shared: Shared,
        open_bundle: OpenBundle,
        pauses_seconds: Sequence[float],
        clock: Callable[[], float],
        threads: int,
    ) -> None:
        """Set the maximum number of concurrent loads; with 0 a load runs in the caller's thread."""
        self._shared = shared
        self._open = open_bundle
        self._pauses_seconds = pauses_seconds
        self._clock = clock
        self._threads = threads
        self._underway = 0

    def has_room(self) -> bool:
        """Ask whether another load may start; called under the lock."""
        return self._threads == 0 or self._underway < self._threads

    def claim(self, record: VersionRecord) -> None:
        """Count a load that is about to start; called under the lock."""
        record.begin_load(self._clock())
        self._underway += 1

    def start(self, model: ModelRecord, record: VersionRecord, candidate: Candidate) -> None:
        """Start the load of a claimed version; it is retried later if no thread can be started."""
        if self._threads == 0:
            self._run(model, record, candidate)
            return
        name = f"load {model.name} {record.version}"
        run = threading.Thread(target=self._run, args=(model, record, candidate), name=name)
        # A load that hangs must not prevent the process from exiting.
        run.daemon = True
        try:
            run.start()
        except (RuntimeError, MemoryError) as error:
            why = f"waits: no thread could be started: {error}"
            self._postpone(model, record, why, WAIT_FOR_THREAD_SECONDS, logging.WARNING)
            self._end(record)

    def wait(self, timeout_seconds: float) -> bool:
        """Wait until no load is in progress; returns False on timeout."""
        with self._shared.changed:
            return self._shared.changed.wait_for(lambda: not self._underway, timeout_seconds)

    def _run(self, model: ModelRecord, record: VersionRecord, candidate: Candidate) -> None:
        try:
            if not self._load(model, record, candidate):
                give_memory_back()
        finally:
            if self._end(record):
                settle_memory()
            self._shared.work.set()

    def _end(self, record: VersionRecord) -> bool:
        """Count a load as finished; returns whether it was the last one."""
        with self._shared.change():
            record.end_load()
            self._underway -= 1
            return not self._underway

    def _load(self, model: ModelRecord, record: VersionRecord, candidate: Candidate) -> bool:
        """Load a version; returns whether it is READY."""
        started, at = self._clock(), State.DISCOVERED

        def enter(state: State) -> None:
            nonlocal at
            at = state
            with self._shared.change():
                record.enter(state)
            LOG.info("%s %s: %s", model.name, record.version, state.value.lower())

        try:
            loaded = self._open_candidate(candidate, enter, started)
        except (NotReady, ModelNotFound) as error:
            # It calls another model of this process, which is not ready yet; an unknown one is
            # probably a mistake.
            level = logging.WARNING if isinstance(error, ModelNotFound) else logging.INFO
            self._postpone(model, record, f"waits: {error}", WAIT_FOR_MEMBERS_SECONDS, level)
        except BundleServerError as error:
            self._fail(model, record, candidate, at, str(error))
        except BaseException as error:  # a framework may raise anything, and exit
            if is_from_the_keyboard(error):
                raise
            what = (model.name, record.version, at.value.lower())
            LOG.exception("%s %s: unexpected error while %s", *what)
            self._fail(model, record, candidate, at, f"{type(error).__name__}: {error}")
        else:
            return self._admit(model, record, loaded)
        return False

    def _open_candidate(
        self, candidate: Candidate, enter: Callable[[State], None], started: float
    ) -> Loaded:
        bundle = self._open(candidate, enter)
        try:
            seconds = self._clock() - started
            return Loaded(
                bundle,
                candidate.version,
                candidate.fingerprint,
                seconds,
                time.time(),
                self._shared.lock,
                self._shared.note_drained,
            )
        except BaseException:
            bundle.close()
            raise

    def _admit(self, model: ModelRecord, record: VersionRecord, loaded: Loaded) -> bool:
        """Let an open bundle answer once it is admitted; returns False if it was closed instead.

        A version that waits for admission does not delay other loads.
        """
        key = VersionKey(model.name, record.version.label, loaded.fingerprint)

        def is_decided() -> bool:
            admission = self._shared.admission
            is_over = self._is_unwanted(model, record) or not record.is_about(loaded)
            return is_over or admission.may_serve(key) or admission.refusal(key) is not None

        with self._shared.change():
            record.await_admission(loaded)
            self._underway -= 1
            self._shared.changed.notify_all()
            self._shared.changed.wait_for(is_decided)
            self._underway += 1
            record.await_admission(None)
            is_ready = self._conclude(model, record, loaded, key)
            model.settle()
        if not is_ready:
            loaded.close()
        return is_ready

    def _is_unwanted(self, model: ModelRecord, record: VersionRecord) -> bool:
        return self._shared.is_closing or record.version in model.manual.unloaded

    def _conclude(
        self, model: ModelRecord, record: VersionRecord, loaded: Loaded, key: VersionKey
    ) -> bool:
        """Record the outcome of an open bundle, under the lock; returns whether it answers."""
        admission = self._shared.admission
        if self._is_unwanted(model, record):
            record.withdraw()
            model.note(logging.INFO, "closed: it was unloaded during its load", record.version)
        elif admission.may_serve(key):
            model.install(record.version, loaded)
            for other in self._shared.models.values():
                other.end_waits()
            return True
        elif (why := admission.refusal(key)) is not None:
            record.refuse(loaded.fingerprint, why)
            model.note_failure(record)
        else:
            record.give_up()
        return False

    def _postpone(
        self,
        model: ModelRecord,
        record: VersionRecord,
        why: str,
        pauses_seconds: Sequence[float],
        level: int,
    ) -> None:
        """Let a version wait for something other than its files."""
        with self._shared.change():
            if record.wait(why, self._clock(), pauses_seconds):
                model.note(level, why, record.version)
            model.settle()

    def _fail(
        self, model: ModelRecord, record: VersionRecord, candidate: Candidate, at: State, why: str
    ) -> None:
        with self._shared.change():
            record.fail(candidate.fingerprint, at, why, self._clock(), self._pauses_seconds)
            self._shared.failures[model.name, at] += 1
            if record.version in model.manual.unloaded:
                record.withdraw()
            else:
                model.note_failure(record)
            model.settle()
