"""Totals of mirrored requests and their comparisons, for metrics and metadata."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field, replace

from bundleserver.versions.comparison import Comparison, OutputDifference

OUTCOMES = ("compared", "differs_in_form", "dropped", "not_ready", "failed")
"""Outcomes of mirrored requests; ``differs_in_form``: outputs or shapes cannot be compared."""


@dataclass(frozen=True)
class Pair:
    """Two versions of a model: that of the response, and its shadow.

    ``files`` changes with the files of either, which resets the totals.
    """

    model: str
    version: str
    shadow: str
    files: tuple[str, str] = field(default=("", ""), compare=False)


@dataclass
class Total:
    """The totals of one pair.

    Attributes:
        mirrored: the number of mirrored requests by outcome.
        outputs: the differences by output.
        seconds: the version's total time for the compared requests.
        shadow_seconds: the shadow's total time for them.
        problem: the last problem; an empty string if there was none.
    """

    files: tuple[str, str]
    mirrored: Counter[str] = field(default_factory=Counter)
    outputs: dict[str, OutputDifference] = field(default_factory=dict)
    seconds: float = 0.0
    shadow_seconds: float = 0.0
    problem: str = ""

    @property
    def latency_ratio(self) -> float | None:
        """The shadow's time relative to the version's; None while nothing was compared."""
        return self.shadow_seconds / self.seconds if self.seconds > 0 else None


class ShadowTotals:
    """The totals of every pair since either of the two was loaded. Called from any thread."""

    def __init__(self) -> None:
        self._totals: dict[Pair, Total] = {}
        self._lock = threading.Lock()

    def count(self, pair: Pair, outcome: str, problem: str = "") -> None:
        """Count a mirrored request that could not be compared, and why."""
        with self._lock:
            total = self._total(pair)
            total.mirrored[outcome] += 1
            total.problem = problem or total.problem

    def add(self, pair: Pair, found: Comparison, seconds: float, shadow_seconds: float) -> None:
        """Count a mirrored request that was compared."""
        with self._lock:
            total = self._total(pair)
            total.mirrored["differs_in_form" if found.problem else "compared"] += 1
            total.problem = found.problem or total.problem
            total.seconds += seconds
            total.shadow_seconds += shadow_seconds
            for name, difference in found.outputs.items():
                before = total.outputs.get(name, OutputDifference())
                total.outputs[name] = before.plus(difference)

    def snapshot(self, model: str | None = None) -> list[tuple[Pair, Total]]:
        """Return a copy of the totals of a model, or of all models."""
        with self._lock:
            return [
                (pair, replace(t, mirrored=Counter(t.mirrored), outputs=dict(t.outputs)))
                for pair, t in self._totals.items()
                if model in (None, pair.model)
            ]

    def _total(self, pair: Pair) -> Total:
        total = self._totals.get(pair)
        if total is None or total.files != pair.files:
            total = self._totals[pair] = Total(pair.files)
        return total


def describe_shadow(pair: Pair, total: Total) -> dict[str, object]:
    """Convert a pair's totals to JSON."""
    return {
        "version": pair.shadow,
        "compared_with": pair.version,
        "copies": {outcome: total.mirrored[outcome] for outcome in OUTCOMES},
        "latency_ratio": total.latency_ratio,
        "outputs": {name: _difference(one) for name, one in total.outputs.items()},
        "problem": total.problem,
    }


def _difference(one: OutputDifference) -> dict[str, object]:
    return {
        "values": one.values,
        "agreement": one.agreement,
        "mean_absolute_difference": one.mean,
        "max_absolute_difference": one.maximum,
    }
