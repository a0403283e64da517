"""Running canaries: the counts of their steps, and their progress.

``canary.decide`` decides; this module counts, and has the outcome kept. A demoted version stays
demoted until its files change. Called from the event loop and from threads: nothing here waits.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from bundleserver.serving.traffic.canary_state import Phase, Progress
from bundleserver.serving.traffic.canary_store import ProgressStore
from bundleserver.versions.canary import (
    CanaryRules,
    Counts,
    Decision,
    Verdict,
    Window,
    decide,
    latency_class,
)
from bundleserver.versions.comparison import Comparison

if TYPE_CHECKING:
    from bundleserver.manager import TrafficStatus

LOG = logging.getLogger(__name__)

_PAUSE_SECONDS = 0.1
"""Minimum time between two decisions, so that few requests pay for one."""


@dataclass
class _Tally:
    """One version's counts in the current step."""

    requests: int = 0
    errors: int = 0
    refused: int = 0
    latencies: Counter[int] = field(default_factory=Counter)

    def counts(self) -> Counts:
        return Counts(self.requests, self.errors, self.refused, dict(self.latencies))


@dataclass(frozen=True)
class Contest:
    """A canary, the default version that it replaces, and the fingerprints of both."""

    canary: str
    base: str
    files: tuple[str, str]


class CanaryRun:
    """One canary, from its first step until it is promoted or demoted."""

    def __init__(
        self, rules: CanaryRules, contest: Contest, progress: Progress, clock: Callable[[], float]
    ) -> None:
        self.rules = rules
        self.contest = contest
        self.progress = progress
        self._clock = clock
        self._base = Counts()
        self._decided = -math.inf
        self.begin_step()

    @property
    def share(self) -> float:
        """The canary's current share of the requests in percent."""
        if self.progress.phase is Phase.DEMOTED:
            return 0.0
        return self.rules.steps[min(self.progress.step, len(self.rules.steps) - 1)]

    def begin_step(self) -> None:
        """Reset the counts."""
        self._tallies = {self.contest.canary: _Tally(), self.contest.base: _Tally()}
        self._comparisons = self._compared = self._agreed = 0
        self._began = self._clock()

    def count(self, version: str, outcome: str, seconds: float) -> None:
        """Count one request to a version."""
        tally = self._tallies.get(version)
        if tally is None:
            return
        tally.requests += 1
        tally.errors += outcome in ("error", "not_ready")
        tally.refused += outcome == "invalid_input"
        if outcome == "ok":
            tally.latencies[latency_class(seconds)] += 1

    def compare(self, found: Comparison) -> None:
        """Count one comparison of the canary with the default."""
        values, equal = found.agreement
        self._comparisons += 1
        self._compared += values
        self._agreed += equal

    def window(self) -> Window:
        """Return all counts of this step."""
        return Window(
            self._tallies[self.contest.canary].counts(),
            self._tallies[self.contest.base].counts(),
            self._comparisons,
            self._compared,
            self._agreed,
        )

    def decide(self) -> Decision | None:
        """Decide, and apply the decision; None if it is too early or the canary has ended."""
        now = self._clock()
        if self.progress.phase is not Phase.RUNNING or now - self._decided < _PAUSE_SECONDS:
            return None
        self._decided = now
        window = self.window()
        decision = decide(self.rules, self.progress.step, window, now - self._began, self._base)
        if window.base.requests >= self.rules.min_requests:
            self._base = window.base
        self.progress = _after(self.progress, decision)
        if decision.verdict is not Verdict.WAIT:
            self.begin_step()
        return decision

    def change(self, rules: CanaryRules, contest: Contest) -> None:
        """Continue with other rules, or another default, from the current share.

        One that was promoted by other rules has these to hold.
        """
        reached = self.share
        if rules != self.rules and self.progress.phase is Phase.PROMOTED:
            self.progress = Progress(self.progress.files, reason="the rules have changed")
        self.rules, self.contest, self._base = rules, contest, Counts()
        if self.progress.phase is not Phase.DEMOTED:
            steps = [at for at, share in enumerate(rules.steps) if share >= reached]
            step = steps[0] if steps else len(rules.steps) - 1
            self.progress = replace(self.progress, step=step)
        self.begin_step()


