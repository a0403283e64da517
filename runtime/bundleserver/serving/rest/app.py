"""The REST application: plain ASGI, in front of kserve's own app.

It handles every V1 and V2 route, and passes on others (``/metrics``, ``/``, the API pages).
"""

from __future__ import annotations

import re
from functools import lru_cache, partial

from bundleserver.serving.errors import ClientDisconnectedError, NoteRefusal, answer_for
from bundleserver.serving.inflight import InflightBytes
from bundleserver.serving.rest.asgi import (
    AsgiApp,
    Message,
    Receive,
    Send,
    is_repository,
    segments_of,
)
from bundleserver.serving.rest.client import answer_while_there
from bundleserver.serving.rest.fallback import call_fallback
from bundleserver.serving.rest.http import (
    Begin,
    Request,
    answer_of_error,
    begin,
    refused,
    request_of,
    respond,
)
from bundleserver.serving.rest.routes import Routes

_KNOWN_ROUTES = 256
_LONGEST_KNOWN_PATH = 512
_PLAIN_PATH = re.compile(rb"/[^/?#][^?#]*")


class RestApp:
    """Handles REST requests on the event loop.

    Attributes:
        find: finds the handler of a method and a path for a fully received request, which then
            starts without a task; None if it is passed on, refused, or blocks.
        bodies: counts the bodies in flight.
        note_unread: counts what is refused before it is decoded.
    """

    def __init__(
        self,
        routes: Routes,
        fallback: AsgiApp,
        *,
        max_request_bytes: int,
        timeout_receive: float = 0.0,
        max_body_values: int = 0,
        bodies: InflightBytes | None = None,
        note_unread: NoteRefusal = lambda *_: None,
    ) -> None:
        self._fallback = fallback
        self._max_request_bytes = max_request_bytes
        self._timeout_receive = timeout_receive
        self._max_body_values = max_body_values
        self.bodies = bodies or InflightBytes(0)
        self.note_unread = note_unread
        self._route = routes.find
        self._find_route = lru_cache(maxsize=_KNOWN_ROUTES)(self._route)
        self.find = lru_cache(maxsize=_KNOWN_ROUTES)(self._find)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Handle one request; every error becomes a response."""
        if scope["type"] != "http":
            await self._fallback(scope, receive, send)
            return
        request = request_of(
            scope,
            receive,
            self._max_request_bytes,
            self._timeout_receive,
            self._max_body_values,
            self.bodies,
        )
        try:
            await self._answer(request, scope, send)
        finally:
            if request.held is not None:
                request.held.give_back()

    async def _answer(self, request: Request, scope: Message, send: Send) -> None:
        is_short = sum(map(len, request.segments)) <= _LONGEST_KNOWN_PATH
        handlers = (self._find_route if is_short else self._route)(request.segments)
        if handlers is None:
            await self._pass_on(request, scope, send)
            return
        is_head = request.method == "HEAD"
        handler = handlers.get("GET" if is_head else request.method)
        try:
            if handler is None:
                answer = refused(request, handlers)
            elif is_repository(request.segments):
                # A load or an unload goes on without its client.
                answer = await respond(handler, request)
            else:
                answer = await answer_while_there(scope, respond(handler, request))
        except ClientDisconnectedError:
            return
        await answer.send(send, with_body=not is_head)

    def _find(self, method: bytes, target: bytes) -> Begin | None:
        segments = segments_of(target)
        if not _PLAIN_PATH.fullmatch(target) or is_repository(segments):
            return None
        name = method.decode()
        handler = (self._route(segments) or {}).get(name)
        if handler is None:
            return None
        limits = self._max_request_bytes, self._max_body_values
        return partial(begin, handler, name, segments, *limits)

    async def _pass_on(self, request: Request, scope: Message, send: Send) -> None:
        started = False

        async def observed_send(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            request.check_declared_size()
            await call_fallback(self._fallback, scope, request.receive, observed_send)
        except Exception as error:
            if started:
                raise
            answer = answer_of_error(answer_for(error))
            await answer.send(send, with_body=request.method != "HEAD")
