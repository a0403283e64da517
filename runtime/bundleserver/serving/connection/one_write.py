"""An answer's head and body in one write instead of uvicorn's two.

A write is a system call that also wakes the client, which for small answers costs more than to
make them.
"""

from __future__ import annotations

import asyncio
from typing import Any

JOINED_BYTES = 2**16
"""To copy a larger body costs more than a second write."""


class OneWriteTransport:
    """A connection that keeps the head of an answer until the first piece of its body comes.

    Attributes:
        head: what it keeps.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self.head = b""
        self.is_closing = transport.is_closing

    def write(self, data: bytes) -> None:
        """Send data, after the head if there is one; a head alone waits."""
        if self.head:
            head, self.head = self.head, b""
            if len(data) <= JOINED_BYTES:
                data = head + data
            else:
                self._transport.write(head)
        elif _is_head(data):
            self.head = data
            return
        self._transport.write(data)

    def flush(self) -> None:
        """Send a head that nothing has followed."""
        if self.head:
            self.write(b"")

    def close(self) -> None:
        """Send what is left, and close the connection."""
        self.flush()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        """Do everything else as the connection does."""
        return getattr(self._transport, name)


def _is_head(data: bytes) -> bool:
    # '100 Continue' is none: the client waits for it with its body.
    is_final = data.startswith(b"HTTP/1.1 ") and data[9:10] != b"1"
    return is_final and data.endswith(b"\r\n\r\n")
