"""What a scrape of ``/metrics`` costs, with a thousand models and with five hundred versions.

It serves that many models in a process of its own, asks each of them before a scrape, so that all
their series have changed, and times the page; meanwhile another client asks ``/v2/health/live``.
``python benchmarks/scrape.py [--models 1000] [--quick]`` writes ``scrape.md``.
"""

from __future__ import annotations

import argparse
import http.client
import os
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import orjson
import psutil
from machine import facts
from rich.console import Console
from servers import free_ports
from sklearn.dummy import DummyRegressor

from bundleserver import BundleStore

BUILD = Path(__file__).parent.parent / "build" / "bench"
PAGE = Path(__file__).with_name("scrape.md")
HOST = "127.0.0.1"
READY_SECONDS = 600.0
OPEN_METRICS = "application/openmetrics-text;version=1.0.0"
GOAL_MS = 50.0
KINDS = {
    "text": {"accept": "text/plain"},
    "OpenMetrics": {"accept": OPEN_METRICS},
    "OpenMetrics, gzip, as Prometheus asks": {"accept": OPEN_METRICS, "accept-encoding": "gzip"},
}
BODY = orjson.dumps(
    {"inputs": [{"name": "features", "datatype": "FP64", "shape": [1, 3], "data": [1.0, 2.0, 3.0]}]}
)


