"""Loads in progress, and loads that were given up because they did not end in time."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from bundleserver.frameworks.giving_up import Abandoned
from bundleserver.manager.admission import VersionKey
from bundleserver.manager.loading.phases import LoadSpans
from bundleserver.manager.models import ModelRecord
from bundleserver.manager.records import VersionRecord
from bundleserver.sources import Candidate
from bundleserver.versions.lifecycle import State

MOST_HUNG = 8
"""How many loads of one model may hang; a thread cannot be ended, so more are not begun."""


class GivenUp(Abandoned):
    """Raised in a load that was given up, when it comes to its next state after all."""


@dataclass(eq=False)
class Attempt:
    """One load of one version.

    Attributes:
        began: when, on the manager's clock.
        at: the state that it is in.
        waits: it has not begun yet, as the admission does not let it.
        is_open: its bundle is open, and it waits for admission at most.
        is_given_up: it took too long; whatever comes of it is closed and counts for nothing.
        spans: what a trace has of it.
    """

    model: ModelRecord
    record: VersionRecord
    candidate: Candidate
    began: float
    at: State = State.DISCOVERED
    waits: bool = False
    is_open: bool = False
    is_given_up: bool = False
    spans: LoadSpans = field(init=False)

    def __post_init__(self) -> None:
        self.spans = LoadSpans(self.model.name, self.record.version.label, self.record.waits_for)

    @property
    def key(self) -> VersionKey:
        """The version with the files that are loaded."""
        return VersionKey(self.model.name, self.record.version.label, self.candidate.fingerprint)

    def check(self) -> None:
        """Return if somebody still waits for it.

        Raises:
            GivenUp: it was given up.
        """
        if self.is_given_up:
            raise GivenUp

    def enter(self, state: State) -> None:
        """Record the state.

        Raises:
            GivenUp: it was given up.
        """
        self.check()
        self.at = state
        self.spans.enter(state)
        self.record.enter(state)


@dataclass
class Attempts:
    """The loads in progress and those that hang. Every method is called under the manager's lock.

    Attributes:
        timeout_seconds: how long a load may take, from FETCHING to WARMING; 0 is no limit.
        hung: those that were given up and have not ended yet.
    """

    timeout_seconds: float
    hung: list[Attempt] = field(default_factory=list)
    _underway: list[Attempt] = field(default_factory=list)

    def begin(self, attempt: Attempt) -> None:
        """Add a load."""
        self._underway.append(attempt)

    def end(self, attempt: Attempt) -> None:
        """Remove a load that has ended, whether it was given up or not."""
        (self.hung if attempt.is_given_up else self._underway).remove(attempt)

    def give_up_late(self, now: float) -> list[Attempt]:
        """Give up every load that is past its deadline, and return them."""
        late = [it for it in self._underway if self._seconds_left(it, now) <= 0]
        for attempt in late:
            attempt.is_given_up = True
            self._underway.remove(attempt)
            self.hung.append(attempt)
        return late

    def seconds_left(self, now: float) -> float:
        """Return the time until the next deadline; infinity without one."""
        return max(
            0.0, min((self._seconds_left(it, now) for it in self._underway), default=math.inf)
        )

    def _seconds_left(self, attempt: Attempt, now: float) -> float:
        if attempt.waits or attempt.is_open or not self.timeout_seconds:
            return math.inf
        return attempt.began + self.timeout_seconds - now

    def why_not(self, model: str, candidate: Candidate) -> str:
        """Return why a load would only hang more threads; an empty string if it may begin."""
        hung = [it.candidate for it in self.hung if it.model.name == model]
        tried = (candidate.version, candidate.fingerprint)
        if any((it.version, it.fingerprint) == tried for it in hung):
            return "an earlier load of the same files was given up and has not ended yet"
        if len(hung) >= MOST_HUNG:
            return (
                f"{len(hung)} loads of this model were given up and have not ended yet, and no "
                "more are begun; restart the server, or make their files readable"
            )
        return ""
