"""uvicorn's own protocol, with the deadlines of slow clients and nothing of uvicorn's internals.

What is known of a request is what its application sees. The task that runs it inherits the context
of the protocol's ``data_received``, which names the connection.
"""

from __future__ import annotations

import asyncio
from contextvars import ContextVar

from bundleserver.serving.connection.head_deadline import NO_HEAD, HeadDeadline
from bundleserver.serving.rest.asgi import AsgiApp, Message, Receive, Send

_connection: ContextVar[PlainProtocol | None] = ContextVar("connection", default=None)


class PlainProtocol(HeadDeadline):
    """A mixin for one connection of a client, under any protocol of uvicorn's."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for a first request."""
        super().connection_made(transport)
        self._running = 0
        # The last request that was answered, and whether all of it had been read.
        self._last: object = None
        self._was_read = True
        self._came_since = False
        self._is_blank = True

    def data_received(self, data: bytes) -> None:
        """Parse a piece, which may begin a request."""
        self._came_since = True
        self._is_blank = self._is_blank and not data.strip()
        token = _connection.set(self)
        try:
            super().data_received(data)
        finally:
            _connection.reset(token)

    def head_awaited_after(self) -> object:
        """Return the last request; after it uvicorn's timeout runs until something comes."""
        if self._running or (self._last is not None and not self._came_since):
            return NO_HEAD
        return self._last

    def has_head_begun(self) -> bool:
        """Tell whether what came since the last request was not a rest of its body."""
        return self._was_read and not self._is_blank

    def begin(self) -> None:
        """Note that a request has come."""
        self._running += 1

    def end(self, request: object, *, was_read: bool) -> None:
        """Note that it was answered."""
        self._running -= 1
        self._last, self._was_read = request, was_read
        self._came_since, self._is_blank = False, True


class _Body:
    """The messages of a request; where none comes in time, the first is empty and goes on."""

    def __init__(self, receive: Receive, timeout_receive: float) -> None:
        self._receive = receive
        self._timeout = timeout_receive
        self._first: asyncio.Future[Message] | None = None
        self._is_begun = False
        self.was_read = False

    async def receive(self) -> Message:
        """Return the next message."""
        if not self._is_begun and self._timeout:
            self._is_begun = True
            self._first = asyncio.ensure_future(self._receive())
            await asyncio.wait({self._first}, timeout=self._timeout)
            if not self._first.done():
                return {"type": "http.request", "body": b"", "more_body": True}
        first, self._first = self._first, None
        message = await (first or self._receive())
        self.was_read = not message.get("more_body", False)
        return message

    def close(self) -> None:
        """Wait no more for a first message."""
        if self._first is not None:
            self._first.cancel()


def watched(app: AsgiApp, timeout_receive: float) -> AsgiApp:
    """Tell connections of an application's requests, and the application of bodies that stop."""

    async def watch(scope: Message, receive: Receive, send: Send) -> None:
        connection, body = _connection.get(), _Body(receive, timeout_receive)
        if connection is None or scope["type"] != "http":
            await app(scope, receive, send)
            return
        connection.begin()
        try:
            await app(scope, body.receive, send)
        finally:
            body.close()
            connection.end(scope, was_read=body.was_read)

    return watch
