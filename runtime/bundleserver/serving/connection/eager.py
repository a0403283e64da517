"""A request that has come whole is begun where its last byte is parsed, and mostly answered there.

uvicorn gives each request a task and an application its messages, which costs more than a small
request does. What cannot be answered without a pause goes on in uvicorn's own way, from where it
has come to; so does everything that is not plain: chunked or very large bodies, pipelined requests,
old versions of HTTP, connections that are to be closed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from functools import partial

from bundleserver.serving.codecs.json_pieces import LARGE_BYTES
from bundleserver.serving.connection.slow_clients import ImpatientProtocol
from bundleserver.serving.rest.asgi import AsgiApp, Message, Receive, Send
from bundleserver.serving.rest.http import Answer, Begin

_LONGEST_URL = 512
"""A path may be as long as its sender likes; those of models are not, and are remembered."""

_MOST_DIGITS = 8
"""Longer lengths are large, whatever they say."""

_DRIP_BYTES = 4096
"""Who sends less, and still not all, is slow; others fill the pieces that the network carries."""

Find = Callable[[bytes, bytes], "Begin | None"]
"""Finds who answers a method and a path; None leaves the request to the application."""


class Answered:
    """What stands for a request that was answered at once, where uvicorn looks for its own."""

    __slots__ = ("scope",)
    response_complete = True
    message_event = asyncio.Event()
    """Nobody waits for it."""

    def __init__(self, scope: Message) -> None:
        self.scope = scope


class EagerProtocol(ImpatientProtocol):
    """One connection of a client.

    A request is held back from uvicorn from the end of its head to the end of its body, if it may
    be answered at once; whatever happens in between hands it over.
    """

    find: Find
    app: AsgiApp
    """What uvicorn gives a request to."""

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Wait for a first request."""
        super().connection_made(transport)
        # A request that may be answered at once, between its head and the end of its body.
        self._begin: Begin | None = None
        self._came: dict[bytes, bytes] = {}
        self._pieces: list[bytes] = []
        self._is_first = True
        self._head_of: list[tuple[bytes, bytes]] = []
        self._default_head = b""

    def data_received(self, data: bytes) -> None:
        """Take in a piece; a request that goes on in small ones is waited for as usual."""
        self._is_first = True
        goes_on = self._begin is not None
        super().data_received(data)
        if goes_on and self._begin is not None and len(data) < _DRIP_BYTES:
            self._hand_over()

    def on_headers_complete(self) -> None:
        """Decide how this request is answered."""
        self._begin = self.find(self.parser.get_method(), self.url) if self._is_plain() else None
        if self._begin is None:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Keep a piece of the body."""
        if self._begin is None:
            super().on_body(body)
        else:
            self._pieces.append(body)

    def on_message_complete(self) -> None:
        """Begin the request whose last byte has come; it ends here where it does not pause."""
        begin = self._begin
        if begin is None:
            super().on_message_complete()
            return
        self._is_first = False
        pieces, self._pieces = self._pieces, []
        answering = begin(self._came, pieces[0] if len(pieces) == 1 else b"".join(pieces))
        try:
            awaited = answering.send(None)
        except StopIteration as ended:
            self._say(ended.value)
        else:
            self._hand_over(partial(_go_on, Begun(answering, awaited)))
            super().on_message_complete()

    def shutdown(self) -> None:
        """Let uvicorn know of a request that has begun to come."""
        if self._begin is not None:
            self._hand_over()
        super().shutdown()

    def _look(self) -> None:
        if self._begin is not None and not self.transport.is_closing():
            self._hand_over()
        super()._look()

    def _is_plain(self) -> bool:
        parser, request, headers = self.parser, self.cycle, dict(self.headers)
        self._came = headers
        size = headers.get(b"content-length", b"0")
        return (
            self._is_first
            and (request is None or request.response_complete)
            and not self.expect_100_continue
            and b"transfer-encoding" not in headers
            and size.isdigit()
            and len(size) < _MOST_DIGITS
            and int(size) <= LARGE_BYTES
            and len(self.url) <= _LONGEST_URL
            and parser.get_http_version() == "1.1"
            and parser.should_keep_alive()
            and not parser.should_upgrade()
            and not self.flow.write_paused
        )

    def _say(self, answer: Answer) -> None:
        """Write an answer, and wait for the next request."""
        defaults = self.server_state.default_headers
        if defaults is not self._head_of:
            self._head_of = defaults
            self._default_head = b"".join(b"%b: %b\r\n" % pair for pair in defaults)
        try:
            head = answer.head(self._default_head)
        except ValueError:
            self._hand_over(partial(_send, answer))
            return
        self._begin, self.cycle = None, Answered(self.scope)
        self.transport.write_answer(head, answer.body)
        self.on_response_complete()

    def _hand_over(self, app: AsgiApp | None = None) -> None:
        """Let uvicorn go on with a request, and an application that may have begun with it."""
        own = self.app
        self._begin, self.app = None, app or own
        try:
            super().on_headers_complete()
        finally:
            self.app = own
        pieces, self._pieces = self._pieces, []
        for piece in pieces:
            super().on_body(piece)


def protocol_with(timeout_receive: float, find: Find | None = None) -> type[ImpatientProtocol]:
    """Make the protocol of connections.

    Args:
        timeout_receive: the seconds between two looks at a head that does not arrive; 0: none.
        find: who answers requests that may be answered at once; None: they are all uvicorn's.
    """
    # h11, where httptools is not installed, has no such moment.
    is_eager = find is not None and hasattr(ImpatientProtocol, "on_headers_complete")
    base = EagerProtocol if is_eager else ImpatientProtocol
    return type(
        "Protocol",
        (base,),
        {"timeout_receive": timeout_receive, "find": find and staticmethod(find)},
    )


class Begun:
    """A coroutine that has run to its first pause, to be awaited by a task that goes on with it."""

    def __init__(self, coroutine: Coroutine[object, None, Answer], awaited: object) -> None:
        self._coroutine = coroutine
        self._awaited = awaited

    def __await__(self) -> Generator[object, None, Answer]:
        """Wait for what it waits for, and so on until its end."""
        try:
            while True:
                try:
                    value = yield self._awaited
                except BaseException as error:  # noqa: BLE001  # it is the coroutine's
                    self._awaited = self._coroutine.throw(error)
                else:
                    self._awaited = self._coroutine.send(value)
        except StopIteration as ended:
            answer: Answer = ended.value
            return answer


async def _go_on(begun: Begun, _scope: Message, _receive: Receive, send: Send) -> None:
    await (await begun).send(send)


async def _send(answer: Answer, _scope: Message, _receive: Receive, send: Send) -> None:
    await answer.send(send)
