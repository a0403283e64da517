"""What one replica holds and gives: memory by model and through a swap, and answers per second.

The images must be there, and wrk: ``tests/image/engine.sh .venv/bin/python benchmarks/replica.py``
prints a table. Containers run as on a platform, with one CPU, so that wrk has the other one.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import httpx
from load import find_wrk
from rich.console import Console
from servers import HERE

from bundleserver import BundleStore
from image import (
    FORECAST,
    FULL,
    PLATFORM,
    ROWS,
    SLIM,
    Case,
    Container,
    Image,
    bundles,
    extras,
    memory,
    running,
    wait_for_answer,
)

MODEL = "predictive-analytics"
CONNECTIONS = 8
DEADLINE_SECONDS = 60.0
BODIES = {
    MODEL: ROWS,
    "lstm-predictor": ROWS,
    "arima-predictor": FORECAST,
    "prophet-predictor": FORECAST,
}


@dataclass(frozen=True)
class Swap:
    """How long a new version took to answer, and the most that the process held until then."""

    seconds: float
    mebibytes: float


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=10, help="of load in each round")
    asked = parser.parse_args()
    console = Console(width=120)
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary) / "models"
        root.mkdir()
        bundles(root)
        for image in (SLIM, FULL):
            for line in report(image, root, asked.rounds, asked.seconds):
                console.print(f"{extras(image)}: {line}")


def report(image: Image, root: Path, rounds: int, seconds: int) -> Iterator[str]:
    """Measure one image, as often as told; a line for each number."""
    empty = median(held_by_no_model(image) for _ in range(rounds))
    yield f"no model: {empty:.0f} MiB"
    for model in BODIES if image is FULL else (MODEL,):
        held = median(held_with(image, root, model) for _ in range(rounds))
        yield f"{model}: {held:.0f} MiB, {held - empty:.0f} more than without a model"
    swaps = [swap(image, root) for _ in range(rounds)]
    yield f"swap: {median(each.mebibytes for each in swaps):.0f} MiB at most"
    waits = sorted(each.seconds for each in swaps)
    yield f"publish to first answer: {median(waits):.1f} s ({waits[0]:.1f} to {waits[-1]:.1f})"
    rates = sorted(answers_per_second(image, root, seconds) for _ in range(rounds))
    yield f"answers: {median(rates):.0f}/s ({rates[0]:.0f} to {rates[-1]:.0f})"


def held_by_no_model(image: Image) -> float:
    """Start a server on an empty directory; return what it holds once it is alive."""
    with (
        tempfile.TemporaryDirectory() as empty,
        running(image, Path(empty)) as container,
    ):
        container.wait_for_line("serving REST on")
        return memory(container, "VmRSS")


def held_with(image: Image, root: Path, model: str) -> float:
    """Start a server on one model; return what it holds after its first answer."""
    with serving(image, root, model) as container:
        return memory(container, "VmRSS")


def swap(image: Image, root: Path) -> Swap:
    """Publish a version beside the one that answers, and ask until the new one does."""
    store = BundleStore(root)
    with serving(image, root, MODEL) as container, httpx.Client(base_url=container.rest) as client:
        version = str(store.publish(root.parent / "legacy" / MODEL, MODEL))
        published = time.monotonic()
        while version_that_answers(client) != version:
            if time.monotonic() - published > DEADLINE_SECONDS:
                raise SystemExit(f"{version} does not answer:\n{container.log}")
            time.sleep(0.02)
        return Swap(time.monotonic() - published, memory(container, "VmHWM"))


def version_that_answers(client: httpx.Client) -> str:
    """Ask for a prediction and return which version gave it."""
    answer = client.post(f"/v1/models/{MODEL}:predict", content=ROWS)
    return answer.raise_for_status().headers["x-model-version"]


def answers_per_second(image: Image, root: Path, seconds: int) -> float:
    """Ask about one row over and over, on several connections."""
    with (
        tempfile.NamedTemporaryFile(suffix=".body") as file,
        serving(image, root, MODEL) as container,
    ):
        file.write(ROWS.encode())
        file.flush()
        url = f"{container.rest}/v1/models/{MODEL}:predict"
        how = ["-t1", f"-c{CONNECTIONS}", f"-d{seconds}s"]
        header = ["content-type", "application/json"]
        script = ["--script", str(HERE / "wrk" / "post.lua"), url, "--", file.name, *header]
        done = subprocess.run([find_wrk(), *how, *script], capture_output=True, check=True)
        found = json.loads(done.stdout.splitlines()[-1])
        if found["failed"]:
            raise SystemExit(f"{found['failed']} answers failed:\n{container.log}")
        return found["requests"] / found["seconds"]


@contextmanager
def serving(image: Image, root: Path, model: str) -> Iterator[Container]:
    """Run a container that has given its first answer."""
    case = Case(image, model, BODIES[model], cpus=1)
    options = (*PLATFORM, "--cpus=1")
    with running(image, root / model, f"--model_name={model}", options=options) as container:
        wait_for_answer(container, case)
        yield container


if __name__ == "__main__":
    main()
