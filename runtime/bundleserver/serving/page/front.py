"""The page's place in front of KServe's routes; the page itself is imported when it is asked for.

Templates cost a few MiB and a tenth of a second, which a server whose page nobody opens never pays.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from bundleserver.serving.rest.asgi import AsgiApp, Message, Receive, Send
from bundleserver.serving.rest.http import Request, request_of

if TYPE_CHECKING:
    from bundleserver.serving.page.pages import Pages

ROOM = "page"
"""The first segment of every path of the page but ``/``."""


class PageFront:
    """An ASGI application that answers the page's routes and passes on all others."""

    def __init__(self, behind: AsgiApp, make_pages: Callable[[], Pages]) -> None:
        self._behind = behind
        self._make_pages = make_pages
        self._pages: Pages | None = None

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Handle one request."""
        request = request_of(scope, receive, 0) if scope["type"] == "http" else None
        if request is None or not is_for_page(request):
            await self._behind(scope, receive, send)
            return
        if self._pages is None:
            self._pages = await asyncio.to_thread(self._make_pages)
        query = cast(bytes, scope.get("query_string", b""))
        raw_path = cast(bytes, scope.get("raw_path") or str(scope["path"]).encode())
        await (await self._pages.answer(request, raw_path, query)).send(send)


def is_for_page(request: Request) -> bool:
    """Ask whether a request is for the page: one for ``/`` is only if it prefers HTML."""
    if request.segments:
        return request.segments[0] == ROOM
    return request.method == "GET" and prefers_html(request.header(b"accept") or "")


def prefers_html(accept: str) -> bool:
    """Ask whether an ``Accept`` header names HTML, and no kind of JSON that it likes as much.

    A browser names it; ``*/*`` and no header at all are a program's.
    """
    liked: dict[str, float] = {}
    for part in accept.lower().split(","):
        kind, *parameters = (word.strip() for word in part.split(";"))
        liked[kind] = max(liked.get(kind, 0.0), _quality(parameters))
    html = max(liked.get("text/html", 0.0), liked.get("application/xhtml+xml", 0.0))
    return html > liked.get("application/json", 0.0)


def _quality(parameters: list[str]) -> float:
    """Return a media type's weight between 0 and 1; 1 if it has none, 0 if it is no number."""
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return min(1.0, max(0.0, float(value)))
            except ValueError:
                return 0.0
    return 1.0
