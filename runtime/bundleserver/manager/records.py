"""The manager's record of one version. Every method is called under the manager's lock."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from bundleserver.bundle.trust.verification import SignatureStatus
from bundleserver.manager.leases import Loaded
from bundleserver.sources import Candidate
from bundleserver.sources.passing import may_pass
from bundleserver.versions import Version
from bundleserver.versions.lifecycle import State, retry_pause


@dataclass
class VersionRecord:
    """One version: its candidate, its state and its bundles.

    Its states are changed by its own methods only.

    Attributes:
        candidate: as it was last listed; None when it is no longer listed.
        entered_at: when it came to its state, in seconds since the epoch.
        state: its state; READY while its previous bundle answers and new files are loaded.
        reloading: the state of the new files meanwhile.
        loaded: the open bundle that answers.
        awaiting: the open bundle that waits for admission.
        draining: open bundles without new leases.
        failure: why the files last tried failed; an empty string if they did not.
        failing_since: when they first failed for that, in seconds since the epoch; retries that
            fail for the same leave it. None without a failure.
        signature: what their signature is worth, if they failed for it.
        tried: the fingerprint of the files that failed.
        is_refused: the files were loaded here, but not admitted.
        may_pass: what failed may succeed with the same files later, whatever the retries say.
        attempts: how often the files have failed.
        retry_at: the time of the next retry, on the manager's clock.
        underway_since: when its load began, on the manager's clock; None without a load.
        waits_for: what its load waits for other than its files; an empty string if nothing.
        waits_until: the time of the next retry after such a wait, on the manager's clock.
        waits: the number of waits since the last one that ended before its time.
        is_woken: what its load may wait for has happened since that load began.
        calls: the other models that it calls, as far as its load has come to know.
        is_in_circle: its load failed, or is about to, because they call its model.
    """

    version: Version
    candidate: Candidate | None = None
    state: State = State.DISCOVERED
    entered_at: float = field(default_factory=time.time)
    reloading: State | None = None
    loaded: Loaded | None = None
    awaiting: Loaded | None = None
    draining: list[Loaded] = field(default_factory=list)
    failure: str = ""
    failing_since: float | None = field(default=None, init=False)
    signature: SignatureStatus | None = None
    tried: str | None = None
    is_refused: bool = False
    may_pass: bool = False
    attempts: int = 0
    retry_at: float | None = None
    underway_since: float | None = None
    waits_for: str = ""
    waits_until: float | None = None
    waits: int = 0
    is_woken: bool = False
    calls: frozenset[str] = frozenset()
    is_in_circle: bool = False

    def __setattr__(self, name: str, value: object) -> None:
        """Note the time of every change of the state and failure, whichever method makes it."""
        if name == "state" and value is not getattr(self, "state", None):
            object.__setattr__(self, "entered_at", time.time())
        if name == "failure" and value != getattr(self, "failure", ""):
            object.__setattr__(self, "failing_since", time.time() if value else None)
        object.__setattr__(self, name, value)

    @property
    def is_changed(self) -> bool:
        """Whether the files differ from those that were last loaded or tried."""
        loaded = self.loaded.fingerprint if self.loaded else None
        known = {loaded, self.tried} - {None}
        if self.candidate is None or not known:
            return False
        return self.candidate.fingerprint not in known

    @property
    def is_loadable(self) -> bool:
        """Whether its files are complete, without a visible problem."""
        return self.candidate is not None and self.candidate.is_usable

    @property
    def is_settled(self) -> bool:
        """Whether nobody is still writing its files, as far as can be seen."""
        return self.candidate is None or self.candidate.settled

    @property
    def is_open(self) -> bool:
        """Whether any of its bundles answers or drains."""
        return self.loaded is not None or bool(self.draining)

    @property
    def is_underway(self) -> bool:
        """Whether it is being loaded."""
        return self.underway_since is not None

    @property
    def is_hopeful(self) -> bool:
        """Whether it may be ready soon: it has not failed and does not wait."""
        is_waiting = self.waits_until is not None
        may_come = self.is_loadable or self.is_underway
        return may_come and not (self.loaded or self.failure or is_waiting)

    def is_about(self, loaded: Loaded) -> bool:
        """Ask whether an open bundle has the current files."""
        return self.candidate is not None and self.candidate.fingerprint == loaded.fingerprint

    def see(self, candidate: Candidate) -> bool:
        """Update the candidate; returns whether it has a new failure."""
        had_problem = self.candidate is not None and self.candidate.problem is not None
        if self.candidate is not None and candidate.fingerprint != self.candidate.fingerprint:
            self.end_wait()
            if self.loaded is None and not self.is_underway:
                # Only their load tells what the new files call.
                self.calls, self.is_in_circle = frozenset(), False
        self.candidate = candidate
        if self.loaded is not None:
            if candidate.fingerprint == self.loaded.fingerprint:
                self.forget_failure()
            return False
        if candidate.problem is None:
            if had_problem:
                self.forget_failure()
            return False
        return candidate.settled and not self.is_open and self._fail_unopened(candidate)

    def _fail_unopened(self, candidate: Candidate) -> bool:
        known = self.failure
        self.failure = f"FAILED while {State.DISCOVERED.value}: {candidate.problem}"
        self.state, self.tried, self.retry_at = State.FAILED, candidate.fingerprint, None
        # What is not there has been moved while it was read, or is a link to what comes later.
        self.may_pass = may_pass(self.failure) or os.strerror(errno.ENOENT) in self.failure
        return self.failure != known

    def lose(self) -> None:
        """Record that the source no longer lists it."""
        self.candidate = None

    def begin_load(self, now: float) -> None:
        """Record the start of its load."""
        self.underway_since, self.is_woken, self.is_in_circle = now, False, False

    def end_load(self) -> None:
        """Record the end of its load."""
        self.underway_since = None

    def enter(self, state: State) -> None:
        """Record the state of the current files."""
        if self.loaded is None:
            self.state = state
        else:
            self.reloading = state

    def fail(
        self,
        tried: str,
        at: State,
        why: str,
        now: float,
        pauses_seconds: Sequence[float],
        signature: SignatureStatus | None = None,
        may_pass: bool = False,
    ) -> None:
        """Record that files failed to load; an open bundle keeps serving."""
        self.attempts = self.attempts + 1 if self.tried == tried else 1
        pause = retry_pause(self.attempts, pauses_seconds)
        self.retry_at = None if pause is None else now + pause
        self.is_refused, self.waits_for, self.waits_until = False, "", None
        self._end_with(tried, f"FAILED while {at.value}: {why}")
        self.signature, self.may_pass = signature, may_pass

    def end_hang(self, tried: str, now: float, pauses_seconds: Sequence[float]) -> None:
        """Let files be retried whose load was given up, as that has ended now."""
        is_known = self.tried == tried and bool(self.failure) and not self.is_refused
        if is_known and self.retry_at is None and not self.is_underway:
            pause = retry_pause(self.attempts, pauses_seconds)
            self.retry_at = None if pause is None else now + pause

    def refuse(self, tried: str, why: str) -> None:
        """Record that loaded files were not admitted; an open bundle keeps serving."""
        self.is_refused, self.retry_at = True, None
        self._end_with(tried, why)

    def _end_with(self, tried: str, failure: str) -> None:
        self.give_up()
        self.tried, self.failure, self.signature = tried, failure, None
        if self.loaded is None:
            self.state = State.FAILED

    def wait(self, why: str, now: float, pauses_seconds: Sequence[float]) -> bool:
        """Record that its load must wait, which is not a failure; returns whether that is new.

        It does not wait for what has already happened.
        """
        is_new = why != self.waits_for
        pause = pauses_seconds[min(self.waits, len(pauses_seconds) - 1)]
        self.waits_for, self.waits_until = why, None if self.is_woken else now + pause
        self.waits, self.is_woken = self.waits + 1, False
        self.give_up()
        return is_new

    def end_wait(self) -> None:
        """End a wait before its time, and one that a load in progress is about to begin."""
        self.waits_until, self.waits, self.is_woken = None, 0, self.is_underway

    def await_admission(self, loaded: Loaded | None) -> None:
        """Set the open bundle that waits for admission; None if there is none."""
        self.awaiting = loaded

    def give_up(self) -> None:
        """Record that a load was abandoned; an open bundle keeps serving."""
        self.reloading = None
        if self.loaded is None:
            self.state = State.DISCOVERED

    def forget_failure(self) -> None:
        """Reset failures, retries and waits; an open bundle keeps serving."""
        self.failure, self.tried, self.attempts, self.retry_at = "", None, 0, None
        self.signature = None
        self.waits_for, self.waits_until, self.waits, self.is_refused = "", None, 0, False
        self.is_in_circle = False
        if self.state is State.FAILED:
            self.state = State.DISCOVERED

    def install(self, loaded: Loaded) -> None:
        """Let a new bundle answer; the previous one drains."""
        self._drain()
        self.forget_failure()
        self.loaded, self.state, self.reloading = loaded, State.READY, None

    def withdraw(self) -> None:
        """Drain it."""
        self._drain()
        self.forget_failure()
        self.reloading = None
        self.state = State.DRAINING if self.draining else State.UNLOADED

    def _drain(self) -> None:
        if self.loaded is not None:
            self.loaded.is_withdrawn = True
            self.draining.append(self.loaded)
            self.loaded = None

    def reactivate(self) -> bool:
        """Reactivate a draining bundle if its files are unchanged; returns whether it did."""
        if self.loaded is not None or self.candidate is None:
            return False
        for loaded in self.draining:
            if self.is_about(loaded) and not loaded.is_closing:
                self.draining.remove(loaded)
                loaded.is_withdrawn = False
                self.loaded, self.state = loaded, State.READY
                return True
        return False

    def drop(self, closed: Loaded) -> None:
        """Remove a closed bundle."""
        self.draining.remove(closed)
        if self.state is State.DRAINING and not self.draining:
            self.state = State.UNLOADED
