"""What a look at a model with thousands of version directories costs.

It writes 10 000 versions, serves the newest two in this process, and times the looks:
``python benchmarks/polling.py [--versions 10000]``.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from sklearn.dummy import DummyRegressor

from bundleserver import BundleStore
from bundleserver.manager import Manager
from bundleserver.sources.directory import DirectorySource
from bundleserver.versions import VersionPolicy

MODEL = "many"
POLICY = VersionPolicy.parse("latest:2")
LATER_LOOKS = 20
BUILD = Path(__file__).parent.parent / "build" / "bench"


def main() -> None:
    """Write the versions, look, and print what each kind of look costs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--versions", type=int, default=10_000)
    wanted = parser.parse_args().versions
    store = BundleStore(BUILD / "polling")
    shutil.rmtree(store.root, ignore_errors=True)
    sizes = [2, wanted] if wanted > 2 else [wanted]
    table = Table(title="What a look at the directory costs, ms", caption="policy latest:2")
    for name in ("versions", "first look", "later look", "after a publish", "RSS, MiB"):
        table.add_column(name, justify="right")
    for count in sizes:
        _write_versions(store, count)
        table.add_row(f"{count:,}", *_measure(store))
    Console().print(table)
    shutil.rmtree(store.root)


def _write_versions(store: BundleStore, count: int) -> None:
    """Save one version and link its files into the others: each has a manifest of its own."""
    if not store.versions(MODEL):
        store.save(MODEL, DummyRegressor().fit(np.zeros((4, 3)), np.zeros(4)), version="v1")
    first = store.path(MODEL, "v1")
    for number in range(2, count + 1):
        directory = store.path(MODEL, f"v{number}")
        if not directory.exists():
            directory.mkdir()
            for file in first.iterdir():
                os.link(file, directory / file.name)


def _measure(store: BundleStore) -> tuple[str, ...]:
    manager = Manager(DirectorySource(store.root), policy=POLICY)
    try:
        first = _milliseconds(manager.reconcile)
        # The second look sees that all is loaded; those after it see that nothing changes.
        manager.reconcile()
        later = [_milliseconds(manager.reconcile) for _ in range(LATER_LOOKS)]
        store.save(MODEL, DummyRegressor().fit(np.zeros((4, 3)), np.ones(4)))
        changed = _milliseconds(manager.reconcile)
        _check_serves_newest(manager, store)
    finally:
        manager.close()
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return f"{first:.1f}", f"{statistics.median(later):.2f}", f"{changed:.1f}", f"{rss:.0f}"


def _check_serves_newest(manager: Manager, store: BundleStore) -> None:
    """Make sure that the looks saw the newest version: one that sees nothing is fast, too."""
    newest = str(store.versions(MODEL)[-1])
    with manager.acquire(MODEL) as bundle:
        if bundle.version != newest:
            raise SystemExit(f"version {bundle.version} answers; expected {newest}")


def _milliseconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return (time.perf_counter() - started) * 1e3


if __name__ == "__main__":
    main()
