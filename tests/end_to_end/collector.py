"""A collector of OpenTelemetry's, for tests: OTLP over gRPC and over HTTP, on free ports."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)

from tests.end_to_end.processes import DEADLINE_SECONDS


@dataclass(frozen=True)
class Received:
    """A span as a collector gets it; ids are hexadecimal, ``parent`` is empty for a root."""

    name: str
    trace: str
    id: str
    parent: str
    kind: int
    state: str
    attributes: dict[str, object]
    resource: dict[str, object]
    is_failed: bool
    message: str
    error: dict[str, object]
    links: tuple[str, ...]
    seconds: float


@dataclass
class Collector:
    """What has come so far."""

    spans: list[Received] = field(default_factory=list)
    grpc_url: str = ""
    http_url: str = ""
    news: threading.Condition = field(default_factory=threading.Condition)

    def take(self, request: ExportTraceServiceRequest) -> None:
        """Keep what an exporter sent."""
        with self.news:
            self.spans += received(request)
            self.news.notify_all()

    def wait_for(self, is_wanted: Callable[[Received], object], count: int = 1) -> list[Received]:
        """Wait until there are so many spans, and return all of them."""

        def found() -> list[Received]:
            return [span for span in self.spans if is_wanted(span)]

        with self.news:
            came = self.news.wait_for(lambda: len(found()) >= count, DEADLINE_SECONDS)
            assert came, f"got {[span.name for span in self.spans]}"
            return found()

    def trace(self, trace: str, root: str = "") -> dict[str, list[Received]]:
        """Return the spans of a trace by name, once the one that ends last is there."""
        self.wait_for(lambda span: span.trace == trace and span.name.startswith(root))
        # A collector gets a trace in pieces; the root of one process is sent last.
        named: dict[str, list[Received]] = {}
        for span in self.spans:
            if span.trace == trace:
                named.setdefault(span.name, []).append(span)
        return named


@contextmanager
def collecting() -> Iterator[Collector]:
    """Collect while the block runs."""
    collector = Collector()

    class OverGrpc(TraceServiceServicer):
        def Export(self, request, context):  # noqa: N802  # its name in the protocol
            collector.take(request)
            return ExportTraceServiceResponse()

    class OverHttp(BaseHTTPRequestHandler):
        def do_POST(self) -> None:  # its name in http.server
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            if self.path == "/v1/traces":
                collector.take(ExportTraceServiceRequest.FromString(body))
            self.send_response(200 if self.path == "/v1/traces" else 404)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    over_grpc = grpc.server(ThreadPoolExecutor(2))
    add_TraceServiceServicer_to_server(OverGrpc(), over_grpc)
    collector.grpc_url = f"http://127.0.0.1:{over_grpc.add_insecure_port('127.0.0.1:0')}"
    over_http = ThreadingHTTPServer(("127.0.0.1", 0), OverHttp)
    collector.http_url = f"http://127.0.0.1:{over_http.server_port}"
    thread = threading.Thread(target=over_http.serve_forever)
    over_grpc.start()
    thread.start()
    try:
        yield collector
    finally:
        over_grpc.stop(0)
        over_http.shutdown()
        thread.join(DEADLINE_SECONDS)
        over_http.server_close()


def received(request: ExportTraceServiceRequest) -> list[Received]:
    """Return the spans of a message."""
    return [
        Received(
            span.name,
            span.trace_id.hex(),
            span.span_id.hex(),
            span.parent_span_id.hex(),
            span.kind,
            span.trace_state,
            _attributes(span.attributes),
            _attributes(resource.resource.attributes),
            span.status.code == 2,
            span.status.message,
            _attributes(span.events[0].attributes) if span.events else {},
            tuple(link.span_id.hex() for link in span.links),
            (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9,
        )
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def _attributes(pairs: object) -> dict[str, object]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}
