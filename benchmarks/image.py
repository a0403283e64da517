"""How large the images are, and how long a container takes from its start to the first answer.

The images must be there: ``tests/image/engine.sh .venv/bin/python benchmarks/image.py --rounds 5``
prints two tables. Containers run as on a platform, under a memory and a CPU limit.
"""

from __future__ import annotations

import argparse
import http.client
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from pathlib import Path
from statistics import median

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
MEBIBYTE = 2**20
DEADLINE_SECONDS = 120.0


@dataclass(frozen=True)
class Case:
    """One kind of start: which image opens which model with how many CPUs."""

    image: Image
    model: str
    body: str
    cpus: int


@dataclass(frozen=True)
class Start:
    """What one start took until the first answer."""

    seconds: float
    cpu_seconds: float
    mebibytes: float


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
        starts = measure(bundles(root), asked.rounds)
    console.print(start_table(starts))


def bundles(root: Path) -> Path:
    """Publish ADR-031's directories as a store does, so that no start waits for files to settle."""
    legacy = root.parent / "legacy"
    legacy.mkdir()
    adr.write_volume(legacy)
    store = BundleStore(root)
    for model in sorted({case.model for case in CASES}):
        store.publish(legacy / model, model)
    return root


def measure(root: Path, rounds: int) -> Mapping[Case, list[Start]]:
    """Start every case in turn, as often as told."""
    starts: dict[Case, list[Start]] = {case: [] for case in CASES}
    turns = [case for _ in range(rounds) for case in CASES]
    for case in track(turns, "starting containers", transient=True):
        options = (*PLATFORM, f"--cpus={case.cpus}")
        began = time.monotonic()
        flags = (f"--model_name={case.model}",)
        with running(case.image, root / case.model, *flags, options=options) as container:
            wait_for_answer(container, case)
            seconds = time.monotonic() - began
            held = memory(container, "VmRSS")
            starts[case].append(Start(seconds, cpu_seconds(container), held))
    return starts


def wait_for_answer(container: Container, case: Case) -> None:
    """Ask until the model answers."""
    address = container.rest.removeprefix("http://")
    end = time.monotonic() + DEADLINE_SECONDS
    while not answers(address, f"/v1/models/{case.model}:predict", case.body):
        if time.monotonic() > end:
            sys.exit(f"{case.image.name} gave no answer for {case.model}:\n{container.log}")
        time.sleep(0.05)


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


def cpu_seconds(container: Container) -> float:
    """Return the CPU seconds that process 1 has taken."""
    after_name = container.execute("cat", "/proc/1/stat").rpartition(")")[2].split()
    return (int(after_name[11]) + int(after_name[12])) / os.sysconf("SC_CLK_TCK")


def memory(container: Container, field: str) -> float:
    """Return the MiB that process 1 holds (``VmRSS``), or has held at most (``VmHWM``)."""
    status = container.execute("cat", "/proc/1/status")
    kibibytes = next(line.split()[1] for line in status.splitlines() if line.startswith(field))
    return int(kibibytes) * 1024 / MEBIBYTE


def compressed_bytes(image: Image) -> int:
    """Return how much of an image travels: what ``docker save`` gives, under gzip."""
    save = subprocess.Popen([os.environ["DOCKER"], "save", image.name], stdout=subprocess.PIPE)
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
    name = os.environ["BASE_IMAGE"]
    base = int(str(Image(name).inspect()["Size"]))
    table = titled(f"sizes in MB; the base, {name}, has {base / MEGABYTE:.0f}", "image")
    for column in ("in all", "above base", "of it code", "compressed"):
        table.add_column(column, justify="right")
    for image in (SLIM, FULL):
        size = int(str(image.inspect()["Size"]))
        numbers = (size, size - base, code_bytes(image), compressed_bytes(image))
        table.add_row(extras(image), *(f"{number / MEGABYTE:.1f}" for number in numbers))
    return table


def start_table(starts: Mapping[Case, list[Start]]) -> Table:
    """Say how long a start takes, and what it takes of the machine."""
    table = titled("from 'docker run' to the first answer", "image", "model")
    for column in ("CPUs", "fastest s", "median s", "CPU s", "MiB"):
        table.add_column(column, justify="right")
    for case, all_of_case in starts.items():
        seconds, busy, held = zip(*map(astuple, all_of_case), strict=True)
        numbers = (min(seconds), median(seconds), median(busy))
        shown = [*(f"{number:.1f}" for number in numbers), f"{median(held):.0f}"]
        table.add_row(extras(case.image), case.model, str(case.cpus), *shown)
    return table


def titled(title: str, *names: str) -> Table:
    """Begin a table whose first columns are names."""
    table = Table(title=title)
    for name in names:
        table.add_column(name, no_wrap=True)
    return table


def extras(image: Image) -> str:
    """Return the build argument that made an image."""
    return "sklearn" if image is SLIM else "full"


if __name__ == "__main__":
    main()
