"""What a soak has seen so far, what of it are faults, and how it is told."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table

from tests.soak.checking import LOST, RESET, WRONG, Exchange, Excuses, Kill, outlived
from tests.soak.clients import Counts

MOST_TOLD = 20
"""Of each kind of fault, in full; the others are counted."""
GROWTH_ALLOWED = 1.05
JUDGED_FROM_MINUTES = 10.0
"""A shorter soak prints how memory grew, and does not fail for it."""


@dataclass
class Tally:
    """Adds up the reports of clients and directors; used by the one thread that reads them."""

    answered: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    steps: Counter[str] = field(default_factory=Counter)
    hostile: int = 0
    slowest: float = 0.0
    first_sent: dict[tuple[str, str, str], float] = field(default_factory=dict)
    last_sent: dict[tuple[str, str, str], float] = field(default_factory=dict)
    retired: dict[tuple[str, str], float] = field(default_factory=dict)
    waiting: list[tuple[str, str, Exchange]] = field(default_factory=list)
    excuses: Excuses = field(default_factory=Excuses)
    tail: Callable[[str], str] = lambda _: ""
    """The last lines that a server has logged by now."""
    weights: dict[str, list[float]] = field(default_factory=dict)

    @property
    def swaps(self) -> int:
        """Versions that clients saw come, on any server."""
        return len(self.first_sent) - len({key[:2] for key in self.first_sent})

    def count(self, counts: Counts) -> None:
        """Add what a client has seen."""
        self.answered.update(counts.answered)
        self.slowest = max(self.slowest, counts.slowest)
        for key, (first, last) in counts.versions.items():
            self.first_sent[key] = min(first, self.first_sent.get(key, first))
            self.last_sent[key] = max(last, self.last_sent.get(key, last))

    def kill(self, kill: Kill) -> None:
        """Note a kill; it may explain failures that were reported before."""
        self.excuses.kills.append(kill)
        self.steps["worker process killed"] += 1

    def problem(self, verdict: str, expected: str, exchange: Exchange) -> None:
        """Keep a problem until the kills that may explain it are known."""
        self.waiting.append((verdict, expected, exchange))

    def settle(self, before: float) -> None:
        """Judge the problems that ended before a time."""
        due = [waiting for waiting in self.waiting if waiting[2].ended < before]
        self.waiting = [waiting for waiting in self.waiting if waiting[2].ended >= before]
        for verdict, expected, exchange in due:
            if verdict == LOST and self.excuses.excuse(exchange):
                self.faults[RESET] += 1
                continue
            got = exchange.failure or f"{exchange.version} {list(exchange.values)}"
            self.fault(
                verdict,
                f"{exchange.protocol} to {exchange.server}, client {exchange.client}, model "
                f"{exchange.model}, rows {list(exchange.rows)}, sent {exchange.sent:.3f}, ended "
                f"{exchange.ended:.3f}: {expected}; got {got}",
                exchange.server,
            )

    def fault(self, verdict: str, text: str, server: str = "") -> None:
        """Count a fault; tell the first ones of its kind, with what the server says meanwhile."""
        self.faults[verdict] += 1
        if self.faults[verdict] <= MOST_TOLD:
            say(f"{verdict}: {text}\n{self.tail(server)}".rstrip())

    def end(self) -> None:
        """Judge what can only be judged at the end."""
        self.settle(float("inf"))
        for text in outlived(self.last_sent, self.retired):
            self.fault(WRONG, text)

    def growth(self) -> dict[str, float]:
        """Return by how much each server's memory grew from the first weighing to the last."""
        return {name: w[-1] / w[0] for name, w in self.weights.items() if len(w) > 1 and w[0]}

    def verdict(self, minutes: float) -> list[str]:
        """Return why the soak has failed; nothing if it has passed."""
        names = [LOST, WRONG, "missed", "broke down"]
        reasons = [f"{self.faults[name]} {name}" for name in names if self.faults[name]]
        if minutes >= JUDGED_FROM_MINUTES:
            reasons += [
                f"memory of {name} grew {ratio:.3f} times"
                for name, ratio in self.growth().items()
                if ratio > GROWTH_ALLOWED
            ]
        if not self.answered or not self.swaps:
            reasons.append("nothing was tested")
        return reasons

    def line(self, seconds: float, weights: dict[str, float]) -> str:
        """Return a line of progress."""
        told = ", ".join(f"{name} {weight:.0f}" for name, weight in weights.items())
        return (
            f"{seconds:5.0f} s  {self.answered.total():7d} requests  {self.swaps:4d} swaps  "
            f"{self.faults[LOST]} lost  {self.faults[WRONG]} wrong  "
            f"{self.faults[RESET]} reset by kill  {self.faults['missed']} missed  MiB: {told}"
        )

    def show(self, at_seconds: list[float]) -> None:
        """Print the tables at the end."""
        table = Table(title="soak", show_header=False)
        rows: dict[str, object] = {
            **{f"requests, {name}": count for name, count in sorted(self.answered.items())},
            "requests": self.answered.total(),
            "hostile requests": self.hostile,
            "swaps seen by clients": self.swaps,
            **dict(sorted(self.steps.items())),
            "slowest answer, s": f"{self.slowest:.2f}",
            **{name: self.faults[name] for name in (RESET, LOST, WRONG, "missed", "broke down")},
        }
        for name, value in rows.items():
            table.add_row(name, str(value))
        for name, weights in self.weights.items():
            told = " → ".join(f"{weight:.1f}" for weight in weights)
            ratio = f" ({self.growth()[name]:.3f})" if name in self.growth() else ""
            times = ", ".join(f"{seconds:.0f} s" for seconds in at_seconds)
            table.add_row(f"PSS of {name}, MiB, at {times}", told + ratio)
        Console().print(table)


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
