"""The picture beside the tables: ratios with their goals, and health under each load."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from measurements import Results, Spread, percentile
from workloads import COMPARED, HEALTH_GOAL_MS, LIBRARIES, SERVERS, Workload

SHOWN = [*COMPARED, *LIBRARIES]

COLORS = {"kserve": "#9aa5b1", "fastapi": "#e0a458", "bundleserver": "#2a6f97"}


def draw(results: Results, path: Path) -> None:
    """Write the picture as PNG."""
    figure, (ratios, health) = plt.subplots(1, 2, figsize=(14, 8), sharey=True)
    _draw_ratios(ratios, results)
    _draw_health(health, results)
    ratios.set_yticks(range(len(SHOWN)), [workload.title for workload in SHOWN])
    ratios.invert_yaxis()
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _draw_ratios(axes: Axes, results: Results) -> None:
    axes.set_title("answers per second, ours to kserve's")
    axes.set_xscale("log")
    axes.axvline(1, color="black", linewidth=0.8)
    for place, workload in enumerate(SHOWN):
        spread = _ratio(results, workload)
        if spread is not None:
            low, high = spread.median - spread.least, spread.most - spread.median
            axes.barh(place, spread.median - 1, left=1, color=COLORS["bundleserver"])
            axes.errorbar(spread.median, place, xerr=[[low], [high]], color="black", capsize=3)
        if workload.goal is not None:
            axes.plot([workload.goal], [place], "D", color="#c1121f", markersize=6)
    axes.plot([], [], "D", color="#c1121f", label="goal")
    axes.legend(loc="lower right")


def _draw_health(axes: Axes, results: Results) -> None:
    axes.set_title("health beside the load, p99 in ms")
    axes.set_xscale("log")
    axes.axvline(HEALTH_GOAL_MS, color="#c1121f", linewidth=0.8, linestyle="--")
    for server in SERVERS:
        values = [percentile(results.health_ms(work, server), 0.99) for work in SHOWN]
        known = [(value, place) for place, value in enumerate(values) if value is not None]
        axes.plot(*zip(*known, strict=True), "o", color=COLORS[server], label=server)
    axes.legend(loc="lower right")


def _ratio(results: Results, workload: Workload) -> Spread | None:
    ours, theirs = (
        [measured.per_second for measured in results.of(workload, server)]
        for server in ("bundleserver", "kserve")
    )
    return Spread.of_ratios(ours, theirs)
