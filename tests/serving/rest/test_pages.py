"""KServeApp: what answers behind our routes, with kserve imported only where it is needed."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import httpx
import pytest
from prometheus_client import CollectorRegistry, Counter

from bundleserver.serving.rest.http import Answer
from bundleserver.serving.rest.pages import KServeApp, metrics_page


def ask(method, path, accept="*/*"):
    """Ask an app whose pages say that they are pages."""
    registry = CollectorRegistry()
    Counter("asked", "How often.", registry=registry).inc()

    async def pages(scope, receive, send):
        await Answer(b"a page").send(send)

    app = KServeApp(metrics_page(registry), lambda: pages)

    async def one():
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            return await client.request(method, path, headers={"accept": accept})

    return asyncio.run(one())


@pytest.mark.parametrize(
    ("method", "path", "status", "text"),
    [
        ("GET", "/", 200, '{"status":"alive"}'),
        ("POST", "/", 405, '{"error":"Method Not Allowed"}'),
        ("GET", "/docs", 200, "a page"),
        ("GET", "/docs/oauth2-redirect", 200, "a page"),
        ("GET", "/openapi.json", 200, "a page"),
        ("GET", "/metrics/", 200, "asked_total 1.0"),
        ("POST", "/metrics", 405, '{"error":"Method Not Allowed"}'),
        ("GET", "/nope", 404, '{"error":"Not Found"}'),
    ],
)
def test_each_path_has_its_answer(method, path, status, text):
    """Liveness and metrics are answered here, the API's pages by kserve, the rest not at all."""
    answer = ask(method, path)

    assert status == answer.status_code
    assert text in answer.text


@pytest.mark.parametrize(
    ("accept", "form"),
    [("*/*", "text/plain"), ("application/openmetrics-text", "application/openmetrics-text")],
)
def test_metrics_come_in_the_form_that_is_asked_for(accept, form):
    """Prometheus gets OpenMetrics where it says that it takes them."""
    assert ask("GET", "/metrics", accept).headers["content-type"].startswith(form)


def test_a_websocket_is_closed():
    """Nothing here speaks over a websocket."""
    sent = []

    async def send(message):
        sent.append(message)

    app = KServeApp(metrics_page(CollectorRegistry()), lambda: None)
    asyncio.run(app({"type": "websocket"}, None, send))

    assert [{"type": "websocket.close"}] == sent


SCRIPT = """
import sys, httpx
from prometheus_client import REGISTRY, generate_latest
from bundleserver.serving.metrics.kserve import drop_unused_histograms
from tests.serving.fakes import FakeManager, FakeModel, serving
with serving(FakeManager(FakeModel("sums"))) as served:
    for path in ("/", "/metrics", "/v2/health/ready", "/v2/models/sums", "/nope"):
        httpx.get(served.rest + path)
    httpx.post(served.rest + "/v1/models/sums:predict", json={"instances": [[1.0, 2.0]]})
    before = "kserve" in sys.modules
    pages = httpx.get(served.rest + "/openapi.json", timeout=60).status_code
    print(before, pages, "kserve" in sys.modules)
twice = generate_latest(REGISTRY).count(b"TYPE request_predict_seconds ")
drop_unused_histograms(REGISTRY)
drop_unused_histograms(REGISTRY)
print(twice, generate_latest(REGISTRY).count(b"TYPE request_predict_seconds "))
"""


def test_kserve_is_imported_for_the_pages_only():
    """A server that predicts, is probed and scraped never pays for the import of kserve.

    Where it was imported, its histogram, which nobody fills, gives way to ours of the same name.
    """
    ended = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=120
    )

    assert ["False 200 True", "1 0"] == ended.stdout.splitlines(), ended.stderr