def main() -> None:
    """Serve, ask, scrape, publish, and write what it cost."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=int, default=1000)
    parser.add_argument("--versions", type=int, default=500)
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    arguments = parser.parse_args()
    rounds = 3 if arguments.quick else 15
    about = facts()
    lines = _many_models(arguments.models, rounds) + _many_versions(arguments.versions)
    text = "\n".join(
        ["# What a scrape costs", "", *(f"- {k}: {v}" for k, v in about.items()), "", *lines, ""]
    )
    PAGE.write_text(text)
    Console().print(text, markup=False)


def _many_models(count: int, rounds: int) -> list[str]:
    store = BundleStore(BUILD / "scrape")
    shutil.rmtree(store.root, ignore_errors=True)
    names = [f"model-{number}" for number in range(count)]
    _write(store, names)
    lines = [f"## {count:,} models, each asked before each scrape", ""]
    lines += [
        "| page | samples | MB on the wire | processor, ms | median, ms |",
        "|---|--:|--:|--:|--:|",
    ]
    with _serving(store.root, "--poll_interval_seconds", "60") as (port, server):
        _wait_until_ready(port, names)
        for kind, headers in KINDS.items():
            times, page, spent = [], b"", 0.0
            for _ in range(rounds):
                _ask(port, names)
                spent -= _processor_seconds(server)
                started = time.perf_counter()
                page = _get(port, "/metrics", headers)
                times.append((time.perf_counter() - started) * 1e3)
                spent += _processor_seconds(server)
            samples = _get(port, "/metrics", {"accept": "text/plain"}).count(b"\n")
            spent_ms, median = f"{spent / rounds * 1e3:.0f}", f"{statistics.median(times):.0f}"
            lines.append(
                f"| {kind} | {samples:,} | {len(page) / 1e6:.2f} | {spent_ms} | {median} |"
            )
        lines += [
            "",
            f"The goal is {GOAL_MS:g} ms. Processor time counts on a machine that others use too.",
            "",
            *_health(port, names, rounds),
        ]
    return [*lines, ""]


def _health(port: int, names: list[str], rounds: int) -> list[str]:
    """Time ``/v2/health/live`` with and without scrapes beside it."""
    rows = ["| beside | `/v2/health/live` p50, ms | p99, ms | most, ms |", "|---|--:|--:|--:|"]
    headers = KINDS["OpenMetrics, gzip, as Prometheus asks"]

    def scrapes() -> None:
        _get(port, "/metrics", headers)

    def asked_and_scraped() -> None:
        _ask(port, names[:50])
        _get(port, "/metrics", headers)

    for title, beside in (
        ("nothing", lambda: time.sleep(0.01)),
        ("one scrape after the other", scrapes),
        ("50 requests, a scrape, and so on", asked_and_scraped),
    ):
        times = sorted(_beside(port, beside, seconds=rounds / 2))
        p50, p99 = (times[int(len(times) * share)] for share in (0.5, 0.99))
        rows.append(f"| {title} | {p50:.2f} | {p99:.2f} | {times[-1]:.2f} |")
    return rows


def _beside(port: int, beside: Callable[[], None], seconds: float) -> list[float]:
    ending, times = threading.Event(), []

    def ask() -> None:
        while not ending.is_set():
            beside()

    thread = threading.Thread(target=ask)
    thread.start()
    connection = http.client.HTTPConnection(HOST, port)
    end = time.perf_counter() + seconds
    while (started := time.perf_counter()) < end:
        connection.request("GET", "/v2/health/live")
        connection.getresponse().read()
        times.append((time.perf_counter() - started) * 1e3)
        time.sleep(0.002)
    ending.set()
    thread.join()
    return times


def _many_versions(count: int) -> list[str]:
    """Publish versions one after the other, ask each, and scrape after each."""
    store = BundleStore(BUILD / "scrape-versions")
    shutil.rmtree(store.root, ignore_errors=True)
    _write(store, ["one"])
    sizes = {}
    with _serving(store.root, "--poll_interval_seconds", "0.1") as (port, _):
        _wait_until_ready(port, ["one"])
        first = store.path("one", "v1")
        for number in range(2, count + 1):
            directory = store.path("one", f"v{number}")
            directory.mkdir()
            for file in sorted(first.iterdir(), key=lambda file: file.name == "manifest.json"):
                os.link(file, directory / file.name)
            _wait_until(port, f"/v2/models/one/versions/v{number}/ready")
            _ask(port, ["one"])
            page = _get(port, "/metrics", {"accept": "text/plain"})
            if number in (2, 10, 50, count // 5, count // 2, count):
                sizes[number] = page.count(b"\nbundleserver_"), len(page)
    rows = ["| versions published | samples | kB |", "|--:|--:|--:|"]
    rows += [f"| {n:,} | {samples:,} | {size / 1e3:.0f} |" for n, (samples, size) in sizes.items()]
    title = f"## {count} versions of one model, each published, asked and scraped"
    remark = "Series of versions that are gone stay for 15 minutes, those of ten of them at most."
    return [title, "", *rows, "", remark]


def _processor_seconds(server: psutil.Process) -> float:
    """Return what the process has used; the kernel counts in hundredths of a second."""
    used = server.cpu_times()
    return used.user + used.system


def _write(store: BundleStore, names: list[str]) -> None:
    """Save one model and link its files into the others."""
    store.save(names[0], DummyRegressor().fit(np.zeros((4, 3)), np.zeros(4)), version="v1")
    first = store.path(names[0], "v1")
    for name in names[1:]:
        directory = store.root / name / "v1"
        directory.mkdir(parents=True)
        for file in first.iterdir():
            os.link(file, directory / file.name)


@contextmanager
def _serving(directory: Path, *flags: str) -> Iterator[tuple[int, psutil.Process]]:
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "bundleserver", "serve", "--model_dir", str(directory)]
    command += ["--http_port", str(port), "--host", HOST, "--enable_grpc", "false", *flags]
    with (BUILD / "scrape.log").open("w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log)  # the command is our own
        try:
            yield port, psutil.Process(server.pid)
        finally:
            server.terminate()
            server.wait()


def _wait_until_ready(port: int, names: list[str]) -> None:
    for name in names:
        _wait_until(port, f"/v2/models/{name}/ready")


def _wait_until(port: int, path: str) -> None:
    end = time.monotonic() + READY_SECONDS
    while time.monotonic() < end:
        try:
            with closing(http.client.HTTPConnection(HOST, port)) as connection:
                connection.request("GET", path)
                if connection.getresponse().status == 200:
                    return
        except OSError:
            pass
        time.sleep(0.02)
    raise SystemExit(f"{path} is not ready; see {BUILD / 'scrape.log'}")


def _ask(port: int, names: list[str]) -> None:
    with closing(http.client.HTTPConnection(HOST, port)) as connection:
        for name in names:
            connection.request("POST", f"/v2/models/{name}/infer", BODY)
            answer = connection.getresponse()
            text = answer.read().decode()
            if answer.status != 200:
                raise SystemExit(f"{name} answered {answer.status}: {text}")


def _get(port: int, path: str, headers: dict[str, str]) -> bytes:
    with closing(http.client.HTTPConnection(HOST, port)) as connection:
        connection.request("GET", path, headers=headers)
        return connection.getresponse().read()


if __name__ == "__main__":
    main()
