"""Bounds what a connection's client may send before it is answered.

A pipelined request costs a hundred times its bytes once it is parsed, so few are parsed ahead.
"""

from __future__ import annotations

import asyncio
import re

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from bundleserver.errors import HeadTooLarge, InvalidInput, RequestTooLarge, TooManyBytes
from bundleserver.serving.connection.other_protocols import (
    OtherVersion,
    head_without_offer,
    refusal_of,
)
from bundleserver.serving.connection.refusing import LastWords
from bundleserver.serving.errors import answer_for
from bundleserver.serving.inflight import InflightBytes
from bundleserver.serving.rest.http import answer_of_error, error_answer

MOST_AHEAD = 32
"""When so many requests wait for those before them, no more is parsed."""

_SHORTEST_BYTES = len(b"GET / HTTP/1.1\r\n\r\n")
"""What is shorter is none after which the parser takes another one."""

FEW_BYTES = MOST_AHEAD * _SHORTEST_BYTES
"""So many bytes have no more requests than may wait, mostly one."""

_FEW_HEADS = 8
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,15})[ \t]*\r\n", re.IGNORECASE)
_END_OF_HEAD = b"\r\n\r\n"

_INVALID = error_answer(400, "invalid HTTP request", {"connection": "close"})


class BoundedReading(LastWords, HttpToolsProtocol):
    """A connection that parses and reads no more while enough requests wait to be answered."""

    bodies: InflightBytes
    """Counts bodies from their heads; the application counts those that it gets by itself."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for a first request."""
        super().connection_made(transport)
        # Whether what has come waits to be answered; then nothing is read.
        self.is_full = False
        # What came and is not parsed yet.
        self._waiting = memoryview(b"")
        self._is_to_go_on = False
        # What is left to say once all requests are answered.
        self._last_words = b""
        # What is counted of a body on its way.
        self.taken = 0
        # How much of a body of announced length is to come; it has no heads in it.
        self.body_left = 0

    def connection_lost(self, exc: Exception | None) -> None:
        """Drop what has come."""
        self._waiting = memoryview(b"")
        self.give_back()
        super().connection_lost(exc)
        self.pipeline.clear()

    def data_received(self, data: bytes) -> None:
        """Parse what came, and of many requests as many as may wait for their answers."""
        if self.is_ended:
            self.drop(data)
        elif (
            self.is_full
            or self.pipeline
            or (len(data) - self.body_left > FEW_BYTES and has_many_heads(data, self.body_left))
        ):
            self._waiting = memoryview(bytes(self._waiting) + data)
            self._parse_waiting()
        else:
            self.parse(data)
            if len(self.pipeline) >= MOST_AHEAD:
                self._parse_waiting()

    def parse(self, data: bytes | memoryview) -> None:
        """Parse a piece of what came."""
        raise NotImplementedError

    def on_response_complete(self) -> None:
        """Go on with the next request, and with parsing once few are left."""
        super().on_response_complete()
        is_room = len(self.pipeline) < MOST_AHEAD // 2
        if self.is_full and is_room and not self._is_to_go_on:
            self._is_to_go_on = True
            # The parser may be what calls this.
            self.loop.call_soon(self._parse_waiting)

    def end_after_answers(self, last_words: bytes) -> bool:
        """End the connection once its whole requests are answered; False if there are none."""
        if self.cycle is None or self.cycle.response_complete:
            return False
        if not self.is_ended:
            if self.cycle.more_body:
                # The one that came last, of which the rest is missing.
                if not self.pipeline:
                    return False
                self.pipeline.popleft()
            self.is_ended, self._last_words, self._waiting = True, last_words, memoryview(b"")
        return True

    def heed_close(self) -> None:
        """Close after a request whose trailer says so: the parser passes over what follows it."""
        request = self.cycle
        if self.parser.should_keep_alive() or not request.keep_alive:
            return
        request.keep_alive = False
        if request.response_complete:
            self.transport.close()

    def say_last_words(self) -> None:
        """End the connection: all its whole requests are answered."""
        if self._last_words:
            self.end_with(self._last_words)
        else:
            self.transport.close()

    def may_take(self, length: int) -> bool:
        """Count a body that is to come, if there is room."""
        try:
            self.bodies.take(length)
        except (RequestTooLarge, TooManyBytes):
            return False
        self.taken = length
        return True

    def give_back(self) -> None:
        """Count a body no more."""
        if self.taken:
            self.bodies.give_back(self.taken)
            self.taken = 0

    def _parse_waiting(self) -> None:
        """Parse what waits until enough is to be answered; then nothing is read."""
        self._is_to_go_on = False
        while (
            self._waiting
            and (room := MOST_AHEAD - len(self.pipeline)) > 0
            # After the last answer nothing is asked, of what came before it, too.
            and not (self.transport.is_closing() or self.is_over)
        ):
            size = self.body_left + room * _SHORTEST_BYTES
            piece, self._waiting = self._waiting[:size], self._waiting[size:]
            self.parse(piece)
        if self.transport.is_closing():
            return
        self.is_full = bool(self._waiting) or len(self.pipeline) >= MOST_AHEAD
        if self.is_full:
            self.flow.pause_reading()
        # uvicorn goes on reading after each answer, unless it has not paused.
        self.flow.read_paused = not self.is_full
        if not self.pipeline:
            self.flow.resume_reading()


