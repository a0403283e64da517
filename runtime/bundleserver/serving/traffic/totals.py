"""What has come of shadowed requests so far, for metrics and for people."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field

from bundleserver.versions.comparison import Comparison, OutputDifference

OUTCOMES = ("compared", "differs_in_form", "dropped", "not_ready", "failed")
"""How a copy may end; ``differs_in_form``: other outputs or shapes, so nothing to compare."""


@dataclass(frozen=True)
class Pair:
    """Two versions of a model: one that answered, and its shadow.

    ``files`` changes with the files of either, so that what is counted is of the same two.
    """

    model: str
    version: str
    shadow: str
    files: tuple[str, str] = field(default=("", ""), compare=False)


@dataclass
class Total:
    """What has come of the copies of one pair.

    Attributes:
        copies: by their outcome.
        outputs: the differences by output.
        seconds: what the version that answered took for the requests that were compared.
        shadow_seconds: what its shadow took for them.
        problem: what went wrong last; empty while nothing has.
    """

    files: tuple[str, str]
    copies: Counter[str] = field(default_factory=Counter)
    outputs: dict[str, OutputDifference] = field(default_factory=dict)
    seconds: float = 0.0
    shadow_seconds: float = 0.0
    problem: str = ""

    @property
    def latency_ratio(self) -> float | None:
        """How many times as long the shadow took; None while nothing is compared."""
        return self.shadow_seconds / self.seconds if self.seconds > 0 else None


class ShadowTotals:
    """The totals of every pair since either of the two was loaded. Called from any thread."""

    def __init__(self) -> None:
        self._totals: dict[Pair, Total] = {}
        self._lock = threading.Lock()

    def count(self, pair: Pair, outcome: str, problem: str = "") -> None:
        """Count a copy that came to nothing, and why."""
        with self._lock:
            total = self._total(pair)
            total.copies[outcome] += 1
            total.problem = problem or total.problem

    def add(self, pair: Pair, found: Comparison, seconds: float, shadow_seconds: float) -> None:
        """Count a copy that was answered."""
        with self._lock:
            total = self._total(pair)
            total.copies["differs_in_form" if found.problem else "compared"] += 1
            total.problem = found.problem or total.problem
            total.seconds += seconds
            total.shadow_seconds += shadow_seconds
            for name, difference in found.outputs.items():
                before = total.outputs.get(name, OutputDifference())
                total.outputs[name] = before.plus(difference)

    def snapshot(self, model: str | None = None) -> list[tuple[Pair, Total]]:
        """Return the totals of a model, or of all, as they stand."""
        with self._lock:
            return [
                (
                    pair,
                    Total(
                        t.files,
                        Counter(t.copies),
                        dict(t.outputs),
                        t.seconds,
                        t.shadow_seconds,
                        t.problem,
                    ),
                )
                for pair, t in self._totals.items()
                if model in (None, pair.model)
            ]

    def _total(self, pair: Pair) -> Total:
        total = self._totals.get(pair)
        if total is None or total.files != pair.files:
            total = self._totals[pair] = Total(pair.files)
        return total


def described(pair: Pair, total: Total) -> dict[str, object]:
    """Say a pair's total for people and machines."""
    return {
        "version": pair.shadow,
        "compared_with": pair.version,
        "copies": {outcome: total.copies[outcome] for outcome in OUTCOMES},
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
