"""What traces cost a server over a socket: at 5 % sampling and without them, by turns.

Run ``python benchmarks/tracing_socket.py [--rounds 30] [--write PAGE]``. Each variant is a server
with one worker process; wrk asks for one row over 16 connections for a second, and the next one
has its turn. A collector takes the spans over gRPC. A round has each variant once; what counts is
the median of the rounds' ratios to ``off``: of requests per second, and of the server's processor
time per request (the kernel's and the exporting thread's included), which other work on the
machine disturbs less.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from load import put_load
from models import Site, save_forest, save_free
from questions import Question
from servers import Server
from tracing import MODELS, collector, replace

VARIANTS = ("off", "off again", "5 % sampled")
MARK = "benchmarks/tracing_socket.py"
CONNECTIONS = 16

Turn = tuple[float, float]
"""Requests per second, and microseconds of processor time per request."""


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--write", type=Path, help="a page whose table is replaced")
    arguments = parser.parse_args()
    lines = [
        "| model | variant | requests per second | ratio | µs of processor time | ratio |",
        "|---|---|---|---|---|---|",
    ]
    with contextlib.ExitStack() as running:
        site = Site(Path(running.enter_context(tempfile.TemporaryDirectory())))
        endpoint = running.enter_context(collector())
        for save in (save_free, save_forest):
            save(site)
        servers = {name: running.enter_context(_started(name, site, endpoint)) for name in VARIANTS}
        for model in MODELS:
            lines += _rows(model, _measure(model, servers, arguments.rounds))
    table = "\n".join(lines)
    print(table)  # noqa: T201  # its answer
    if arguments.write:
        replace(arguments.write, table, MARK)


def _rows(model: str, found: dict[str, list[Turn]]) -> Iterator[str]:
    for name, turns in found.items():
        pairs = list(zip(turns, found["off"], strict=True))
        rate, micros = (statistics.median(turn[which] for turn in turns) for which in (0, 1))
        faster = statistics.median(own[0] / off[0] for own, off in pairs)
        cheaper = statistics.median(off[1] / own[1] for own, off in pairs)
        yield f"| `{model}` | {name} | {rate:.0f} | {faster:.3f} | {micros:.1f} | {cheaper:.3f} |"


def _measure(model: str, servers: dict[str, Server], rounds: int) -> dict[str, list[Turn]]:
    tensor = {"name": "features", "datatype": "FP64", "shape": [1, 8], "data": [*range(8)]}
    body = json.dumps({"inputs": [tensor]}).encode()
    asked = Question(f"/v2/models/{model}/infer", body, {"Content-Type": "application/json"})
    for server in servers.values():
        server.wait_for_answer(asked)
        _turn(server, asked)
    found: dict[str, list[Turn]] = {name: [] for name in servers}
    for number in range(rounds):
        names = [*servers][number % len(servers) :] + [*servers][: number % len(servers)]
        for name in names:
            found[name].append(_turn(servers[name], asked))
    return found


def _turn(server: Server, asked: Question) -> Turn:
    before = _processor_seconds(server)
    load = put_load(server, asked, CONNECTIONS, 1)
    if load.failed:
        raise SystemExit(f"{load.failed} of {load.requests} requests failed; see {server.log}")
    return load.per_second, (_processor_seconds(server) - before) / load.requests * 1e6


def _processor_seconds(server: Server) -> float:
    """Add up its threads' time, which Linux knows to the nanosecond; psutil's is in ticks."""
    threads = Path(f"/proc/{server.pid}/task").glob("*/schedstat")
    return sum(int(thread.read_text().split()[0]) for thread in threads) / 1e9


@contextlib.contextmanager
def _started(name: str, site: Site, endpoint: str) -> Iterator[Server]:
    """Run a server with the variables of a variant, and no others of OpenTelemetry's."""
    plain = {key: value for key, value in os.environ.items() if not key.startswith("OTEL_")}
    sent = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
        "OTEL_TRACES_SAMPLER_ARG": "0.05",
    }
    kept = dict(os.environ)
    server = Server(name, site, sys.executable)
    try:
        os.environ.clear()
        os.environ.update(plain if name.startswith("off") else {**plain, **sent})
        server.__enter__()
    finally:
        os.environ.clear()
        os.environ.update(kept)
    try:
        yield server
    finally:
        server.__exit__(None, None, None)


if __name__ == "__main__":
    main()
