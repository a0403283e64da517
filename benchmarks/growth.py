"""How the time of an answer grows with rows, columns, trees and connections.

It asks ours and KServe's server in turns: ``python benchmarks/growth.py [--quick]``; it prints
tables and writes ``growth.md`` and ``growth.png``.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

from load import LoadFailed, put_load
from machine import facts
from matplotlib import pyplot as plt
from models import Site, save_forest, save_free
from questions import question
from quiet import Patience
from report import Table
from rich.console import Console
from rich.progress import track
from servers import HERE, Server, ServerFailed
from workloads import Protocol, Workload

SERVERS = ("kserve", "bundleserver")
COLUMNS = (2, 8, 64, 256)
TREES = (10, 100, 1000)
ROWS = (1, 16, 256, 4096)
CONNECTIONS = (1, 2, 8, 32, 128)


@dataclass(frozen=True)
class Point:
    """One workload, and where it stands on its axis."""

    axis: str
    at: int
    workload: Workload


def _points() -> list[Point]:
    def v2(model: str, rows: int = 1, connections: int = 8, columns: int = 8) -> Workload:
        return Workload(model, rows, Protocol.V2, connections, columns)

    return [
        *(Point("rows, free", n, v2("free", n)) for n in ROWS),
        *(Point("rows, forest", n, v2("forest", n)) for n in ROWS),
        *(Point("columns, free, 256 rows", n, v2(f"free-{n}", 256, columns=n)) for n in COLUMNS),
        *(Point("trees, 1 row", n, v2(f"forest-{n}")) for n in TREES),
        *(Point("connections, free, 1 row", n, v2("free", connections=n)) for n in CONNECTIONS),
        *(Point("connections, forest, 1 row", n, v2("forest", connections=n)) for n in CONNECTIONS),
    ]


Rates = Mapping[tuple[Point, str], float]


def main() -> None:
    """Measure every point on both servers, and show what came of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one round of a second each")
    parser.add_argument("--output", type=Path, default=HERE, help="where growth.md and .png go")
    arguments = parser.parse_args()
    rounds, seconds = (1, 1) if arguments.quick else (2, 1)
    about, patience = facts(), Patience()
    try:
        rates = _measure(_save_models(), rounds, seconds, patience)
    except (LoadFailed, ServerFailed) as error:
        sys.exit(f"the benchmark failed: {error}")
    about["neighbours"] = patience.summary()
    tables = _tables(rates)
    for table in tables:
        table.show(Console())
    lines = [f"- {name}: {value}" for name, value in about.items()]
    text = "\n".join(["# Growth", "", *lines, "", "![growth](growth.png)", ""])
    text += "\n" + "\n".join(table.markdown() for table in tables)
    (arguments.output / "growth.md").write_text(text)
    _draw(rates, arguments.output / "growth.png")
    Console().print(f"wrote {arguments.output / 'growth.md'} and growth.png beside it")


def _save_models() -> Site:
    site = Site(HERE.parent / "build" / "bench" / "growth")
    shutil.rmtree(site.root, ignore_errors=True)
    save_free(site)
    save_forest(site)
    for columns in COLUMNS:
        save_free(site, f"free-{columns}", columns)
    for trees in TREES:
        save_forest(site, f"forest-{trees}", trees=trees)
    return site


def _measure(site: Site, rounds: int, seconds: float, patience: Patience) -> Rates:
    """Return the medians of the rounds, answers per second."""
    rates: dict[tuple[Point, str], list[float]] = {}
    with ExitStack() as running:
        servers = [running.enter_context(Server(name, site, sys.executable)) for name in SERVERS]
        for server in servers:
            for point in _points():
                server.wait_for_answer(question(point.workload))
        turns = [
            (point, server) for _ in range(rounds) for point in _points() for server in servers
        ]
        for point, server in track(turns, "growth", console=Console(stderr=True)):
            asked = question(point.workload)
            put = partial(put_load, server, asked, point.workload.connections, seconds)
            load = patience.measure(put)
            if load.failed:
                raise LoadFailed(f"{server.name}, {point.axis} {point.at}: {load.failed} failed")
            rates.setdefault((point, server.name), []).append(load.per_second)
    return {key: statistics.median(values) for key, values in rates.items()}


def _tables(rates: Rates) -> list[Table]:
    about = "Answers per second over V2 JSON, medians of the rounds."
    header = ("", *SERVERS, "ratio")
    return [
        Table(axis, about, header, [_row(rates, point) for point in points])
        for axis, points in _by_axis().items()
    ]


def _row(rates: Rates, point: Point) -> tuple[str, ...]:
    theirs, ours = (rates[point, server] for server in SERVERS)
    ratio = f"{ours / theirs:.2f}x" if theirs else "-"
    return (f"{point.at:,}", f"{theirs:,.0f}", f"{ours:,.0f}", ratio)


def _by_axis() -> dict[str, list[Point]]:
    points = _points()
    return {
        axis: [p for p in points if p.axis == axis]
        for axis in dict.fromkeys(p.axis for p in points)
    }


def _draw(rates: Rates, path: Path) -> None:
    figure, places = plt.subplots(2, 3, figsize=(14, 7))
    for axes, (axis, points) in zip(places.flat, _by_axis().items(), strict=True):
        for server, color in zip(SERVERS, ("#9aa5b1", "#2a6f97"), strict=True):
            values = [rates[point, server] for point in points]
            axes.loglog([point.at for point in points], values, "o-", color=color, label=server)
        axes.set(xlabel=axis, ylabel="answers per second")
        axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


if __name__ == "__main__":
    main()
