"""The plot of ``compare``: agreement, latencies and differences of two versions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from bundleserver.versions.comparison import SideBySide

_MOST_SCATTERS = 2
_MOST_BARS = 20


def draw(found: SideBySide, model: str, file: Path) -> None:
    """Write the plot as a PNG.

    Raises:
        OSError: the file cannot be written.
    """
    # A dollar sign in a name is no formula.
    with rc_context({"text.parse_math": False}):
        # Points of labels would overlap.
        numbers = [n for n in found.points if not found.outputs[n].is_label][:_MOST_SCATTERS]
        columns = 2 + len(numbers)
        figure = Figure(figsize=(4.2 * columns, 3.8), layout="constrained")
        axes = figure.subplots(1, columns)
        first, second = found.versions
        figure.suptitle(f"{model}: {first} and {second}, {found.compared} requests")
        _draw_agreement(axes[0], found)
        _draw_latencies(axes[1], found)
        for at, name in enumerate(numbers, 2):
            _draw_scatter(axes[at], found, name)
        figure.savefig(file, format="png", dpi=120)


def _draw_agreement(axes: Axes, found: SideBySide) -> None:
    names = list(found.outputs)[:_MOST_BARS]
    heights = [100 * (found.outputs[name].agreement or 0.0) for name in names]
    bars = axes.bar(names, heights, color="tab:blue")
    axes.bar_label(bars, [f"{height:.1f} %" for height in heights])
    axes.set(title="equal values by output", ylabel="%", ylim=(0, 112))


def _draw_latencies(axes: Axes, found: SideBySide) -> None:
    for version, seconds in zip(found.versions, found.seconds, strict=True):
        ordered = 1000 * np.sort(seconds)
        shares = 100 * np.arange(1, len(ordered) + 1) / len(ordered)
        axes.step([ordered[0], *ordered], [0, *shares], where="post", label=version)
    title = f"latency: {found.versions[1]} takes {found.latency_ratio:.2f} times as long"
    axes.set(title=title, xlabel="milliseconds", ylabel="% of the requests", xscale="log")
    axes.legend()


def _draw_scatter(axes: Axes, found: SideBySide, name: str) -> None:
    first, second = found.points_of(name)
    axes.scatter(first, second, s=8, alpha=0.4, color="tab:blue")
    finite = np.concatenate([first, second]).astype(float)
    finite = finite[np.isfinite(finite)]
    if finite.size:
        ends = [finite.min(), finite.max()]
        axes.plot(ends, ends, color="grey", linewidth=1)
    axes.set(title=name, xlabel=found.versions[0], ylabel=found.versions[1])