class Canaries:
    """The canary of every model, as configured in its ``serving.json``."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._canaries: dict[str, CanaryRun] = {}
        self._store = ProgressStore(self._take_over)

    def share(self, model: str, traffic: TrafficStatus) -> float | None:
        """Return the canary's share of the requests in percent; None if it is not ready."""
        with self._lock:
            rollout = self._rollout(model, traffic)
            return None if rollout is None else rollout.share

    def count(
        self, model: str, traffic: TrafficStatus, version: str, outcome: str, seconds: float
    ) -> None:
        """Count a request of the traffic split, and decide about the canary."""
        self._store.retry(model)
        with self._lock:
            rollout = self._rollout(model, traffic)
            if rollout is None:
                return
            rollout.count(version, outcome, seconds)
            decision = rollout.decide()
            if decision is None or decision.verdict is Verdict.WAIT:
                return
            version = rollout.contest.canary
            self._store.keep(model, traffic.root, version, rollout.progress)
        _tell(model, version, decision)

    def compare(self, model: str, contest: Contest, found: Comparison) -> None:
        """Count a comparison, if the canary and its default are still the same."""
        with self._lock:
            rollout = self._canaries.get(model)
            if rollout is not None and rollout.contest == contest:
                rollout.compare(found)

    def compared(self, model: str, traffic: TrafficStatus) -> Contest | None:
        """Return the canary and default to compare for the rules; None if they need none."""
        with self._lock:
            rollout = self._rollout(model, traffic)
            if rollout is None or rollout.progress.phase is not Phase.RUNNING:
                return None
            return rollout.contest if rollout.rules.min_agreement is not None else None

    def describe_canary(self, model: str, traffic: TrafficStatus) -> dict[str, object] | None:
        """Return a canary's state as JSON; None if there is none."""
        with self._lock:
            rollout = self._rollout(model, traffic)
            if rollout is None:
                return None
            window = rollout.window()
            return {
                "version": rollout.contest.canary,
                "default": rollout.contest.base,
                "state": rollout.progress.phase.value,
                "percent": rollout.share,
                "step": rollout.progress.step + 1,
                "steps": list(rollout.rules.steps),
                "requests": window.canary.requests,
                "errors": window.canary.errors,
                "comparisons": window.comparisons,
                "reason": rollout.progress.reason,
            }

    def _rollout(self, model: str, traffic: TrafficStatus) -> CanaryRun | None:
        """Return a model's canary as configured now; None if it, or its progress, is not ready."""
        rules, default = traffic.config.canary, traffic.default
        if rules is None:
            self._end(model, traffic)
        if rules is None or default is None:
            return None
        canary = traffic.config.resolve(rules.version)
        if canary == default or canary not in traffic.ready:
            return None
        contest = Contest(canary, default, (traffic.ready[canary], traffic.ready.get(default, "")))
        rollout = self._canaries.get(model)
        if rollout is None or (rollout.contest.canary, rollout.contest.files[0]) != (
            canary,
            contest.files[0],
        ):
            progress = self._store.find(model, traffic.root, canary, contest.files[0])
            if progress is None:
                return None
            rollout = self._canaries[model] = CanaryRun(rules, contest, progress, self._clock)
        elif rollout.contest != contest or rollout.rules != rules:
            rollout.change(rules, contest)
        return rollout

    def _end(self, model: str, traffic: TrafficStatus) -> None:
        """Forget a canary that is configured no more; a demoted version stays demoted."""
        rollout = self._canaries.pop(model, None)
        if rollout is not None and rollout.progress.phase is not Phase.DEMOTED:
            fresh = Progress(rollout.progress.files)
            self._store.keep(model, traffic.root, rollout.contest.canary, fresh)

    def _take_over(self, model: str, version: str, progress: Progress) -> None:
        """Apply what another replica has decided about a canary."""
        with self._lock:
            rollout = self._canaries.get(model)
            if rollout is not None and (rollout.contest.canary, rollout.contest.files[0]) == (
                version,
                progress.files,
            ):
                rollout.progress = progress


def _after(progress: Progress, decision: Decision) -> Progress:
    """Return the progress that a decision leads to."""
    if decision.verdict is Verdict.DEMOTE:
        return replace(progress, phase=Phase.DEMOTED, reason=decision.reason)
    if decision.verdict is Verdict.PROMOTE:
        return replace(progress, phase=Phase.PROMOTED, reason=decision.reason)
    further = decision.verdict is Verdict.ADVANCE
    return replace(progress, step=progress.step + further, reason=decision.reason)


def _tell(model: str, version: str, decision: Decision) -> None:
    if decision.verdict is Verdict.DEMOTE:
        LOG.warning("%s %s: canary demoted: %s", model, version, decision.reason)
    elif decision.verdict is Verdict.PROMOTE:
        LOG.info("%s %s: canary promoted: %s", model, version, decision.reason)
    else:
        LOG.info("%s %s: canary moved %s", model, version, decision.reason)
