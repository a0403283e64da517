"""How long it takes from moving an alias in MLflow to the first answer of the new version.

Starts an MLflow server and ours, moves the alias back and forth while a client asks, and prints a
table: python benchmarks/alias_move.py --moves 20 --poll_interval_seconds 1
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import requests
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.mlflow_server import MlflowServer, free_port, make_bundle, wait_until

NAME = "alias-move"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--moves", type=int, default=20)
    parser.add_argument("--poll_interval_seconds", type=float, default=1.0)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        server = MlflowServer(Path(temporary))
        server.start()
        try:
            seconds = measure(server, Path(temporary), asked.moves, asked.poll_interval_seconds)
        finally:
            server.kill()
    show(seconds, asked.poll_interval_seconds)


def measure(
    server: MlflowServer, directory: Path, moves: int, poll_interval_seconds: float
) -> dict[str, list[float]]:
    """Return the seconds of every move, by what had to be done for it."""
    os.environ["MLFLOW_TRACKING_URI"] = server.uri
    from bundleserver.sources.registry.client import RegistryClient
    from bundleserver.sources.registry.uri import ModelUri
    from bundleserver.store.pushing import push

    client, uri = RegistryClient(), ModelUri(NAME, alias="champion")
    bundles = [make_bundle(directory / "store", factor) for factor in (1.0, 2.0)]
    push(bundles[0], uri, client)
    port = free_port()
    ours = start(server, directory / "cache", port, poll_interval_seconds)
    try:
        wait_until(lambda: version_of(port) == "1")
        first = push(bundles[1], ModelUri(NAME), client).version
        found = {"fetched": [move(server, port, first)], "cached": []}
        # A swap ends right after a poll; without a pause every move would come at that moment.
        pauses = np.random.default_rng(0).uniform(0, poll_interval_seconds, moves)
        for index, pause in enumerate(pauses):
            time.sleep(pause)
            found["cached"].append(move(server, port, "21"[index % 2 ^ 1]))
    finally:
        ours.send_signal(signal.SIGTERM)
        ours.wait(60)
    return found


def start(
    server: MlflowServer, cache: Path, port: int, poll_interval_seconds: float
) -> subprocess.Popen[bytes]:
    """Start our server on the model's champion."""
    flags = {
        "--model_uri": f"models:/{NAME}@champion",
        "--cache_dir": cache,
        "--http_port": port,
        "--enable_grpc": "false",
        "--poll_interval_seconds": poll_interval_seconds,
    }
    words = [str(word) for flag in flags.items() for word in flag]
    return subprocess.Popen(  # our own server
        [sys.executable, "-m", "bundleserver", "serve", *words],
        stderr=subprocess.DEVNULL,
        env={**os.environ, "MLFLOW_TRACKING_URI": server.uri},
    )


def move(server: MlflowServer, port: int, version: str) -> float:
    """Move the alias and ask until the new version answers; return the seconds."""
    server.client().set_registered_model_alias(NAME, "champion", version)
    started = time.perf_counter()
    while version_of(port) != version:
        if time.perf_counter() - started > 120:
            raise TimeoutError(f"version {version} has not answered within 120 s")
    return time.perf_counter() - started


def version_of(port: int) -> str | None:
    """Return the version that answers, or None."""
    url = f"http://127.0.0.1:{port}/v1/models/{NAME}:predict"
    try:
        answer = requests.post(url, json={"instances": [[1.0, 2.0]]}, timeout=30)
    except requests.ConnectionError:
        return None
    return answer.headers.get("x-model-version")


def show(found: dict[str, list[float]], poll_interval_seconds: float) -> None:
    """Print the table."""
    table = Table(title=f"alias moved → first answer (polled every {poll_interval_seconds:g} s)")
    for heading in ("the new version is", "moves", "median s", "least s", "most s"):
        table.add_column(heading)
    for kind, seconds in found.items():
        numbers = (statistics.median(seconds), min(seconds), max(seconds))
        table.add_row(kind, str(len(seconds)), *(f"{number:.2f}" for number in numbers))
    Console().print(table)


if __name__ == "__main__":
    main()
