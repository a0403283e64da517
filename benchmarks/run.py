"""Measure bundleserver beside KServe's server and one written by hand, in interleaved rounds.

Run it with ``make bench``, or ``python benchmarks/run.py [--quick]``. The parts:

- ``models.py`` fits the models and saves them, ``lstm.py`` is one of them
- ``workloads.py`` says what is asked and what the goals are, ``questions.py`` makes bytes of it
- ``servers.py`` starts the servers, ``rivals/`` holds the two others
- ``rounds.py`` takes the servers in turns
- ``quiet.py`` measures again where the host took the processors away
- ``load.py`` drives wrk and ``grpc_load.py``; ``probe.py`` asks beside the load
- ``opening.py`` opens a bundle in a fresh process, beside the libraries alone
- ``in_process.py`` measures the libraries' own calls
- ``measurements.py``, ``report.py``, ``picture.py`` and ``machine.py`` make the report
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from load import LoadFailed, find_wrk
from machine import facts
from measurements import Results
from models import Site, save_forecasters, save_forest, save_free, save_libraries
from opening import measure_openings
from picture import draw
from quiet import Patience
from report import document, tables
from rich.console import Console
from rich.progress import Progress
from rounds import Plan, measure_loads, measure_starts
from servers import HERE, ServerFailed, fastapi_python, mlserver_python
from workloads import LIBRARIES, LIBRARY_SERVERS, SERVERS

BUILD = HERE.parent / "build" / "bench"
REMARKS = HERE / "remarks.md"
# Wide enough for the tables, also where the output goes to a file.
CONSOLE = Console(width=max(150, shutil.get_terminal_size().columns))


QUICK = Plan(rounds=1, seconds=1, starts=1)
FULL = Plan(rounds=4, seconds=2, starts=4)


def main() -> None:
    """Measure, print the tables, and write ``results.md`` and ``results.png``."""
    arguments = _parse()
    plan = QUICK if arguments.quick else FULL
    try:
        find_wrk()
        results = _measure(plan, _python_of_each(arguments.one_environment))
    except (LoadFailed, ServerFailed, subprocess.CalledProcessError) as error:
        sys.exit(f"the benchmarks failed: {error}")
    for table in tables(results):
        table.show(CONSOLE)
    _write(results, arguments.output)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one short round, about a minute")
    parser.add_argument(
        "--one-environment",
        action="store_true",
        help="run the FastAPI service from this environment too, and install nothing",
    )
    parser.add_argument(
        "--output", type=Path, default=HERE, help="where results.md and results.png go"
    )
    return parser.parse_args()


def _python_of_each(one_environment: bool) -> dict[str, str]:
    own = dict.fromkeys((*SERVERS, "forecasters"), sys.executable)
    if one_environment:
        return own
    constraints = HERE.parent / "constraints.txt"
    return {**own, "fastapi": fastapi_python(BUILD, constraints)}


def _measure(plan: Plan, pythons: Mapping[str, str]) -> Results:
    results = Results(facts={**facts(), "rounds": f"{plan.rounds} of {plan.seconds:g} s each"})
    site, libraries, patience = *_fit_models(), Patience()
    with Progress(console=Console(stderr=True)) as progress:
        results.in_process_ms = _in_process(site)
        measure_loads(results, plan, site, pythons, progress, patience)
        measure_starts(results, plan, site, pythons, progress, patience)
        measure_loads(
            results, plan, libraries, _of_libraries(pythons), progress, patience, LIBRARIES
        )
        measure_openings(results, plan.starts, libraries, progress)
    results.facts["neighbours"] = patience.summary()
    return results


def _of_libraries(pythons: Mapping[str, str]) -> dict[str, str]:
    own = {name: pythons[name] for name in LIBRARY_SERVERS if name in pythons}
    return {**own, "mlserver": mlserver_python(BUILD)}


def _fit_models() -> tuple[Site, Site]:
    """Fit the models anew, so that they are always those of this code.

    Those of other libraries are served by servers of their own, so that the memory and the start of
    the others stay comparable.
    """
    site, libraries = Site(BUILD / "models"), Site(BUILD / "libraries")
    shutil.rmtree(site.root, ignore_errors=True)
    shutil.rmtree(libraries.root, ignore_errors=True)
    logging.getLogger("cmdstanpy").setLevel(logging.WARNING)
    save_free(site)
    save_forest(site)
    save_forecasters(site)
    save_libraries(libraries)
    return site, libraries


def _in_process(site: Site) -> dict[str, float]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(HERE / "in_process.py"), str(site.root)]
    asked = subprocess.run(  # the command is our own
        command, env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    return dict(json.loads(asked.stdout.splitlines()[-1]))


def _write(results: Results, output: Path) -> None:
    results.write(BUILD / "results.json")
    draw(results, output / "results.png")
    remarks = REMARKS.read_text() if REMARKS.exists() else ""
    (output / "results.md").write_text(document(results, remarks))
    CONSOLE.print(f"wrote {output / 'results.md'}, results.png beside it, {BUILD / 'results.json'}")


if __name__ == "__main__":
    main()
