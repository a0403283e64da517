"""The picture of docs/batch.md: rows per second of each way, and the memory that it takes."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import matplotlib as mpl

mpl.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes

COLORS = {"library": "#9aa5b1", "command": "#2a6f97"}
STYLES = {"one": ":", "all": "-"}


class Run(Protocol):
    """What is drawn of a run."""

    @property
    def seconds(self) -> float:
        """Return the time that counts."""

    @property
    def whole(self) -> float:
        """Return the seconds of the whole process."""

    @property
    def memory(self) -> Sequence[float]:
        """Return the MiB of all its processes, at even times."""


def draw(ways: Mapping[str, Sequence[Run]], rows: int, path: Path) -> None:
    """Write the picture as PNG; ``ways`` has the runs of one model."""
    figure, (speed, memory) = plt.subplots(1, 2, figsize=(12, 4))
    _draw_speed(speed, ways, rows)
    _draw_memory(memory, ways)
    figure.suptitle(f"{rows:,} rows, 100 trees")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _draw_speed(axes: Axes, ways: Mapping[str, Sequence[Run]], rows: int) -> None:
    for place, (way, runs) in enumerate(ways.items()):
        rate = rows / statistics.median(run.seconds for run in runs)
        axes.barh(place, rate, color=_color(way))
        axes.text(rate, place, f" {rate:,.0f}", va="center")
    axes.set_yticks(range(len(ways)), list(ways))
    axes.invert_yaxis()
    axes.margins(x=0.18)
    axes.set_xlabel("rows per second (library: predict alone; command: everything)")


def _draw_memory(axes: Axes, ways: Mapping[str, Sequence[Run]]) -> None:
    for way, runs in ways.items():
        run = min(runs, key=lambda one: one.whole)
        step = run.whole / len(run.memory)
        times = [step * at for at in range(len(run.memory))]
        style = next(style for word, style in STYLES.items() if word in way.split())
        axes.plot(times, run.memory, style, color=_color(way), label=way)
    highest = max(max(run.memory) for runs in ways.values() for run in runs)
    axes.set(xlabel="seconds since the start", ylabel="RSS of all processes, MiB")
    axes.set_ylim(0, highest * 1.4)
    axes.legend(loc="upper center", ncols=2)


def _color(way: str) -> str:
    return COLORS[way.split(",")[0]]
