"""Draw some panels of the dashboard from a run of the test: ``docs/dashboard.png``.

Run it with ``python -m tests.monitoring.picture``; it needs Prometheus, and takes a minute.
"""

from __future__ import annotations

import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from tests.monitoring.files import DASHBOARD, Query
from tests.monitoring.prometheus import Prometheus
from tests.monitoring.test_live import serving

PICTURE = Path(__file__).resolve().parents[2] / "docs" / "dashboard.png"
SECONDS = 60
TITLES = (
    *("By version", "By outcome", "Latency"),
    *("Mean time of each part", "Canary's share", "Agreement"),
    *("Mirrored", "CPUs in use", "Resident memory"),
)


def main() -> None:
    """Serve, ask for a while, and draw what Prometheus has of it."""
    with tempfile.TemporaryDirectory() as directory, serving(Path(directory)) as prometheus:
        threading.Event().wait(SECONDS)
        figure, axes = plt.subplots(3, 3, figsize=(15, 9), layout="constrained")
        for title, axis in zip(TITLES, axes.flat, strict=True):
            (panel,) = (one for one in DASHBOARD["panels"] if one["title"] == title)
            draw(axis, panel, prometheus)
        figure.savefig(PICTURE, dpi=75)


def draw(axis: Axes, panel: dict[str, Any], prometheus: Prometheus) -> None:
    """Draw the series of each of a panel's queries."""
    end = time.time()
    for target in panel["targets"]:
        expr = target["expr"].replace("$model", "detector|plain|split")
        expr = Query(panel["title"], expr).filled("10s")
        asked = {"query": expr, "start": end - SECONDS + 10, "end": end, "step": 1}
        for series in prometheus.get("/query_range", **asked)["result"]:
            label = target["legendFormat"]
            for name, value in series["metric"].items():
                label = label.replace(f"{{{{{name}}}}}", value)
            if not any(float(value) for _, value in series["values"]):
                continue
            points = [(float(at) - end, float(value)) for at, value in series["values"]]
            axis.plot(*zip(*points, strict=True), label=label[:32])
    axis.set_title(panel["title"])
    axis.set_xlabel("seconds")
    axis.set_ylim(0, axis.get_ylim()[1] * 1.3)
    axis.set_ylabel(panel["fieldConfig"]["defaults"]["unit"])
    axis.legend(fontsize=7, loc="upper right", framealpha=0.6)


if __name__ == "__main__":
    main()
