"""How large the images are, and how long a container takes from its start to the first answer.

The images must be there: ``tests/image/engine.sh .venv/bin/python benchmarks/image.py --rounds 5``
prints two tables. Containers run as on a platform, under a memory and a CPU limit.
"""

from __future__ import annotations

import argparse
import http.client
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.end_to_end import adr
from tests.image.containers import PLATFORM, Container, Image, docker, running

import bundleserver
from bundleserver import BundleStore

FULL = Image(f"bundleserver:{bundleserver.__version__}")
SLIM = Image(f"bundleserver-sklearn:{bundleserver.__version__}")
ROWS = '{"instances": [[0.5, 0.3, 0.8]]}'
FORECAST = '{"instances": [{"horizon": 4}]}'
MEGABYTE = 10**6
DEADLINE_SECONDS = 120.0


@dataclass(frozen=True)
class Case:
    """One kind of start: which image opens which model with how many CPUs."""

    image: Image
    model: str
    body: str
    cpus: int


CASES = tuple(
    Case(image, model, body, cpus)
    for cpus in (1, 2)
    for image, model, body in (
        (SLIM, "predictive-analytics", ROWS),
        (FULL, "predictive-analytics", ROWS),
        (FULL, "lstm-predictor", ROWS),
        (FULL, "arima-predictor", FORECAST),
        (FULL, "prophet-predictor", FORECAST),
    )
)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    console = Console()
    console.print(size_table())
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary) / "models"
        root.mkdir()
        seconds, memory = measure(bundles(root), asked.rounds)
    console.print(start_table(seconds, memory))


def bundles(root: Path) -> Path:
    """Publish ADR-031's directories as a store does, so that no start waits for files to settle."""
    legacy = root.parent / "legacy"
    legacy.mkdir()
    adr.write_volume(legacy)
    store = BundleStore(root)
    for model in sorted({case.model for case in CASES}):
        store.publish(legacy / model, model)
    return root


def measure(
    root: Path, rounds: int
) -> tuple[Mapping[Case, list[float]], Mapping[Case, list[float]]]:
    """Start every case in turn, as often as told; return seconds, and megabytes once it answers."""
    seconds: dict[Case, list[float]] = {case: [] for case in CASES}
    memory: dict[Case, list[float]] = {case: [] for case in CASES}
    turns = [case for _ in range(rounds) for case in CASES]
    for case in track(turns, "starting containers", transient=True):
        options = (*PLATFORM, f"--cpus={case.cpus}")
        started = time.monotonic()
        flags = (f"--model_name={case.model}",)
        with running(case.image, root / case.model, *flags, options=options) as container:
            wait_for_answer(container, case)
            seconds[case].append(time.monotonic() - started)
            memory[case].append(resident_bytes(container) / MEGABYTE)
    return seconds, memory


def wait_for_answer(container: Container, case: Case) -> None:
    """Ask until the model answers."""
    address = container.rest.removeprefix("http://")
    end = time.monotonic() + DEADLINE_SECONDS
    while not answers(address, f"/v1/models/{case.model}:predict", case.body):
        if time.monotonic() > end:
            sys.exit(f"{case.image.name} gave no answer for {case.model}:\n{container.log}")
        time.sleep(0.02)


def answers(address: str, path: str, body: str) -> bool:
    """Ask once, over a connection of its own."""
    connection = http.client.HTTPConnection(address, timeout=DEADLINE_SECONDS)
    try:
        connection.request("POST", path, body, {"content-type": "application/json"})
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        # Docker listens before the server does, and closes what it cannot pass on.
        return False
    finally:
        connection.close()


def resident_bytes(container: Container) -> int:
    """Return the memory that process 1 holds."""
    status = container.execute("cat", "/proc/1/status")
    kilobytes = next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS"))
    return int(kilobytes) * 1024


def compressed_bytes(image: Image) -> int:
    """Return how much of an image travels: what ``docker save`` gives, under gzip."""
    save = subprocess.Popen(  # the client that engine.sh found
        [os.environ["DOCKER"], "save", image.name], stdout=subprocess.PIPE
    )
    gzip = subprocess.Popen(["gzip", "-c"], stdin=save.stdout, stdout=subprocess.PIPE)
    assert gzip.stdout
    count = sum(len(block) for block in iter(lambda: gzip.stdout.read(2**20), b""))
    if save.wait() or gzip.wait():
        sys.exit(f"{image.name} cannot be saved")
    return count


def code_bytes(image: Image) -> int:
    """Return the size of the layer that a change of code makes anew."""
    history = docker(
        "history", "--no-trunc", "--human=false", "--format={{.Size}} {{.CreatedBy}}", image.name
    )
    return next(
        int(line.split()[0]) for line in history.splitlines() if "/opt/bundleserver" in line
    )


def size_table() -> Table:
    """Say how large the images are."""
    base = int(str(Image(os.environ["BASE_IMAGE"]).inspect()["Size"]))
    table = Table(
        title=f"sizes in MB; the base, {os.environ['BASE_IMAGE']}, has {base / MEGABYTE:.0f}"
    )
    for column in ("image", "in all", "above base", "of it code", "compressed"):
        table.add_column(
            column, justify="left" if column == "image" else "right", no_wrap=column == "image"
        )
    for image in (SLIM, FULL):
        size = int(str(image.inspect()["Size"]))
        numbers = (size, size - base, code_bytes(image), compressed_bytes(image))
        table.add_row(image.name, *(f"{number / MEGABYTE:.1f}" for number in numbers))
    return table


def start_table(seconds: Mapping[Case, list[float]], memory: Mapping[Case, list[float]]) -> Table:
    """Say how long a start takes, and what the process holds then."""
    table = Table(title="from 'docker run' to the first answer, seconds")
    for column in ("image", "model", "CPUs", "fastest", "median", "slowest", "memory, MB"):
        is_name = column in ("image", "model")
        table.add_column(column, justify="left" if is_name else "right", no_wrap=is_name)
    for case, times in seconds.items():
        numbers = (min(times), statistics.median(times), max(times))
        held = f"{statistics.median(memory[case]):.0f}"
        shown = [f"{number:.1f}" for number in numbers]
        table.add_row(case.image.name, case.model, str(case.cpus), *shown, held)
    return table


if __name__ == "__main__":
    main()
