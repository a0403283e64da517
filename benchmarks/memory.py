"""Whether a server gives back the memory of versions that it no longer serves.

It publishes a forest of about 15 MiB fifty times to a server that keeps one version, and weighs the
process after each swap: ``python benchmarks/memory.py [--swaps 50]``.
"""

from __future__ import annotations

import argparse
import http.client
import shutil
import sys
import time
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

import numpy as np
from matplotlib import pyplot as plt
from models import COLUMNS, Site, draw_rows
from questions import question
from rich.console import Console
from rich.progress import track
from rich.table import Table
from servers import HERE, Server, ServerFailed
from sklearn.ensemble import RandomForestRegressor
from workloads import Protocol, Workload

from bundleserver import BundleStore
from bundleserver.versions import Version

SWAPPED_WITHIN_SECONDS = 60.0
SETTLED_AFTER = 10
"""The first swaps fill caches and arenas; the slope counts from here."""
QUESTION = question(Workload("heavy", 1, Protocol.V1))


def main() -> None:
    """Swap, weigh, print a table and write ``memory.png``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--swaps", type=int, default=50)
    parser.add_argument("--output", type=Path, default=HERE, help="where memory.png goes")
    arguments = parser.parse_args()
    site = Site(HERE.parent / "build" / "bench" / "memory")
    shutil.rmtree(site.root, ignore_errors=True)
    store = BundleStore(site.store)
    forest = _fit_forest()
    _publish(store, forest)
    flags = ["--poll_interval_seconds", "0.2"]
    with Server("bundleserver", site, sys.executable, flags) as server:
        server.wait_for_answer(QUESTION)
        weights = [server.rss_mib()]
        for _ in track(range(arguments.swaps), "swaps", console=Console(stderr=True)):
            version = _publish(store, forest)
            _wait_until_served(server, version)
            weights.append(server.rss_mib())
    _show(weights, _size_mib(store.path("heavy", store.versions("heavy")[-1])))
    _draw(weights, arguments.output / "memory.png")


def _fit_forest() -> RandomForestRegressor:
    rows = draw_rows(4000)
    forest = RandomForestRegressor(n_estimators=40, random_state=0)
    return forest.fit(rows, rows @ np.arange(COLUMNS))


def _publish(store: BundleStore, forest: RandomForestRegressor) -> Version:
    """Save the same forest as the next version, and clear away the one before the last."""
    version = store.save("heavy", forest, examples=draw_rows(3))
    for old in store.versions("heavy")[:-2]:
        shutil.rmtree(store.path("heavy", old))
    return version


def _wait_until_served(server: Server, version: Version) -> None:
    """Ask until the answer comes from a version; each answer on the way has to be one, too."""
    until = time.monotonic() + SWAPPED_WITHIN_SECONDS
    with server.connection() as connection:
        while time.monotonic() < until:
            if _answering_version(connection) == str(version):
                return
            time.sleep(0.05)
    raise ServerFailed(f"version {version} does not answer; see {server.log}")


def _answering_version(connection: http.client.HTTPConnection) -> str | None:
    connection.request("POST", QUESTION.path, QUESTION.body, QUESTION.headers)
    answer = connection.getresponse()
    body = answer.read()
    if answer.status != 200:
        raise ServerFailed(f"an answer was lost in a swap: {answer.status} {body[:300]!r}")
    return answer.headers.get("X-Model-Version")


def _size_mib(directory: Path) -> float:
    return sum(file.stat().st_size for file in directory.rglob("*") if file.is_file()) / 2**20


def _slope(weights: list[float]) -> float:
    """Return by how many MiB each swap adds to the process, once settled."""
    settled = weights[min(SETTLED_AFTER, len(weights) - 2) :]
    return float(np.polyfit(np.arange(len(settled)), settled, 1)[0])


def _show(weights: list[float], size_mib: float) -> None:
    table = Table(title=f"RSS over {len(weights) - 1} swaps of a bundle of {size_mib:.1f} MiB")
    for name in ("swaps", "RSS, MiB", "over the first, MiB"):
        table.add_column(name, justify="right")
    for count in sorted({0, 1, 2, 5, *range(0, len(weights), 10), len(weights) - 1}):
        if count < len(weights):
            weight = weights[count]
            table.add_row(str(count), f"{weight:.1f}", f"{weight - weights[0]:+.1f}")
    slope = f"{_slope(weights):+.3f} MiB a swap after the first {SETTLED_AFTER}"
    table.caption = f"{slope}; at most {max(weights):.1f} MiB"
    Console().print(table)


def _draw(weights: list[float], path: Path) -> None:
    figure, axes = plt.subplots(figsize=(8, 4))
    axes.plot(weights, color="#2a6f97")
    axes.set(xlabel="swaps", ylabel="RSS, MiB", ylim=(0, max(weights) * 1.15))
    axes.set_title(f"memory over swaps: {_slope(weights):+.3f} MiB a swap once settled")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)
    Console().print(f"wrote {path}")


if __name__ == "__main__":
    try:
        main()
    except ServerFailed as error:
        sys.exit(f"the benchmark failed: {error}")
