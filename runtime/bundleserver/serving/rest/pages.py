"""KServe's routes behind ours: liveness, metrics, the API documentation."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

from prometheus_client import CollectorRegistry

from bundleserver.serving.metrics.page import Page, PageWriter
from bundleserver.serving.rest.asgi import AsgiApp, Message, Receive, Send
from bundleserver.serving.rest.http import Answer, error_answer, json_answer, request_of

MetricsPage = Callable[[str, str], Awaitable[Page]]
"""Writes the metrics as the headers ``Accept`` and ``Accept-Encoding`` ask for."""

_PAGES = ("docs", "openapi.json")


def metrics_page(registry: CollectorRegistry) -> MetricsPage:
    """Make the metrics page of a collector registry."""
    return partial(PageWriter().write, registry)


class KServeApp:
    """An ASGI application; kserve itself is imported only for the API documentation.

    The import takes a second and 50 MiB, and neither clients nor probes require it.
    """

    def __init__(self, metrics: MetricsPage, make_pages: Callable[[], AsgiApp]) -> None:
        self._metrics = metrics
        self._make_pages = make_pages
        self._pages: AsgiApp | None = None

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] == "http":
            request = request_of(scope, receive, 0)
            # Only read: the app behind has routes of its own that load and unload.
            if request.segments[:1] and request.segments[0] in _PAGES and request.method == "GET":
                await (await self._kserve())(scope, receive, send)
                return
            accepted = [request.headers.get(n, "") for n in ("accept", "accept-encoding")]
            answer = await self._answer(request.method, request.segments, *accepted)
            await answer.send(send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close"})

    async def _answer(
        self, method: str, segments: tuple[str, ...], accept: str, accept_encoding: str
    ) -> Answer:
        if segments not in ((), ("metrics",)) and segments[0] not in _PAGES:
            return error_answer(404, "Not Found")
        if method != "GET":
            return error_answer(405, "Method Not Allowed", {"allow": "GET"})
        if not segments:
            return json_answer({"status": "alive"})
        page = await self._metrics(accept, accept_encoding)
        return Answer(page.body, headers=dict(page.headers), content_type=page.content_type)

    async def _kserve(self) -> AsgiApp:
        if self._pages is None:
            self._pages = await asyncio.to_thread(self._make_pages)
        return self._pages
