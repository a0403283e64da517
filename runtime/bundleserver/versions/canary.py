"""A canary's rollout: its rules, what is counted, and the pure decision how it goes on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

_LATENCY_STEP = math.log(1.02)
"""Latencies are counted in classes 2 % wide."""


@dataclass(frozen=True)
class CanaryRules:
    """How a new version comes to take the requests of the default one, and what sends it back.

    Args:
        version: the version, or a label for it.
        steps: its shares of the requests in percent, one after the other.
        interval_seconds: the least time that a step takes.
        min_requests: what it has to answer in a step before it is judged.
        max_error_rate: the largest share of requests that it may fail.
        max_p99_ratio: how many times the default's 99th percentile its own may be; None: any.
        min_agreement: the least share of answers that equal the default's; None: any.
    """

    version: str
    steps: tuple[float, ...] = (5, 25, 50, 100)
    interval_seconds: float = 600
    min_requests: int = 200
    max_error_rate: float = 0.05
    max_p99_ratio: float | None = None
    min_agreement: float | None = None


@dataclass(frozen=True)
class Counts:
    """What one version did in one step.

    Args:
        requests: those that it was given.
        errors: those that failed by its fault.
        refused: those that it called wrong (400).
        latencies: how many answers took how long, by ``latency_class``.
    """

    requests: int = 0
    errors: int = 0
    refused: int = 0
    latencies: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Window:
    """Everything that was counted in one step.

    Args:
        compared: values of the canary's answers that were held against the default's.
        agreed: those that were equal.
        comparisons: requests that were compared.
    """

    canary: Counts = field(default_factory=Counts)
    base: Counts = field(default_factory=Counts)
    comparisons: int = 0
    compared: int = 0
    agreed: int = 0


class Verdict(str, Enum):
    """What is to be done with a canary."""

    WAIT = "wait"
    ADVANCE = "advance"
    PROMOTE = "promote"
    DEMOTE = "demote"


@dataclass(frozen=True)
class Decision:
    """A verdict and the sentence that explains it."""

    verdict: Verdict
    reason: str


def decide(
    rules: CanaryRules, step: int, window: Window, elapsed_seconds: float, base: Counts
) -> Decision:
    """Say how a rollout goes on; a broken rule sends the canary back at once.

    Args:
        rules: what the canary has to keep.
        step: which of the rules' steps is under way, from 0.
        window: what was counted since the step began.
        elapsed_seconds: since then.
        base: what the default version did in the last step in which it answered enough; at 100 %
            it answers nothing any more.
    """
    if window.base.requests >= min(rules.min_requests, base.requests):
        base = window.base
    broken = _broken_rule(rules, window, base)
    if broken:
        return Decision(Verdict.DEMOTE, broken)
    share = rules.steps[step]
    missing = _missing(rules, window, base, share, elapsed_seconds)
    if missing:
        return Decision(Verdict.WAIT, f"at {share:g} %: {missing}")
    told = _told(rules, window, base)
    if step + 1 < len(rules.steps):
        further = rules.steps[step + 1]
        return Decision(Verdict.ADVANCE, f"from {share:g} % to {further:g} %: {told}")
    return Decision(Verdict.PROMOTE, f"stays at {share:g} %: {told}")


def latency_class(seconds: float) -> int:
    """Return the class that a latency is counted in."""
    return math.floor(math.log(max(seconds, 1e-7)) / _LATENCY_STEP)


def percentile_seconds(latencies: Mapping[int, int], share: float) -> float | None:
    """Return the latency that a share of the answers did not exceed; None without any answer."""
    rank = math.ceil(share * sum(latencies.values()))
    seen = 0
    for at in sorted(latencies):
        seen += latencies[at]
        if seen >= rank:
            return math.exp((at + 0.5) * _LATENCY_STEP)
    return None


def error_rate(canary: Counts, base: Counts) -> float:
    """Return the share of requests that a canary fails.

    What it calls wrong counts as far as it is more than the default's share: callers err towards
    both alike, and what only the canary refuses is the canary's change.
    """
    if not canary.requests:
        return 0.0
    refused = canary.refused / canary.requests
    usual = base.refused / base.requests if base.requests else refused
    return canary.errors / canary.requests + max(0.0, refused - usual)


def _broken_rule(rules: CanaryRules, window: Window, base: Counts) -> str:
    """Say which rule the canary breaks; nothing while there is too little to judge by."""
    canary = window.canary
    most = rules.max_error_rate * max(rules.min_requests, canary.requests)
    if canary.errors > most or (
        canary.requests >= rules.min_requests and error_rate(canary, base) > rules.max_error_rate
    ):
        refused = f" and called {canary.refused} wrong" if canary.refused else ""
        return (
            f"it failed {canary.errors} of {canary.requests} requests{refused}; "
            f"max_error_rate is {rules.max_error_rate:g}"
        )
    if canary.requests >= rules.min_requests and base.requests >= rules.min_requests:
        ratio = _p99_ratio(canary, base)
        if rules.max_p99_ratio is not None and ratio is not None and ratio > rules.max_p99_ratio:
            return (
                f"its 99th percentile is {ratio:.2f} times the default's; "
                f"max_p99_ratio is {rules.max_p99_ratio:g}"
            )
    if rules.min_agreement is not None and window.comparisons >= rules.min_requests:
        agreement = _agreement(window)
        if agreement < rules.min_agreement:
            return (
                f"{agreement:.1%} of its answers equal the default's; "
                f"min_agreement is {rules.min_agreement:g}"
            )
    return ""


def _missing(
    rules: CanaryRules, window: Window, base: Counts, share: float, elapsed_seconds: float
) -> str:
    """Say what is still to come before a step is over; the empty text when nothing is."""
    least = rules.min_requests
    if window.canary.requests < least:
        return f"it has answered {window.canary.requests} of {least} requests"
    if rules.min_agreement is not None and window.comparisons < least:
        return f"{window.comparisons} of {least} answers are compared with the default's"
    if rules.max_p99_ratio is not None and base.requests < least and share < 100:
        return f"the default has answered {base.requests} of {least} requests"
    left = rules.interval_seconds - elapsed_seconds
    return f"{left:.0f} s are left" if left > 0 else ""


def _told(rules: CanaryRules, window: Window, base: Counts) -> str:
    parts = [f"{window.canary.requests} requests", f"{error_rate(window.canary, base):.1%} errors"]
    if rules.max_p99_ratio is not None:
        ratio = _p99_ratio(window.canary, base)
        parts.append("p99 not compared" if ratio is None else f"p99 {ratio:.2f} times the default")
    if rules.min_agreement is not None:
        parts.append(f"{_agreement(window):.1%} agreement")
    return ", ".join(parts)


def _agreement(window: Window) -> float:
    return window.agreed / window.compared if window.compared else 0.0


def _p99_ratio(canary: Counts, base: Counts) -> float | None:
    own = percentile_seconds(canary.latencies, 0.99)
    other = percentile_seconds(base.latencies, 0.99)
    return None if own is None or other is None else own / other
