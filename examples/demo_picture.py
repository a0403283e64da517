"""The picture of the two forecasts: history, mean and interval, and what really happened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")  # draws into files; there may be no screen

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes


@dataclass(frozen=True)
class Panel:
    """One forecast with the series that it goes on from.

    ``forecast`` is what the server answered: ``ds``, ``mean``, ``lower`` and ``upper``. An interval
    that goes below ``least``, the least value that there can be, is cut off there.
    """

    title: str
    unit: str
    series: pd.Series
    shown_from: str
    forecast: Mapping[str, list[Any]]
    least: float | None = None


def draw(panels: list[Panel], level: float, path: Path) -> None:
    """Draw one panel below the other and write them as a PNG."""
    figure, axes = plt.subplots(
        len(panels), figsize=(10, 4.2 * len(panels)), layout="constrained", squeeze=False
    )
    for panel, place in zip(panels, axes.flat, strict=True):
        _draw_panel(panel, level, place)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _draw_panel(panel: Panel, level: float, axes: Axes) -> None:
    dates = pd.to_datetime(panel.forecast["ds"])
    history = panel.series[panel.shown_from : dates[0]][:-1]
    happened = panel.series.reindex(dates)
    axes.plot(history.index, history, color="0.25", linewidth=1.3, label="history (training data)")
    axes.fill_between(
        dates,
        panel.forecast["lower"],
        panel.forecast["upper"],
        color="tab:blue",
        alpha=0.2,
        linewidth=0,
        label=f"interval ({level:.0%})",
    )
    axes.plot(dates, panel.forecast["mean"], color="tab:blue", linewidth=2, label="forecast")
    axes.plot(dates, happened, "o", color="tab:red", markersize=4, label="what happened")
    axes.axvline(history.index[-1], color="0.6", linestyle=":", linewidth=1)
    axes.set_title(panel.title, loc="left", fontweight="bold")
    axes.set_xlabel("year")
    axes.set_ylabel(panel.unit)
    axes.margins(x=0.01)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    if panel.least is not None:
        axes.set_ylim(bottom=panel.least)
