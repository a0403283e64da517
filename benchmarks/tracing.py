"""What traces cost: requests per second without them, and at 5 % sampling, by turns.

Run ``python benchmarks/tracing.py [--before TREE] [--rounds 30] [--write PAGE]``, where TREE is a
checkout of a commit without traces. Each variant is a process that answers requests of one row
without a socket, so that the request itself is as small as it can be; they take turns. What counts
is processor time, with that of the thread that exports: the lower quartile of the rounds, since
neighbours only ever add to it. Spans go to a collector over gRPC, as in a cluster.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path

HERE = Path(__file__).resolve().parent
MODELS = ("free", "forest")
REQUESTS = 1500
"""Requests in one turn: at 5 % sampling their spans are about one batch for the collector."""


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--before", type=Path, help="a checkout of a commit without traces")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--write", type=Path, help="a page whose table is replaced")
    parser.add_argument("--answer", choices=MODELS, help=argparse.SUPPRESS)
    parser.add_argument("--site", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.answer:
        _answer(arguments.answer, arguments.site)
        return
    lines = ["| model | variant | µs per request | ratio to off |", "|---|---|---|---|"]
    with tempfile.TemporaryDirectory() as directory, collector() as endpoint:
        site = Path(directory)
        _save(site)
        for model in MODELS:
            found = _measure(model, site, endpoint, arguments.before, arguments.rounds)
            each = {name: _quartile(seconds) for name, seconds in found.items()}
            for name, seconds in each.items():
                micros, ratio = seconds / REQUESTS * 1e6, each["off"] / seconds
                lines.append(f"| `{model}` | {name} | {micros:.1f} | {ratio:.3f} |")
    table = "\n".join(lines)
    print(table)  # noqa: T201  # its answer
    if arguments.write:
        replace(arguments.write, table)


def _quartile(seconds: list[float]) -> float:
    return statistics.quantiles(seconds, n=4)[0]


def _measure(
    model: str, site: Path, endpoint: str, before: Path | None, rounds: int
) -> dict[str, list[float]]:
    sent = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_TRACES_SAMPLER": "traceidratio"}
    variants: dict[str, tuple[Path, dict[str, str]]] = {
        "off": (HERE.parent, {}),
        "off again": (HERE.parent, {}),
        "0 % sampled": (HERE.parent, {**sent, "OTEL_TRACES_SAMPLER_ARG": "0"}),
        "5 % sampled": (HERE.parent, {**sent, "OTEL_TRACES_SAMPLER_ARG": "0.05"}),
        "all sampled": (HERE.parent, {**sent, "OTEL_TRACES_SAMPLER_ARG": "1"}),
    }
    if before is not None:
        variants["before"] = (before.resolve(), {})
    with contextlib.ExitStack() as running:
        started = {
            name: running.enter_context(_started(model, site, tree, variables))
            for name, (tree, variables) in variants.items()
        }
        for process in started.values():
            _turn(process)
        found: dict[str, list[float]] = {name: [] for name in variants}
        for number in range(rounds):
            names = [*started][number % len(started) :] + [*started][: number % len(started)]
            for name in names:
                found[name].append(_turn(started[name]))
    return found


@contextlib.contextmanager
def _started(
    model: str, site: Path, tree: Path, variables: dict[str, str]
) -> Iterator[subprocess.Popen[str]]:
    plain = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    own = {"PYTHONPATH": str(tree / "runtime"), "OMP_NUM_THREADS": "1", **variables}
    process = subprocess.Popen(
        [sys.executable, __file__, "--answer", model, "--site", str(site)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**plain, **own},
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _turn(process: subprocess.Popen[str]) -> float:
    """Let a process answer its requests; return the processor time that it took."""
    assert process.stdin
    assert process.stdout
    process.stdin.write("\n")
    process.stdin.flush()
    return float(process.stdout.readline())


def _answer(model: str, site: Path) -> None:
    """Answer requests without a socket, some at each line of standard input."""
    import inspect

    from prometheus_client import CollectorRegistry

    from bundleserver.manager import Manager, collect_rarely
    from bundleserver.serving.options import ServerOptions
    from bundleserver.serving.server import BundleServer
    from bundleserver.sources.directory import DirectorySource

    collect_rarely()  # as serve does
    manager = Manager(DirectorySource(site))
    knows = "environ" in inspect.signature(BundleServer).parameters
    more = {"environ": os.environ} if knows else {}
    server = BundleServer(manager, ServerOptions(log_level="ERROR"), CollectorRegistry(), **more)
    manager.reconcile()
    begin = server._edge.rest_app().find(b"POST", f"/v2/models/{model}/infer".encode())
    tensor = {"name": "features", "datatype": "FP64", "shape": [1, 8], "data": [*range(8)]}
    body = json.dumps({"inputs": [tensor]}).encode()
    for _ in sys.stdin:
        started = time.process_time()
        for _ in range(REQUESTS):
            try:
                begin({}, body).send(None)
            except StopIteration as ended:
                if ended.value.status != 200:
                    raise SystemExit(f"not answered: {ended.value}") from None
        print(time.process_time() - started, flush=True)  # noqa: T201  # its answer


@contextlib.contextmanager
def collector() -> Iterator[str]:
    """Take spans over gRPC, and forget them."""
    import grpc
    from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as messages
    from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as service

    class Collector(service.TraceServiceServicer):
        def Export(self, request, context):  # noqa: N802  # its name in the protocol
            return messages.ExportTraceServiceResponse()

    server = grpc.server(futures.ThreadPoolExecutor(2))
    service.add_TraceServiceServicer_to_server(Collector(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.stop(0)


def _save(site: Path) -> None:
    from models import Site, save_forest, save_free

    for save in (save_free, save_forest):
        save(Site(site))
    for path in (site / "store").iterdir():
        path.rename(site / path.name)
    for name in ("store", "pickles", "mlserver"):
        if (site / name).exists():
            shutil.rmtree(site / name)


def replace(page: Path, table: str, mark: str = "benchmarks/tracing.py") -> None:
    """Replace the table of a page that stands below a mark."""
    before, begin, rest = page.read_text().partition(f"<!-- {mark} -->\n")
    _, end, after = rest.partition("<!-- end -->")
    page.write_text(f"{before}{begin}{table}\n{end}{after}")


if __name__ == "__main__":
    main()
