"""uvicorn's own protocol, with the deadlines of slow clients and nothing of uvicorn's internals.

It parses with h11, which reads the body of a request whose offer of another protocol is not taken
up; what httptools leaves of such a request is a matter of uvicorn's internals. What is known of a
request is what its application sees. The task that runs it inherits the context of the protocol's
``data_received``, which names the connection.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Collection
from contextvars import ContextVar
from http import HTTPStatus
from typing import cast
from urllib.parse import unquote

from bundleserver.errors import BundleServerError, HeadTooLarge, InvalidInput
from bundleserver.serving.connection.ending import Ending
from bundleserver.serving.connection.head_deadline import NO_HEAD
from bundleserver.serving.connection.leaving import NoticesLeaving
from bundleserver.serving.connection.other_protocols import (
    OtherVersion,
    check_version,
    refusal_of,
)
from bundleserver.serving.connection.refusing import check_head
from bundleserver.serving.connection.send_deadline import SendDeadline
from bundleserver.serving.errors import answer_for
from bundleserver.serving.rest.asgi import AsgiApp, Message, Receive, Send
from bundleserver.serving.rest.client import CLIENT
from bundleserver.serving.rest.http import Answer, answer_of_error, error_answer

_AUTHORITY = re.compile(rb"(?i)https?://[^/?]*")

_connection: ContextVar[PlainProtocol | None] = ContextVar("connection", default=None)


class PlainProtocol(NoticesLeaving, SendDeadline):
    """A mixin for one connection of a client, under any protocol of uvicorn's.

    What comes while a request is answered that needs no more of it waits, and nothing is read:
    uvicorn would read on after each answer, however many requests wait already.
    """

    max_head_bytes: int = 0
    """The largest head, of which the parser knows; 0: any."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for a first request."""
        super().connection_made(transport)
        self._running: set[_Body] = set()
        self._is_half_closed = False
        self._waiting = b""
        self._speaks_interim = False
        self._over: asyncio.Handle | None = None
        # The last request that was answered, and whether all of it had been read.
        self._last: object = None
        self._was_read = True
        self._came_since = False
        self._is_blank = True

    def data_received(self, data: bytes) -> None:
        """Parse a piece, which may begin a request, unless it has to wait."""
        if self.is_ended:
            self.drop(data)
        elif self._is_busy():
            self._waiting += data
            self._connection.pause_reading()
        else:
            self._parse(data)

    def go_on(self) -> None:
        """Parse what has waited, and read on."""
        if self._waiting and not self._is_busy() and not self._connection.is_closing():
            data, self._waiting = self._waiting, b""
            self._connection.resume_reading()
            self._parse(data)

    def _is_busy(self) -> bool:
        return bool(self._running) and not any(body.is_awaited for body in self._running)

    def send_400_response(self, msg: str) -> None:
        """Say in our form what is wrong; uvicorn calls it where the parser has raised."""
        status = getattr(sys.exc_info()[1], "error_status_hint", 400)
        if status == HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE:
            error: BundleServerError = HeadTooLarge(self.max_head_bytes + 1, self.max_head_bytes)
            answer = answer_of_error(answer_for(error))
        else:
            error = InvalidInput("invalid HTTP request")
            answer = error_answer(400, str(error), {"connection": "close"})
        self.note_unread("http", error)
        words = self.words_of(answer)
        if not all(body.is_answered for body in self._running):
            # It may say something yet.
            self._connection.write(words)
            self._connection.close()
        else:
            self.end_with(words)

    def _parse(self, data: bytes) -> None:
        self._came_since = True
        self._is_blank = self._is_blank and not data.strip()
        token = _connection.set(self)
        try:
            super().data_received(data)
        finally:
            _connection.reset(token)

    def eof_received(self) -> bool:
        """Keep a connection whose client sends no more until its whole requests are answered."""
        super().eof_received()
        # TLS has no half-closed connections in asyncio.
        self._is_half_closed = self._connection.get_extra_info("sslcontext") is None
        self.close_if_over()
        if self._is_half_closed and self._speaks_interim:
            self.notice_leaving()
        return self._is_half_closed

    def close_if_over(self) -> None:
        """Close a half-closed connection once no whole request is left; others stay."""
        if self._is_half_closed:
            # A next request that has come runs from the next turn of the event loop; what is known
            # of this one is of no use once another has ended.
            if self._over is not None:
                self._over.cancel()
            self._over = asyncio.get_running_loop().call_soon(self._close_if_over)

    def _close_if_over(self) -> None:
        if not self._running or any(body.is_awaited for body in self._running):
            self._connection.close()

    def close_after_answers(self) -> None:
        """Leave it to ``watched``, which says it with each answer."""

    def head_awaited_after(self) -> object:
        """Return the last request; after it uvicorn's timeout runs until something comes."""
        if self._running or (self._last is not None and not self._came_since):
            return NO_HEAD
        return self._last

    def has_head_begun(self) -> bool:
        """Tell whether what came since the last request was not a rest of its body."""
        return self._was_read and not self._is_blank

    def begin(self, body: _Body, *, speaks_interim: bool) -> None:
        """Note that a request has come, and whether its client knows interim responses."""
        self._running.add(body)
        self._speaks_interim = speaks_interim

    def end(self, body: _Body, request: object) -> None:
        """Note that it was answered."""
        self._running.discard(body)
        self._last, self._was_read = request, body.was_read
        self._came_since, self._is_blank = False, True
        asyncio.get_running_loop().call_soon(self.go_on)
        self.close_if_over()


