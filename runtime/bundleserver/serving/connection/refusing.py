"""How a connection refuses what came: a head by its size, and so that its client can read why."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import cast

from bundleserver.errors import HeadTooLarge
from bundleserver.serving.errors import NoteRefusal
from bundleserver.serving.rest.http import Answer

_LINGER_SECONDS = 1.0
_LINGER_BYTES = 2**20


def check_head(target: bytes, headers: Iterable[tuple[bytes, bytes]], most_bytes: int) -> None:
    """Refuse a whole head by its size.

    Raises:
        HeadTooLarge: it has more bytes, unless the limit is 0.
    """
    size = len(target) + sum(len(name) + len(value) + 4 for name, value in headers)
    if size > most_bytes > 0:
        raise HeadTooLarge(size, most_bytes)


class LastWords(asyncio.Protocol):
    """A mixin for one connection of a client, which can read what it is told last.

    Attributes:
        is_ended: whether what comes is dropped.
        is_over: whether nothing more is said.
        note_unread: counts what is refused before its path is read.
    """

    note_unread: NoteRefusal = staticmethod(lambda *_: None)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to listen."""
        super().connection_made(transport)
        self._connection = cast(asyncio.Transport, transport)
        self.is_ended = self.is_over = False
        self._dropped = 0

    def default_head(self) -> bytes:
        """Return the header lines that every answer begins with."""
        return b""

    def words_of(self, answer: Answer) -> bytes:
        """Encode an answer that no request gets."""
        return answer.head(self.default_head()) + answer.body

    def end_with(self, words: bytes) -> None:
        """Say something, and close the connection once its client can have read it.

        Where a client's bytes are not read, the kernel takes the answer back from it.
        """
        connection = self._connection
        if connection.is_closing() or self.is_over:
            return
        connection.write(words)
        self.is_ended = self.is_over = True
        if connection.can_write_eof():
            connection.write_eof()
        self._dropped = 0
        connection.resume_reading()
        asyncio.get_running_loop().call_later(_LINGER_SECONDS, connection.close)

    def drop(self, data: bytes) -> None:
        """Drop what comes after the last request, a while; then it is not read."""
        self._dropped += len(data)
        if self._dropped > _LINGER_BYTES:
            if self.is_over:
                self._connection.close()
            else:
                self._connection.pause_reading()
