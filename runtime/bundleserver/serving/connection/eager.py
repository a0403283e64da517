"""Starts a fully received request directly in the parser callback, without an asyncio task.

uvicorn gives each request a task and an application its messages, which costs more than a small
request does. What awaits something goes on in uvicorn's own way, from where it has come to; so does
everything that is not plain: chunked or very large bodies, pipelined requests, old versions of
HTTP, connections that are to be closed. The internals of uvicorn's protocol that are used here are
those of the versions that ``protocols`` names.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, cast

from httptools import HttpParserError, HttpParserUpgrade
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from bundleserver.errors import HeadTooLarge
from bundleserver.serving.codecs.json_pieces import LARGE_BYTES
from bundleserver.serving.connection.begun import Begun, counted, go_on
from bundleserver.serving.connection.ending import Ending
from bundleserver.serving.connection.head_deadline import NO_HEAD
from bundleserver.serving.connection.leaving import NoticesLeaving
from bundleserver.serving.connection.one_write import JOINED_BYTES, OneWriteTransport
from bundleserver.serving.connection.other_protocols import check_version
from bundleserver.serving.connection.pipelining import FEW_BYTES, Refusing
from bundleserver.serving.connection.refusing import check_head
from bundleserver.serving.connection.send_deadline import SendDeadline
from bundleserver.serving.errors import answer_for
from bundleserver.serving.inflight import SMALL_BYTES
from bundleserver.serving.rest.asgi import AsgiApp, headers_of
from bundleserver.serving.rest.client import CLIENT
from bundleserver.serving.rest.http import Answer, Begin, answer_of_error

_LONGEST_URL = 512
"""A path may be as long as its sender likes; those of models are not, and are cached."""

_MOST_DIGITS = 8
"""Longer lengths are large, whatever they say."""

_MOST_COUNTED_DIGITS = 15
"""Of a body with a longer length nothing is left out of the search for heads."""

_DRIP_BYTES = 4096
"""Who sends less, and still not all, is slow; others fill the pieces that the network carries."""


class _Complete:
    """Stands where uvicorn looks for its last request when that was answered in the callback."""

    scope: object = None
    response_complete = True
    message_event = asyncio.Event()
    """Nobody waits for it."""


class EagerProtocol(NoticesLeaving, SendDeadline, Refusing):
    """One connection of a client.

    A request that may be answered in the callback is kept from uvicorn from the end of its head to
    the end of its body; whatever happens in between hands it over.
    """

    find: Callable[[bytes, bytes], Begin | None]
    """Finds who answers a method and a path; None leaves the request to the application."""
    ending: Ending
    """Whether the server ends, so that uvicorn says that connections are closed."""
    max_head_bytes: int
    """How much may come that is no body; 0: any."""
    app: AsgiApp
    """What uvicorn gives a request to."""
    cycle: Any
    """uvicorn's last request, or what stands for it."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for a first request."""
        super().connection_made(transport)
        self._write = self._connection.write
        self._joining = OneWriteTransport(self._connection)
        self.transport = cast(asyncio.Transport, self._joining)
        # How much was parsed that completed nothing: neither a head, nor a body, nor a part of it.
        self._unfinished = 0
        # A request that may be answered in the callback, from the end of its head to its last byte.
        self._begin: Begin | None = None
        self._came: dict[bytes, bytes] = {}
        self._pieces: list[bytes] = []
        self._is_first = True
        # The request after whose answer the connection is closed since the server ends.
        self._told: Any = None
        self._complete = _Complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let the application know of a request that has begun to come."""
        self._hand_over()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what came; what may be more than one request goes another way."""
        is_plain = len(data) <= FEW_BYTES and not self.is_full and not self.pipeline
        if is_plain and not self.is_ended:
            self.parse(data)
        else:
            super().data_received(data)

    def parse(self, data: bytes | memoryview) -> None:
        """Parse a piece; a request that goes on in small ones is waited for as usual."""
        self._is_first = True
        goes_on = self._begin is not None
        self._unset_keepalive_if_required()
        self._unfinished += len(data)
        try:
            self.parser.feed_data(data)
        except HttpParserUpgrade as offer:
            self.parse_without_offer(memoryview(data)[offer.args[0] :])
        except HttpParserError as error:
            self.refuse(error.__context__)
        else:
            if self._unfinished > self.max_head_bytes > 0:
                self.refuse(HeadTooLarge(self._unfinished, self.max_head_bytes))
        if self._begin is None:
            return
        # Not all of its body has come.
        if not self.taken and not self.may_take(int(self._came.get(b"content-length", b"0"))):
            # The application refuses it.
            self._hand_over()
        elif goes_on and len(data) < _DRIP_BYTES:
            self._hand_over()

    def eof_received(self) -> bool:  # type: ignore[override]  # uvicorn's closes at once
        """Keep a connection whose client sends no more until its whole requests are answered.

        A part of a request is dropped, with the connection where there is nothing else. A client
        that has closed altogether looks the same at first.
        """
        # TLS has no half-closed connections in asyncio.
        is_kept = not self.is_over and self.scheme != "https" and self.end_after_answers(b"")
        if is_kept and self.scope["http_version"] == "1.1":
            self.notice_leaving()
        return is_kept

    def on_headers_complete(self) -> None:
        """Decide how this request is answered."""
        parser, request = self.parser, self.cycle
        version = parser.get_http_version()
        if version != "1.1":
            # What is raised ends the parser.
            check_version(version)
        if self._unfinished > self.max_head_bytes > 0:
            # Only then it may be too long.
            check_head(self.url, self.headers, self.max_head_bytes)
        self._unfinished = 0
        self._came = headers = headers_of(self.headers)
        # The scope keeps the head's; what comes after the body is no header of the request.
        self.headers = []
        if parser.should_upgrade():
            return
        size = headers.get(b"content-length", b"0")
        self.body_left = int(size) if size.isdigit() and len(size) <= _MOST_COUNTED_DIGITS else 0
        if (
            self._is_first
            and (request is None or request.response_complete)
            and not self.expect_100_continue
            and b"transfer-encoding" not in headers
            and b"content-encoding" not in headers
            and size.isdigit()
            and len(size) < _MOST_DIGITS
            and (length := int(size)) <= LARGE_BYTES
            and len(self.url) <= _LONGEST_URL
            and version == "1.1"
            and parser.should_keep_alive()
            and not self.flow.write_paused
            and not self.ending.begun
        ):
            self._begin = self.find(parser.get_method(), self.url)
            if self._begin is not None and length > SMALL_BYTES and not self.may_take(length):
                self._begin = None
        if self._begin is None:
            self.scope[CLIENT] = self.awaiting  # type: ignore[literal-required]  # a key of ours
            super().on_headers_complete()
            if self.ending.begun:
                self.close_after_answers()

    def on_body(self, body: bytes) -> None:
        """Keep a piece of the body."""
        self._unfinished = 0
        if self.body_left:
            self.body_left -= len(body)
        if self._begin is None:
            super().on_body(body)
        else:
            self._pieces.append(body)

    def on_message_complete(self) -> None:
        """Begin the request whose last byte has come; mostly it is answered here.

        No exception leaves here: it would end the connection, and SystemExit the event loop.
        """
        begin = self._begin
        self._unfinished = 0
        if begin is None:
            if not self.parser.should_upgrade():
                super().on_message_complete()
                self.heed_close()
            return
        self._is_first = False
        pieces, self._pieces = self._pieces, []
        try:
            answering = begin(self._came, pieces[0] if len(pieces) == 1 else b"".join(pieces))
            awaited = answering.send(None)
        except StopIteration as ended:
            answer: Answer = ended.value
        except BaseException as error:  # noqa: BLE001  # a model's code may raise anything
            answer = answer_of_error(answer_for(error))
        else:
            app: AsgiApp = partial(go_on, Begun(answering, awaited))
            taken, self.taken = self.taken, 0
            self._hand_over(partial(counted, app, self.bodies, taken) if taken else app)
            super().on_message_complete()
            return
        if self.server_state.default_headers is not self.defaults:
            self.default_head()
        try:
            head = answer.head(self.defaults_head)
        except ValueError as error:
            answer = answer_of_error(answer_for(error))
            head = answer.head(self.defaults_head)
        self._begin = None
        if self.taken:
            self.give_back()
        self._complete.scope, self.cycle = self.scope, self._complete
        if len(answer.body) <= JOINED_BYTES:
            self._write(head + answer.body)
        else:
            self._write(head)
            self._write(answer.body)
        HttpToolsProtocol.on_response_complete(self)

    def on_response_complete(self) -> None:
        """Send what an answer without a body has left, as one to HEAD has."""
        self._joining.flush()
        if self.is_ended and not self.pipeline:
            self.say_last_words()
        super().on_response_complete()

    def close_after_answers(self) -> None:
        """Say with the last answer that the connection is closed; those before it are sent too."""
        self._hand_over()
        before, request = self._told, self.cycle
        if request is None or request.response_complete or request is before:
            return
        if before is not None and not before.response_started:
            before.keep_alive = True
        if request.keep_alive:
            request.keep_alive, self._told = False, request

    def shutdown(self) -> None:
        """Let uvicorn know of a request that has begun to come."""
        self._hand_over()
        super().shutdown()

    def head_awaited_after(self) -> object:
        """Return the scope of the last request; uvicorn is told what a request goes on with."""
        self._hand_over()
        request = self.cycle
        if request is not None and not request.response_complete:
            if request.more_body:
                # Whoever waits for its first bytes goes on with none, and starts its deadline.
                request.message_event.set()
            return NO_HEAD
        if self.timeout_keep_alive_task is not None:
            return NO_HEAD
        if request is not None and not self.has_head_begun():
            # What came after the answer began no request; uvicorn would wait for ever.
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )
        return request and request.scope

    def has_head_begun(self) -> bool:
        """Tell whether a part of the awaited head has arrived."""
        return self.scope is not (self.cycle and self.cycle.scope)

    def _hand_over(self, app: AsgiApp | None = None) -> None:
        """Let uvicorn go on with a request, and an application that may have begun with it."""
        if self._begin is None:
            return
        own = self.app
        self._begin, self.app = None, app or own
        # The application counts it by itself.
        self.give_back()
        self.scope[CLIENT] = self.awaiting  # type: ignore[literal-required]  # a key of ours
        try:
            super().on_headers_complete()
        finally:
            self.app = own
        pieces, self._pieces = self._pieces, []
        for piece in pieces:
            super().on_body(piece)
