"""Measure this tree beside another one of the same project, by turns in one run.

Run ``python benchmarks/beside.py TREE [--rounds 6] [--seconds 1]``, where TREE is a checkout of
the commit before (``git worktree add ../before COMMIT``). Three servers run: this tree, the other
one, and the other one once more. A cell is the ratio of answers per second, its median over the
rounds: ``this / before``, beside ``before / before``, which says how far a ratio strays when
nothing changed. It falls where it lies below one by more than that, and by more than 3 %.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import shutil
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path

from load import find_wrk, put_load
from models import Site, save_forecasters, save_forest, save_free
from questions import question
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from servers import HERE, Server
from workloads import COMPARED, OUR_MODELS, OURS, Workload

WHO = ("this", "before", "again")
LEAST_SPREAD = 0.03
CONSOLE = Console(width=max(110, shutil.get_terminal_size().columns))


class TreeServer(Server):
    """A bundleserver whose code is that of one tree, in the environment that runs this."""

    def __init__(self, name: str, site: Site, tree: Path) -> None:
        super().__init__(name, site, sys.executable)
        self._tree = tree

    def __enter__(self) -> TreeServer:
        before = os.environ.get("PYTHONPATH")
        os.environ["PYTHONPATH"] = str(self._tree / "runtime")
        try:
            super().__enter__()
        finally:
            if before is None:
                del os.environ["PYTHONPATH"]
            else:
                os.environ["PYTHONPATH"] = before
        return self


def main() -> None:
    """Measure and print a table; exit 1 where a cell falls."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tree", type=Path, help="a checkout of the commit before")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each load")
    arguments = parser.parse_args()
    find_wrk()
    site = Site(HERE.parent / "build" / "beside")
    shutil.rmtree(site.root, ignore_errors=True)
    logging.getLogger("cmdstanpy").setLevel(logging.WARNING)
    for save in (save_free, save_forest, save_forecasters):
        save(site)
    found = _measure(site, arguments.tree.resolve(), arguments.rounds, arguments.seconds)
    sys.exit(1 if _show(found) else 0)


def _measure(
    site: Site, tree: Path, rounds: int, seconds: float
) -> dict[Workload, dict[str, list[float]]]:
    trees = {"this": HERE.parent, "before": tree, "again": tree}
    found = {work: {who: [0.0] * rounds for who in WHO} for work in (*COMPARED, *OURS)}
    with _started(site, trees) as servers, Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("loads", total=rounds * len(found) * len(WHO))
        for number in range(rounds):
            for work in found:
                first = number % len(WHO)
                for who in (*WHO[first:], *WHO[:first]):
                    server = servers[who, "forecasters" if work.model in OUR_MODELS else "store"]
                    load = put_load(server, question(work), work.connections, seconds)
                    if load.failed:
                        sys.exit(f"{work.title}: {who} failed {load.failed} requests")
                    found[work][who][number] = load.per_second
                    progress.advance(task)
    return found


@contextlib.contextmanager
def _started(site: Site, trees: dict[str, Path]) -> Iterator[dict[tuple[str, str], Server]]:
    with contextlib.ExitStack() as running:
        servers: dict[tuple[str, str], Server] = {}
        for who, tree in trees.items():
            for name, served in (("bundleserver", "store"), ("forecasters", "forecasters")):
                server = TreeServer(name, site, tree)
                server.log = site.root / f"{who}-{served}.log"
                servers[who, served] = running.enter_context(server)
        for work in (*COMPARED, *OURS):
            for who in trees:
                served = "forecasters" if work.model in OUR_MODELS else "store"
                servers[who, served].wait_for_answer(question(work))
        yield servers


def _show(found: dict[Workload, dict[str, list[float]]]) -> list[str]:
    table = Table(title="answers per second, by turns")
    for heading in ("load", "this", "before", "this / before", "before / before", ""):
        table.add_column(heading, justify="left" if heading == "load" else "right")
    fallen = []
    for work, seen in found.items():
        change = _ratio(seen["this"], seen["before"])
        alike = _ratio(seen["again"], seen["before"])
        spread = max(LEAST_SPREAD, abs(1 - alike), _deviation(seen["again"], seen["before"]))
        falls = change < 1 - spread
        fallen += [work.title] if falls else []
        medians = (f"{statistics.median(seen[who]):.0f}" for who in ("this", "before"))
        known = f"{alike:.3f} ± {spread:.3f}"
        table.add_row(work.title, *medians, f"{change:.3f}", known, "falls" if falls else "")
    CONSOLE.print(table)
    return fallen


def _ratio(one: list[float], other: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(one, other, strict=True))


def _deviation(one: list[float], other: list[float]) -> float:
    """Return the median distance of the rounds' ratios from their median."""
    ratios = [a / b for a, b in zip(one, other, strict=True)]
    middle = statistics.median(ratios)
    return statistics.median(abs(ratio - middle) for ratio in ratios)


if __name__ == "__main__":
    main()