def has_many_heads(data: bytes, start: int = 0) -> bool:
    """Tell whether there may be more requests than a few after ``start``; cheap where there is one.

    The body after the first head is left out, where its length is announced.
    """
    # Mostly the first search ends with the head, and the second finds no line in a body at once.
    end = data.find(_END_OF_HEAD, start) if data.find(b"\n", start) >= 0 else -1
    after = end + len(_END_OF_HEAD)
    if end < 0 or data.find(b"\n", after) < 0:
        return False
    if length := _LENGTH.search(data, start, after):
        after += int(length[1])
    return data.count(_END_OF_HEAD, after) > _FEW_HEADS


class Refusing(BoundedReading):
    """A mixin for uvicorn's protocol: offers of other protocols, and what is no request."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin with no header lines of uvicorn's."""
        super().connection_made(transport)
        self.defaults: list[tuple[bytes, bytes]] = []
        self.defaults_head = b""

    def default_head(self) -> bytes:
        """Return uvicorn's own header lines, of which the date changes."""
        defaults = self.server_state.default_headers
        if defaults is not self.defaults:
            self.defaults = defaults
            self.defaults_head = b"".join(map(b"%b: %b\r\n".__mod__, defaults))
        return self.defaults_head

    def parse_without_offer(self, rest: memoryview) -> None:
        """Parse a request anew whose head offered another protocol, then what came after it."""
        while True:
            parser, method = self.parser, self.parser.get_method()
            if refusal_of(method) is not None:
                self.refuse()
                return
            headers = list(self.scope["headers"])
            head = head_without_offer(method, self.url, parser.get_http_version(), headers)
            self.parser = HttpRequestParser(self)
            # As uvicorn's own.
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
            try:
                self.parser.feed_data(head)
                self.parser.feed_data(rest)
            except HttpParserUpgrade as offer:
                rest = rest[offer.args[0] :]
            except HttpParserError:
                self.refuse()
                return
            else:
                return

    def refuse(self, cause: BaseException | None = None) -> None:
        """Say that what came is no request, after the answers to those that came before it."""
        if isinstance(cause, HeadTooLarge):
            answer = answer_of_error(answer_for(cause))
        elif isinstance(cause, OtherVersion):
            answer = cause.answer
        else:
            answer = refusal_of(self.parser.get_method()) or _INVALID
        words = self.words_of(answer)
        error = cause if isinstance(cause, HeadTooLarge) else InvalidInput("invalid HTTP request")
        if self.end_after_answers(words):
            self.note_unread("http", error)
            return
        request = self.cycle
        if request is not None and not request.response_complete:
            # Its body is broken: this is its answer.
            request.disconnected, request.waiting_for_100_continue = True, False
            request.message_event.set()
        else:
            self.note_unread("http", error)
        self.end_with(words)
