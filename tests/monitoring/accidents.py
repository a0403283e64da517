"""A page of metrics of what a healthy server does not do while a test waits."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CollectorRegistry

from bundleserver.errors import QueueFull
from bundleserver.serving.metrics.kserve import KServeMetrics
from bundleserver.serving.metrics.page import write_page
from bundleserver.serving.metrics.requests import RequestMetrics

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@contextmanager
def accidents() -> Iterator[int]:
    """Serve a page on which at each scrape some more has happened; yields the port."""
    registry = CollectorRegistry()
    metrics = RequestMetrics(registry)
    registry.register(KServeMetrics(metrics))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # the base class's name
            _happen(metrics)
            asked = [self.headers.get(name, "") for name in ("Accept", "Accept-Encoding")]
            page = write_page(registry, *asked)
            self.send_response(200)
            self.send_header("Content-Type", page.content_type)
            for name, value in page.headers:
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(page.body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _happen(metrics: RequestMetrics) -> None:
    # A name from a disk may have anything in it.
    for model in ("busy", 'hostile "name"\\\n # {trace_id="1"} 2 3'):
        metrics.overran(model, "v1")
        metrics.refused(model, "v2", QueueFull(model, 1))
        metrics.waited(model, 0.2)
        metrics.called(model, "v1", 3, 12)
        metrics.asked(model, 100_000)
        metrics.decoded(model, 0.001)
        metrics.encoded(model, 0.001)
        metrics.observe(model, "v1", "v2", 0.02, TRACE)
        metrics.in_flight(model, "v2").inc()
