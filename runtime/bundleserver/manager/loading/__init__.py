"""Loading a version in the background, from DISCOVERED to READY or FAILED."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

from bundleserver.bundle.trust.verification import SignatureRefused
from bundleserver.errors import BundleError, BundleServerError, ModelNotFound
from bundleserver.frameworks.giving_up import checked_by
from bundleserver.frameworks.interface import passes_through
from bundleserver.manager.admission import VersionKey
from bundleserver.manager.leases import Loaded, give_memory_back, settle_memory
from bundleserver.manager.loading.attempts import Attempt, Attempts, GivenUp
from bundleserver.manager.loading.beginning import is_unwanted, may_begin
from bundleserver.manager.loading.phases import WAITS, wait_reason
from bundleserver.manager.loading.told import Tell, ToldLoads
from bundleserver.manager.models import ModelRecord
from bundleserver.manager.records import VersionRecord
from bundleserver.manager.shared import LOG, Shared
from bundleserver.sources import Candidate, OpenBundle
from bundleserver.sources.passing import may_pass
from bundleserver.versions.lifecycle import State

WAIT_FOR_MEMBERS_SECONDS = (5.0, 10.0, 30.0, 60.0, 300.0)
"""The backoff of a version that waits for a model it calls, the last value repeated. The wait ends
at once when a model becomes ready."""

WAIT_FOR_THREAD_SECONDS = (1.0, 2.0, 5.0, 15.0)
"""As above, for a version whose load could not get a thread."""

WAIT_FOR_HUNG_SECONDS = (60.0,)
"""As above, for a version that is not loaded while earlier loads hang; their end ends the wait."""


class Loader:
    """Loads versions, each in its own thread; a load that hangs occupies only one thread.

    The watcher's thread claims a version under the lock and starts its load, whose outcome is
    recorded under the lock too. It gives up a load past its deadline: the version is FAILED,
    another may be loaded, and whatever the load opens later is closed.
    """

    def __init__(
        self,
        shared: Shared,
        open_bundle: OpenBundle,
        pauses_seconds: Sequence[float],
        clock: Callable[[], float],
        threads: int,
        timeout_seconds: float = 0.0,
        tell: Tell | None = None,
    ) -> None:
        """Set the maximum number of concurrent loads; with 0 a load runs in the caller's thread."""
        self._told = ToldLoads(tell)
        self._shared = shared
        self._open = open_bundle
        self._pauses_seconds = pauses_seconds
        self._clock = clock
        self._threads, self._underway = threads, 0
        self._attempts = Attempts(timeout_seconds)

    def has_room(self) -> bool:
        """Ask whether another load may start; called under the lock."""
        return self._threads == 0 or self._underway < self._threads

    def claim(self, model: ModelRecord, record: VersionRecord) -> Attempt | None:
        """Count a load that is about to start; called under the lock.

        None: it would only hang as an earlier one does, and waits for that to end.
        """
        now = self._clock()
        if record.candidate is None:
            return None
        if why := self._attempts.why_not(model.name, record.candidate):
            if record.wait(f"waits: {why}", now, WAIT_FOR_HUNG_SECONDS):
                model.note(logging.WARNING, f"waits: {why}", record.version)
            model.settle()
            return None
        attempt = Attempt(model, record, record.candidate, now)
        record.begin_load(now)
        self._attempts.begin(attempt)
        self._underway += 1
        return attempt

    def start(self, attempt: Attempt) -> None:
        """Start a claimed load; it is retried later if no thread can be started."""
        if self._threads == 0:
            self._run(attempt)
            return
        name = f"load {attempt.model.name} {attempt.record.version}"
        run = threading.Thread(target=self._run, args=(attempt,), name=name)
        # A load that hangs must not prevent the process from exiting.
        run.daemon = True
        try:
            run.start()
        except (RuntimeError, MemoryError) as error:
            why = f"waits: no thread could be started: {error}"
            self._postpone(attempt, why, WAIT_FOR_THREAD_SECONDS, logging.WARNING)
            self._end(attempt)

    def wait(self, timeout_seconds: float) -> bool:
        """Wait until no load is in progress; returns False on timeout, and if one hangs.

        A load that was given up is not waited for.
        """
        with self._shared.changed:
            self._shared.changed.wait_for(lambda: not self._underway, timeout_seconds)
            return not (self._underway or self._attempts.hung)

    def seconds_left(self) -> float:
        """Return the time until the next deadline of a load; infinity without one."""
        with self._shared.changed:
            return self._attempts.seconds_left(self._clock())

    def give_up_late(self) -> list[Candidate]:
        """Let loads past their deadline fail, and others begin; returns what they were of."""
        with self._shared.change():
            late = self._attempts.give_up_late(self._clock())
            for attempt in late:
                attempt.record.end_load()
                self._underway -= 1
                why = (
                    f"not finished within {self._attempts.timeout_seconds:g} s "
                    "(--load_timeout_seconds); the files are not tried again before that load ends"
                )
                self._record_failure(attempt, why, (), TimeoutError(why))
            is_idle = not self._underway
        if late and is_idle:
            settle_memory()
        return [attempt.candidate for attempt in late]

    def _run(self, attempt: Attempt) -> None:
        try:
            if not (self._may_begin(attempt) and self._load(attempt)):
                give_memory_back()
        finally:
            if self._end(attempt):
                settle_memory()
            self._shared.work.set()

    def _may_begin(self, attempt: Attempt) -> bool:
        return may_begin(self._shared, attempt, self._clock, self.has_room, self._count)

    def _count(self, more: int) -> None:
        self._underway += more

    def _end(self, attempt: Attempt) -> bool:
        """Count a load as finished; returns whether it was the last one."""
        model, record = attempt.model, attempt.record
        with self._shared.change():
            self._attempts.end(attempt)
            if not attempt.is_given_up:
                record.end_load()
                self._underway -= 1
            else:
                record.end_hang(attempt.candidate.fingerprint, self._clock(), self._pauses_seconds)
                model.end_waits()
                what = "the load that was given up has ended; what it opened was closed"
                model.note(logging.WARNING, what, record.version)
            return not self._underway

    def _load(self, attempt: Attempt) -> bool:
        """Load a version; returns whether it is READY."""
        started = self._clock()
        what = (attempt.model.name, attempt.record.version)

        def enter(state: State) -> None:
            with self._shared.change():
                attempt.enter(state)
            LOG.info("%s %s: %s", *what, state.value.lower())

        try:
            with attempt.spans, checked_by(attempt.check), self._told.during(attempt.key):
                loaded = self._open_candidate(attempt, enter, started)
        except GivenUp:
            pass
        except WAITS as error:
            # An unknown model is probably a mistake.
            level = logging.WARNING if isinstance(error, ModelNotFound) else logging.INFO
            self._postpone(attempt, wait_reason(error), WAIT_FOR_MEMBERS_SECONDS, level)
        except BundleServerError as error:
            self._fail(attempt, str(error), error)
        except BaseException as error:  # a framework may raise anything, and exit
            if passes_through(error):
                raise
            LOG.exception("%s %s: unexpected error while %s", *what, attempt.at.value.lower())
            self._fail(attempt, f"{type(error).__name__}: {error}", error)
        else:
            return self._may_serve(attempt, loaded) and self._admit(attempt, loaded)
        return False

    def _may_serve(self, attempt: Attempt, loaded: Loaded) -> bool:
        with self._shared.changed:
            why = self._shared.refuses_breaks and attempt.model.would_break(loaded)
            if not why:
                return True
        loaded.close()
        refused = BundleError(f"{why} (--breaking_signature=refuse)")
        self._fail(attempt, str(refused), refused)
        return False

    def _open_candidate(
        self, attempt: Attempt, enter: Callable[[State], None], started: float
    ) -> Loaded:
        candidate, shared = attempt.candidate, self._shared
        try:
            bundle = self._open(candidate, enter)
        finally:
            with shared.changed:
                shared.admission.end_load(attempt.key)
        try:
            what = (bundle, candidate.version, candidate.fingerprint, self._clock() - started)
            return Loaded(*what, time.time(), shared.lock, shared.note_drained)
        except BaseException:
            bundle.close()
            raise

    def _admit(self, attempt: Attempt, loaded: Loaded) -> bool:
        """Let an open bundle answer once it is admitted, or close it; delays no other load."""
        model, record = attempt.model, attempt.record
        key = VersionKey(model.name, record.version.label, loaded.fingerprint)

        def is_decided() -> bool:
            admission = self._shared.admission
            is_over = is_unwanted(self._shared, model, record) or not record.is_about(loaded)
            return is_over or admission.may_serve(key) or admission.refusal(key) is not None

        is_ready = False
        with self._shared.change():
            if not attempt.is_given_up:
                attempt.is_open = True
                record.await_admission(loaded)
                self._underway -= 1
                self._shared.changed.notify_all()
                self._shared.changed.wait_for(is_decided)
                self._underway += 1
                record.await_admission(None)
                is_ready = self._conclude(model, record, loaded, key)
                model.settle()
        if is_ready:
            self._told.stop()
        else:
            loaded.close()
        return is_ready

    def _conclude(
        self, model: ModelRecord, record: VersionRecord, loaded: Loaded, key: VersionKey
    ) -> bool:
        """Record the outcome of an open bundle, under the lock; returns whether it answers."""
        admission = self._shared.admission
        if is_unwanted(self._shared, model, record):
            record.withdraw()
            model.note(logging.INFO, "closed: it was unloaded during its load", record.version)
        elif admission.may_serve(key):
            model.install(record.version, loaded)
            self._shared.has_served = True
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
        self, attempt: Attempt, why: str, pauses_seconds: Sequence[float], level: int
    ) -> None:
        """Let a version wait for something other than its files."""
        model, record = attempt.model, attempt.record
        with self._shared.change():
            if attempt.is_given_up:
                return
            if record.wait(why, self._clock(), pauses_seconds):
                model.note(level, why, record.version)
            model.settle()

    def _fail(self, attempt: Attempt, why: str, error: BaseException) -> None:
        with self._shared.change():
            if not attempt.is_given_up:
                self._record_failure(attempt, why, self._pauses_seconds, error)

    def _record_failure(
        self, attempt: Attempt, why: str, pauses_seconds: Sequence[float], error: BaseException
    ) -> None:
        """Record that a load failed, under the lock."""
        model, record, at = attempt.model, attempt.record, attempt.at
        tried, now = attempt.candidate.fingerprint, self._clock()
        signature = error.status if isinstance(error, SignatureRefused) else None
        record.fail(tried, at, why, now, pauses_seconds, signature, may_pass(why, error))
        self._shared.failures[model.name, at] += 1
        if record.version in model.manual.unloaded:
            record.withdraw()
        else:
            model.note_failure(record)
        model.settle()
