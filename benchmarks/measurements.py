"""What was measured, and medians, spreads and ratios of it."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from workloads import Workload


@dataclass(frozen=True)
class Measurement:
    """One load on one server in one round."""

    workload: str
    server: str
    round: int
    per_second: float
    p50_ms: float
    p99_ms: float
    health_ms: list[float]
    failed: int
    checked: int
    problems: list[str]


@dataclass(frozen=True)
class Start:
    """One start of a server: seconds to its first answer, and its memory then."""

    server: str
    round: int
    seconds: float
    rss_mib: float


@dataclass(frozen=True)
class Opening:
    """What one opening took, in a fresh process: by the libraries alone, and as a bundle.

    ``own_import_seconds`` is what importing bundleserver took before, as a server has.
    """

    model: str
    libraries_seconds: float
    bundle_seconds: float
    own_import_seconds: float


@dataclass
class Results:
    """Everything that one run of the benchmarks measured."""

    loads: list[Measurement] = field(default_factory=list)
    starts: list[Start] = field(default_factory=list)
    rss_after_mib: dict[str, float] = field(default_factory=dict)
    in_process_ms: dict[str, float] = field(default_factory=dict)
    openings: list[Opening] = field(default_factory=list)
    facts: dict[str, str] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        """Keep the raw numbers."""
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")

    def of(self, workload: Workload, server: str) -> list[Measurement]:
        """Return the rounds of one workload on one server, in order; none if it was not asked."""
        return [m for m in self.loads if (m.workload, m.server) == (workload.title, server)]

    def health_ms(self, workload: Workload, server: str) -> list[float]:
        """Return how long health took under one load, over all rounds."""
        return [ms for measured in self.of(workload, server) for ms in measured.health_ms]

    def starts_of(self, server: str) -> list[Start]:
        """Return the starts of one server, in order."""
        return [start for start in self.starts if start.server == server]


@dataclass(frozen=True)
class Spread:
    """The median of some rounds, and the least and the most."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread | None:
        """Summarise values; None when there are none."""
        known = list(values)
        return cls(statistics.median(known), min(known), max(known)) if known else None

    @classmethod
    def of_ratios(cls, ours: Sequence[float], theirs: Sequence[float]) -> Spread | None:
        """Summarise ratios, each of two numbers of one round: the machine's speed changes."""
        pairs = zip(ours, theirs, strict=True) if len(ours) == len(theirs) else []
        return cls.of(one / other for one, other in pairs if other)


def percentile(values: Sequence[float], share: float) -> float | None:
    """Return the value that a share of all does not exceed; None when there are none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else None
