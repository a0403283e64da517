"""What KServe's own app answers behind our routes: liveness, metrics, the pages of the API."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from bundleserver.serving.rest.asgi import AsgiApp, Message, Receive, Send
from bundleserver.serving.rest.http import Answer, error_answer, json_answer, request_of

if TYPE_CHECKING:
    pass

MetricsPage = Callable[[str], Awaitable[Answer]]
"""Writes the metrics in the form that an ``Accept`` header asks for."""

_PAGES = ("docs", "openapi.json")


def metrics_page(registry: CollectorRegistry) -> MetricsPage:
    """Make the page of a registry's metrics."""

    async def write(accept: str) -> Answer:
        encode, content_type = choose_encoder(accept)
        return Answer(encode(registry), content_type=content_type)

    return write


class KServeApp:
    """An ASGI application; kserve itself is imported only for the pages of the API.

    It takes a second and 50 MiB, and nothing that a model's client or a probe asks needs it.
    """

    def __init__(self, metrics: MetricsPage, make_pages: Callable[[], AsgiApp]) -> None:
        self._metrics = metrics
        self._make_pages = make_pages
        self._pages: AsgiApp | None = None

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "http":
            request = request_of(scope, receive, 0)
            if request.segments[:1] and request.segments[0] in _PAGES:
                await (await self._kserve())(scope, receive, send)
                return
            accept = request.headers.get("accept", "")
            answer = await self._answer(request.method, request.segments, accept)
            await answer.send(send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close"})

    async def _answer(self, method: str, segments: tuple[str, ...], accept: str) -> Answer:
        if segments not in ((), ("metrics",)):
            return error_answer(404, "Not Found")
        if method != "GET":
            return error_answer(405, "Method Not Allowed", {"allow": "GET"})
        return await self._metrics(accept) if segments else json_answer({"status": "alive"})

    async def _kserve(self) -> AsgiApp:
        if self._pages is None:
            self._pages = await asyncio.to_thread(self._make_pages)
        return self._pages
