"""A connection is closed when its client does not take what was sent to it.

As for heads, one timer per connection looks now and then: a request costs nothing more.
"""

from __future__ import annotations

import asyncio

from bundleserver.serving.connection.refusing import LastWords
from bundleserver.serving.options import SLOWEST_BYTES_PER_SECOND
from bundleserver.serving.unsent import UnsentAnswers


class SendDeadline(LastWords):
    """A mixin for uvicorn's protocols: a client may take nothing for ``timeout_send`` at most.

    It may take one and a half times as long, since the timer looks twice within the timeout.
    """

    timeout_send: float = 0.0
    """Seconds; 0: none."""
    answers = UnsentAnswers(0)
    """Counts what clients have not taken, of all connections."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to look."""
        super().connection_made(transport)
        self._unsent = 0
        self._taken_at = self._send_due = 0.0
        self._next_look: asyncio.TimerHandle | None = None
        if self.timeout_send:
            self._look_later()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop looking."""
        if self._next_look is not None:
            self._next_look.cancel()
        self.answers.remove(self)
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Count what the client has not taken, which is more than the network buffers."""
        super().pause_writing()
        connection = self._connection
        size = connection.get_write_buffer_size()
        self.answers.add(self, size, connection.get_write_buffer_size, connection.abort)

    def resume_writing(self) -> None:
        """Note that the client has taken most of what there was."""
        self._unsent = 0
        self.answers.remove(self)
        super().resume_writing()

    def _look_later(self) -> None:
        loop = asyncio.get_running_loop()
        self._next_look = loop.call_later(self.timeout_send / 2, self._look)

    def _look(self) -> None:
        """Close the connection, also one that waits to be closed, whose client takes too little."""
        now = asyncio.get_running_loop().time()
        before, self._unsent = self._unsent, self._connection.get_write_buffer_size()
        if not before:
            self._taken_at = now
            self._send_due = now + self.timeout_send + self._unsent / SLOWEST_BYTES_PER_SECOND
        elif self._unsent < before:
            self._taken_at = now
        if self._unsent and (now >= self._taken_at + self.timeout_send or now >= self._send_due):
            # What is left would never be sent: close() waits for it.
            self._connection.abort()
            return
        self._look_later()
