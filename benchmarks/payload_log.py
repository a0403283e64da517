"""What a payload log costs: answers per second with it and without, by turns.

``python benchmarks/payload_log.py [--rounds 5] [--seconds 3] [--connections 8]``: a model that
costs nothing, so that the log weighs most, and a forest; one row of 8 columns each by V1.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import orjson
from load import Load, put_load
from questions import Question
from rich.console import Console
from rich.table import Table
from servers import HOST, free_ports
from sklearn.dummy import DummyRegressor
from sklearn.ensemble import IsolationForest

from bundleserver import BundleStore

BUILD = Path(__file__).parent.parent / "build" / "bench" / "payload_log"
ROWS = np.random.default_rng(0).normal(size=(200, 8))
MODELS = {"free": DummyRegressor(), "forest": IsolationForest(n_estimators=100, random_state=0)}
SETTINGS: Mapping[str, tuple[str, ...]] = {
    "off": (),
    "0.1, all inputs": ("--log_sample=0.1", "--log_columns=all"),
    "1.0, no inputs": ("--log_sample=1",),
    "1.0, all inputs": ("--log_sample=1", "--log_columns=all"),
}


class Running:
    """A server that listens; as ``put_load`` knows servers."""

    def __init__(self, name: str, flags: tuple[str, ...]) -> None:
        self.name, self.log = name, BUILD / re.sub(r"\W+", "-", name)
        self.port, grpc_port = free_ports(2)
        self.grpc_address = f"{HOST}:{grpc_port}"
        own = ("--log_requests", str(self.log), *flags) if flags else ()
        ports = ("--http_port", str(self.port), "--grpc_port", str(grpc_port), "--host", HOST)
        words = ("-m", "bundleserver", "serve", "--model_dir", str(BUILD / "models"), *ports, *own)
        self.process = subprocess.Popen(
            [sys.executable, *words],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stderr=subprocess.DEVNULL,
        )

    def dropped(self) -> float:
        """Return how many requests were to be logged and are not."""
        with urllib.request.urlopen(f"http://{HOST}:{self.port}/metrics") as answer:
            text = answer.read().decode()
        return sum(map(float, re.findall(r"log_dropped_total\S+ (\S+)", text)))


def main() -> None:
    """Measure every setting, and print the ratios to the server without a log."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--connections", type=int, default=8)
    asked = parser.parse_args()
    shutil.rmtree(BUILD, ignore_errors=True)
    store = BundleStore(BUILD / "models")
    for name, model in MODELS.items():
        store.save(name, model.fit(ROWS, ROWS[:, 0]))
    table = Table(title="Answers per second with a payload log, as a ratio to none")
    for heading in ("model", "log", "answers/s", "ratio", "least to most", "p99 ms", "dropped"):
        table.add_column(heading, justify="right")
    with ExitStack() as running:
        servers = [running.enter_context(_serve(*each)) for each in SETTINGS.items()]
        for model in MODELS:
            loads = _measure(servers, model, asked)
            for server in servers:
                table.add_row(model, server.name, *_figures(server, loads))
    Console().print(table)


@contextmanager
def _serve(name: str, flags: tuple[str, ...]) -> Iterator[Running]:
    server = Running(name, flags)
    try:
        yield server
    finally:
        server.process.send_signal(signal.SIGTERM)
        server.process.wait()


def _measure(
    servers: list[Running], model: str, asked: argparse.Namespace
) -> dict[str, list[Load]]:
    body = orjson.dumps({"instances": ROWS[:1].tolist()})
    question = Question(f"/v1/models/{model}:predict", body, {"content-type": "application/json"})
    for server in servers:
        _wait(server, model)
        put_load(server, question, asked.connections, 1)
    loads: dict[str, list[Load]] = {server.name: [] for server in servers}
    for number in range(asked.rounds):
        # Each round begins with another server.
        for server in servers[number % len(servers) :] + servers[: number % len(servers)]:
            loads[server.name].append(put_load(server, question, asked.connections, asked.seconds))
    return loads


def _wait(server: Running, model: str) -> None:
    url = f"http://{HOST}:{server.port}/v2/models/{model}/ready"
    while server.process.poll() is None:
        try:
            urllib.request.urlopen(url).close()
            return
        except OSError:
            continue
    raise SystemExit(f"the server '{server.name}' has ended")


def _figures(server: Running, loads: Mapping[str, list[Load]]) -> tuple[str, ...]:
    own = loads[server.name]
    ratios = [mine.per_second / off.per_second for mine, off in zip(own, loads["off"], strict=True)]
    return (
        f"{statistics.median(load.per_second for load in own):,.0f}",
        f"{statistics.median(ratios):.2f}",
        f"{min(ratios):.2f} to {max(ratios):.2f}",
        f"{statistics.median(load.p99_ms for load in own):.2f}",
        f"{server.dropped():,.0f}",
    )


if __name__ == "__main__":
    main()
