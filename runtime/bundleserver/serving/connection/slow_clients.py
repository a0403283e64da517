"""A connection that is closed when the head of a request begins on it and does not go on.

What a request costs does not change: one timer for each connection looks now and then whether a
request has come since its last look. A body has a deadline of its own, in ``http.py``; it begins
with a body's first bytes, or with the first look that finds none.
"""

from __future__ import annotations

import asyncio
from typing import Any

from bundleserver.serving.connection.one_write import OneWriteProtocol
from bundleserver.serving.errors import answer_for
from bundleserver.serving.rest.arriving import too_slow
from bundleserver.serving.rest.http import answer_of_error

_NO_HEAD = object()
"""What a look remembers that found no head awaited: something is answered, or uvicorn waits."""


class ImpatientProtocol(OneWriteProtocol):
    """One connection of a client, whose next head may take twice ``timeout_receive`` at most."""

    timeout_receive: float = 0.0
    """Seconds between two looks; 0: none."""
    timeout_keep_alive_task: asyncio.TimerHandle | None
    """uvicorn's own timer: it runs from an answer to the first byte that follows."""

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Begin to look."""
        super().connection_made(transport)
        # The request before the head that was awaited at the last look; a first one has none.
        self._awaited_after: Any = None
        self._next_look: asyncio.TimerHandle | None = None
        if self.timeout_receive:
            self._look_later()

    def connection_lost(self, exc: Exception | None) -> None:
        """Look no more."""
        if self._next_look is not None:
            self._next_look.cancel()
        super().connection_lost(exc)

    def _look_later(self) -> None:
        self._next_look = self.loop.call_later(self.timeout_receive, self._look)

    def _look(self) -> None:
        """Close the connection where the head that was awaited at the last look has not come."""
        if self.transport.is_closing():
            return
        request, before = self.cycle, self._awaited_after
        self._awaited_after = _NO_HEAD
        if request is not None and not request.response_complete:
            if request.more_body:
                # Whoever waits for its first bytes goes on with none, and begins to count.
                request.message_event.set()
        elif self.timeout_keep_alive_task is None:
            if request is before:
                self._give_up()
                return
            self._awaited_after = request
            if not self._has_begun():
                # What came after the answer began no request; uvicorn would wait for ever.
                self.timeout_keep_alive_task = self.loop.call_later(
                    self.timeout_keep_alive, self.timeout_keep_alive_handler
                )
        self._look_later()

    def _has_begun(self) -> bool:
        """Tell whether a part of a head has come."""
        parser = getattr(self, "conn", None)
        if parser is not None:  # h11, where httptools is not installed
            return str(parser.their_state) == "IDLE" and bool(parser.trailing_data[0])
        return self.scope is not (self.cycle and self.cycle.scope)

    def _give_up(self) -> None:
        """Say 408 where a part of a head has come, and close the connection."""
        if self._has_begun():
            self._refuse("a part of its head")
        self.transport.close()

    def _refuse(self, came: str) -> None:
        # There is no request yet that the application could answer.
        error = too_slow(came, self.timeout_receive, self.timeout_receive)
        answer = answer_of_error(answer_for(error))
        headers = [
            *self.server_state.default_headers,
            (b"content-type", answer.content_type.encode()),
            (b"content-length", str(len(answer.body)).encode()),
            *((name.encode(), value.encode()) for name, value in answer.headers.items()),
        ]
        lines = b"".join(name + b": " + value + b"\r\n" for name, value in headers)
        self.transport.write(b"HTTP/1.1 408 Request Timeout\r\n" + lines + b"\r\n" + answer.body)
