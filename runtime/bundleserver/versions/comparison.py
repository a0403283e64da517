"""How far two versions' responses to the same request differ, output by output."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from bundleserver.tensors import Array

CLOSE = 0.01
"""The relative tolerance within which numbers that are not labels agree."""

_TINY = 1e-9
_MOST_POINTS = 5000


@dataclass(frozen=True)
class OutputDifference:
    """The comparison of one output in two responses.

    Args:
        values: how many values were compared.
        equal: how many of them agree: labels (integers, booleans, strings) exactly, other numbers
            within ``CLOSE``.
        absolute: the sum of the absolute differences of numbers.
        largest: the largest absolute difference.
        is_label: the values are labels.
        is_number: the values are numbers, so that differences are defined.
        problem: why the two cannot be compared; an empty string when they can.
    """

    values: int = 0
    equal: int = 0
    absolute: float = 0.0
    largest: float = 0.0
    is_label: bool = False
    is_number: bool = False
    problem: str = ""

    def plus(self, other: OutputDifference) -> OutputDifference:
        """Return the sum of both; the newer problem counts."""
        return OutputDifference(
            self.values + other.values,
            self.equal + other.equal,
            self.absolute + other.absolute,
            max(self.largest, other.largest),
            other.is_label if other.values else self.is_label,
            other.is_number if other.values else self.is_number,
            other.problem or self.problem,
        )

    @property
    def agreement(self) -> float | None:
        """The share of equal values; None while no value was compared."""
        return self.equal / self.values if self.values else None

    @property
    def mean(self) -> float | None:
        """The mean absolute difference; None where there are no numbers."""
        return self.absolute / self.values if self.values and self.is_number else None

    @property
    def maximum(self) -> float | None:
        """The largest absolute difference; None where there are no numbers."""
        return self.largest if self.values and self.is_number else None


@dataclass(frozen=True)
class Comparison:
    """The comparison of every output of two responses; ``rowwise`` as in their signature."""

    outputs: Mapping[str, OutputDifference] = field(default_factory=dict)
    rowwise: bool = True

    @property
    def agreement(self) -> tuple[int, int]:
        """The number of values that count for the agreement, and how many of them are equal.

        Labels count; without labels, and for forecasts, whose labels are dates, all other numbers
        do. An output that cannot be compared has no agreement.
        """
        found = self.outputs.values()
        deciding = [one for one in found if one.is_label and self.rowwise]
        deciding = deciding or [one for one in found if not one.is_label]
        broken = sum(1 for one in found if one.problem)
        values = sum(one.values for one in deciding)
        if broken:
            return max(values, 1), 0
        return values, sum(one.equal for one in deciding)

    @property
    def problem(self) -> str:
        """Why outputs cannot be compared; an empty string when all can."""
        return "; ".join(
            f"output '{name}' {one.problem}" for name, one in self.outputs.items() if one.problem
        )


@dataclass
class SideBySide:
    """The comparison of two versions on the same requests.

    Attributes:
        versions: their labels, the baseline first.
        requests: how many requests both received.
        compared: how many requests both answered.
        outputs: the differences by output.
        seconds: each version's latencies, for the requests that both answered.
        failed: the errors of each version's failed requests.
        points: the pairs of numbers of each output, for the plot.
    """

    versions: tuple[str, str]
    requests: int = 0
    compared: int = 0
    outputs: dict[str, OutputDifference] = field(default_factory=dict)
    seconds: tuple[list[float], list[float]] = field(default_factory=lambda: ([], []))
    failed: tuple[list[str], list[str]] = field(default_factory=lambda: ([], []))
    points: dict[str, list[tuple[Array, Array]]] = field(default_factory=dict)

    @property
    def latency_ratio(self) -> float:
        """The ratio of the second version's median latency to the first's."""
        return float(np.median(self.seconds[1]) / np.median(self.seconds[0]))

    def points_of(self, name: str) -> tuple[Array, Array]:
        """Return a sample of an output's pairs of numbers."""
        first, second = (np.concatenate(values) for values in zip(*self.points[name], strict=True))
        step = max(1, len(first) // _MOST_POINTS)
        return first[::step], second[::step]


def compare(answered: Mapping[str, Array], other: Mapping[str, Array], rowwise: bool) -> Comparison:
    """Compare the outputs of a response with those of another version."""
    outputs = {
        name: compare_output(answered[name], other[name])
        if name in answered and name in other
        else OutputDifference(problem="is missing in one of the two responses")
        for name in {**answered, **other}
    }
    return Comparison(outputs, rowwise)


def compare_output(answered: Array, other: Array) -> OutputDifference:
    """Compare one output with another version's; NaN equals NaN."""
    if answered.shape != other.shape:
        return OutputDifference(
            problem=f"has different shapes: {list(answered.shape)} and {list(other.shape)}"
        )
    kinds = answered.dtype.kind + other.dtype.kind
    if not set(kinds) <= set("biuf"):
        return _compare_texts(answered, other)
    left, right = answered.astype(np.float64), other.astype(np.float64)
    is_label = "f" not in kinds
    with np.errstate(invalid="ignore", over="ignore"):
        differences = np.abs(left - right)
        bound = np.zeros_like(left) if is_label else np.maximum(CLOSE * np.abs(left), _TINY)
        # Converted to floats, large integers that differ could be equal.
        same = (answered == other) | (np.isnan(left) & np.isnan(right))
        equal = same | (np.isfinite(differences) & (differences <= bound))
    differences = np.where(same, 0.0, differences)
    finite = differences[np.isfinite(differences)]
    return OutputDifference(
        left.size,
        int(np.count_nonzero(equal)),
        float(finite.sum()),
        float(finite.max(initial=0.0)),
        is_label,
        is_number=True,
    )


def _compare_texts(answered: Array, other: Array) -> OutputDifference:
    pairs = zip(answered.ravel().tolist(), other.ravel().tolist(), strict=True)
    equal = sum(1 for left, right in pairs if left == right)
    return OutputDifference(answered.size, equal, is_label=True)
