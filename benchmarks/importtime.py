"""Which imports a start pays for: ``python benchmarks/importtime.py [MODULE]``.

It runs ``python -X importtime`` five times and prints the medians of the dearest packages.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from collections import defaultdict

from rich.console import Console
from rich.table import Table

STARTS = 5
SHOWN = 20
SERVER = "bundleserver.serving.server"


def main() -> None:
    """Print what each top-level package costs by itself, the dearest first."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("module", nargs="?", default=SERVER, help=f"what to import ({SERVER})")
    module = parser.parse_args().module
    runs = [_milliseconds_by_package(module) for _ in range(STARTS)]
    packages = {package for run in runs for package in run}
    medians = {name: statistics.median(run.get(name, 0.0) for run in runs) for name in packages}
    table = Table(title=f"import {module}: {sum(medians.values()):.0f} ms in all")
    table.add_column("package")
    table.add_column("ms", justify="right")
    for name, milliseconds in sorted(medians.items(), key=lambda item: -item[1])[:SHOWN]:
        table.add_row(name, f"{milliseconds:.1f}")
    Console().print(table)


def _milliseconds_by_package(module: str) -> dict[str, float]:
    """Return the time spent in each package's own modules, without what they import."""
    command = [sys.executable, "-X", "importtime", "-c", f"import {module}"]
    asked = subprocess.run(command, capture_output=True, text=True, check=False)
    if asked.returncode:
        sys.exit(f"import {module} failed: {asked.stderr.strip().splitlines()[-1]}")
    spent: dict[str, float] = defaultdict(float)
    for line in asked.stderr.splitlines():
        own, _, name = line.removeprefix("import time:").rpartition("|")
        microseconds = own.partition("|")[0].strip()
        if line.startswith("import time:") and microseconds.isdigit():
            spent[name.strip().partition(".")[0]] += int(microseconds) / 1e3
    return spent


if __name__ == "__main__":
    main()
