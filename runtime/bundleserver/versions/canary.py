"""A canary's rules, its counts, and the pure decision to wait, advance, promote or demote."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

_LATENCY_STEP = math.log(1.02)
"""Latencies are counted in histogram buckets that are 2 % wide."""


@dataclass(frozen=True)
class CanaryRules:
    """How a canary gets the default version's requests step by step, and what demotes it.

    Args:
        version: the version, or a label for it.
        steps: its shares of the requests in percent, in order.
        interval_seconds: the minimum duration of a step.
        min_requests: the minimum number of requests in a step before it is judged.
        max_error_rate: the maximum share of failed requests.
        max_p99_ratio: the maximum ratio of its p99 latency to the default's; None is no limit.
        min_agreement: the minimum share of values that equal the default's; None is no limit.
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
    """What was counted for one version in one step.

    Args:
        requests: its requests.
        errors: requests that failed.
        refused: requests that were rejected as invalid (400).
        latencies: the number of responses by ``latency_class``.
    """

    requests: int = 0
    errors: int = 0
    refused: int = 0
    latencies: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Window:
    """Everything that was counted in one step.

    Args:
        compared: values of the canary's responses that were compared with the default's.
        agreed: values that were equal.
        comparisons: requests that were compared.
    """

    canary: Counts = field(default_factory=Counts)
    base: Counts = field(default_factory=Counts)
    comparisons: int = 0
    compared: int = 0
    agreed: int = 0


class Verdict(str, Enum):
    """What to do with a canary."""

    WAIT = "wait"
    ADVANCE = "advance"
    PROMOTE = "promote"
    DEMOTE = "demote"


@dataclass(frozen=True)
class Decision:
    """A verdict and its reason."""

    verdict: Verdict
    reason: str


def decide(
    rules: CanaryRules, step: int, window: Window, elapsed_seconds: float, base: Counts
) -> Decision:
    """Decide the next action for a canary; a broken rule demotes it immediately.

    Args:
        rules: the canary's rules.
        step: the index of the current step.
        window: what was counted in this step.
        elapsed_seconds: how long this step has taken.
        base: the default version's counts in the last step with enough requests; at 100 % it
            gets no requests.
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
    summary = _summary(rules, window, base)
    if step + 1 < len(rules.steps):
        further = rules.steps[step + 1]
        return Decision(Verdict.ADVANCE, f"from {share:g} % to {further:g} %: {summary}")
    return Decision(Verdict.PROMOTE, f"at {share:g} %: {summary}")


def latency_class(seconds: float) -> int:
    """Return the histogram bucket of a latency."""
    return math.floor(math.log(max(seconds, 1e-7)) / _LATENCY_STEP)


def percentile_seconds(latencies: Mapping[int, int], share: float) -> float | None:
    """Return the latency that a share of the responses did not exceed; None without responses."""
    rank = math.ceil(share * sum(latencies.values()))
    seen = 0
    for at in sorted(latencies):
        seen += latencies[at]
        if seen >= rank:
            return math.exp((at + 0.5) * _LATENCY_STEP)
    return None


def error_rate(canary: Counts, base: Counts) -> float:
    """Return the share of requests that a canary failed.

    Invalid requests (400) count as far as their share exceeds the default's: callers make the same
    mistakes with both, and what only the canary rejects is the canary's change.
    """
    if not canary.requests:
        return 0.0
    refused = canary.refused / canary.requests
    usual = base.refused / base.requests if base.requests else refused
    return canary.errors / canary.requests + max(0.0, refused - usual)


def _broken_rule(rules: CanaryRules, window: Window, base: Counts) -> str:
    """Return which rule the canary breaks; an empty string if none, or too early to judge."""
    canary = window.canary
    most = rules.max_error_rate * max(rules.min_requests, canary.requests)
    if canary.errors > most or (
        canary.requests >= rules.min_requests and error_rate(canary, base) > rules.max_error_rate
    ):
        refused = f" and {canary.refused} were rejected as invalid (400)" if canary.refused else ""
        return (
            f"{canary.errors} of {canary.requests} requests failed{refused}; "
            f"max_error_rate is {rules.max_error_rate:g}"
        )
    if canary.requests >= rules.min_requests and base.requests >= rules.min_requests:
        ratio = _p99_ratio(canary, base)
        if rules.max_p99_ratio is not None and ratio is not None and ratio > rules.max_p99_ratio:
            return (
                f"the p99 latency is {ratio:.2f} times the default's; "
                f"max_p99_ratio is {rules.max_p99_ratio:g}"
            )
    if rules.min_agreement is not None and window.comparisons >= rules.min_requests:
        agreement = _agreement(window)
        if agreement < rules.min_agreement:
            return (
                f"{agreement:.1%} of the compared values equal the default's; "
                f"min_agreement is {rules.min_agreement:g}"
            )
    return ""


def _missing(
    rules: CanaryRules, window: Window, base: Counts, share: float, elapsed_seconds: float
) -> str:
    """Return what a step still waits for; an empty string when it is complete."""
    least = rules.min_requests
    if window.canary.requests < least:
        return f"{window.canary.requests} of {least} requests"
    if rules.min_agreement is not None and window.comparisons < least:
        return f"{window.comparisons} of {least} comparisons with the default"
    if rules.max_p99_ratio is not None and base.requests < least and share < 100:
        return f"{base.requests} of {least} requests to the default"
    left = rules.interval_seconds - elapsed_seconds
    return f"{left:.0f} s left" if left > 0 else ""


def _summary(rules: CanaryRules, window: Window, base: Counts) -> str:
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