class _Body:
    """The messages of a request; where none comes in time, the first is empty and goes on.

    Attributes:
        was_read: whether all of it has come.
        is_awaited: whether more of it must come before its request can go on.
        is_answered: whether all of the answer to it is said.
    """

    def __init__(self, receive: Receive, timeout_receive: float, connection: PlainProtocol) -> None:
        self._receive = receive
        self._timeout = timeout_receive
        self._connection = connection
        self._first: asyncio.Future[Message] | None = None
        self._is_begun = False
        self.was_read = False
        self.is_awaited = False
        self.is_answered = False

    async def receive(self) -> Message:
        """Return the next message."""
        if not self._is_begun and self._timeout:
            self._is_begun = True
            self._first = asyncio.ensure_future(self._next())
            await asyncio.wait({self._first}, timeout=self._timeout)
            if not self._first.done():
                return {"type": "http.request", "body": b"", "more_body": True}
        first, self._first = self._first, None
        return await (first or self._next())

    async def _next(self) -> Message:
        # After its end only the client's is awaited.
        self.is_awaited = not self.was_read
        self._connection.go_on()
        self._connection.close_if_over()
        try:
            message = await self._receive()
        finally:
            self.is_awaited = False
        self.was_read = not message.get("more_body", False)
        return message

    def close(self) -> None:
        """Wait no more for a first message."""
        if self._first is not None:
            self._first.cancel()


def watched(
    app: AsgiApp, timeout_receive: float, ending: Ending, max_head_bytes: int = 0
) -> AsgiApp:
    """Tell connections of an application's requests, and the application of bodies that stop."""

    async def watch(scope: Message, receive: Receive, send: Send) -> None:
        connection = _connection.get()
        if connection is None or scope["type"] != "http":
            await app(scope, receive, send)
            return
        refusal = _refusal_of(scope, max_head_bytes)
        if refusal is not None:
            await refusal.send(send)
            return
        body = _Body(receive, timeout_receive, connection)
        connection.begin(body, speaks_interim=scope["http_version"] == "1.1")
        scope[CLIENT] = connection.awaiting
        try:
            await app(_of_path_alone(scope), body.receive, _closing(send, ending, body))
        finally:
            body.close()
            connection.end(body, scope)

    return watch


def _closing(send: Send, ending: Ending, body: _Body) -> Send:
    """Say with an answer that the connection is closed after it, once the server ends."""

    async def tell(message: Message) -> None:
        if ending.begun and message["type"] == "http.response.start":
            headers = cast("Collection[tuple[bytes, bytes]]", message.get("headers", ()))
            kept = [pair for pair in headers if pair[0].lower() != b"connection"]
            message = {**message, "headers": [*kept, (b"connection", b"close")]}
        elif message["type"] == "http.response.body":
            # With its last piece uvicorn goes on with what came after the request.
            body.is_answered = not message.get("more_body", False)
        await send(message)

    return tell


def _refusal_of(scope: Message, max_head_bytes: int) -> Answer | None:
    headers = cast("Collection[tuple[bytes, bytes]]", scope["headers"])
    try:
        check_version(str(scope["http_version"]))
        check_head(cast(bytes, scope["raw_path"]), headers, max_head_bytes)
    except OtherVersion as error:
        return error.answer
    except HeadTooLarge as error:
        return answer_of_error(answer_for(error))
    names = {name for name, _ in headers}
    if names >= {b"content-length", b"transfer-encoding"}:
        # h11 believes the chunks, but who is before it may not.
        message = "a request with Transfer-Encoding must not have Content-Length"
        return error_answer(400, message, {"connection": "close"})
    return refusal_of(str(scope["method"]).encode())


def _of_path_alone(scope: Message) -> Message:
    """Return a request without the host that a client of proxies writes before its path."""
    # h11 leaves a target as it came.
    target = cast(bytes, scope["raw_path"])
    host = _AUTHORITY.match(target)
    if host is None:
        return scope
    path = target[host.end() :] or b"/"
    return {**scope, "raw_path": path, "path": unquote(path.decode("ascii"))}
