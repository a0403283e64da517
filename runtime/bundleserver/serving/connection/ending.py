"""The end of a server's connections: each is told with an answer before it is closed.

A client that keeps a connection may send its next request at any moment, and one that has connected
its first. So while the server ends every answer says ``connection: close``, new connections are
still answered, and what is closed without an answer has been silent for long.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import select
import socket
import struct
from collections.abc import Iterable
from typing import Protocol

_POLL_SECONDS = 0.02
_HANDSHAKE_SECONDS = 0.2
"""How long a handshake that has begun may take; clients are in the same cluster."""

_SO_ATTACH_FILTER = 26
"""Linux's; Python has no name for it."""
_DROP_NEW = b"".join(
    # Classic BPF over the TCP header: drop segments with SYN and without ACK, keep all others.
    struct.pack("HBBI", *instruction)
    for instruction in (
        (0x30, 0, 0, 13),  # load the byte of flags
        (0x54, 0, 0, 0x12),  # keep SYN and ACK
        (0x15, 0, 1, 0x02),  # only SYN?
        (0x06, 0, 0, 0),  # drop
        (0x06, 0, 0, 0xFFFFFFFF),  # keep
    )
)


class Ending:
    """Whether the server ends; every connection of it reads the same one.

    Attributes:
        begun: whether answers say that their connection is closed after them.
    """

    begun = False


class EndingConnection(Protocol):
    """What a connection promises to a server that ends."""

    def close_after_answers(self) -> None:
        """Say with the last answer in flight that the connection is closed after it."""

    def has_head_begun(self) -> bool:
        """Tell whether a part of a request's head has arrived."""


async def finish_accepting(listeners: Iterable[socket.socket]) -> None:
    """Let no new connection begin, and wait until those that have are accepted.

    Closing a listener resets what it has not accepted, with the request that was sent there. A
    client whose first segment is dropped sends it again a second later, to a port that is closed
    or to another process's.
    """
    listeners = list(listeners)
    for listener in listeners:
        _drop_new_connections(listener)
    await asyncio.sleep(_HANDSHAKE_SECONDS)
    for _ in range(int(1 / _POLL_SECONDS)):
        if not any(_is_waiting(listener) for listener in listeners):
            return
        await asyncio.sleep(_POLL_SECONDS)


async def wait_for_silence(
    connections: Iterable[EndingConnection], known: Iterable[object], seconds: float
) -> None:
    """Wait until no connection's first request, and no begun one, may still come; at most so long.

    Args:
        connections: those that are open, now and later.
        known: those that have been silent for long, if no request has begun there.
        seconds: how long a silent one waits for its request.
    """
    loop, known = asyncio.get_running_loop(), set(known)
    until = loop.time() + seconds
    while loop.time() < until and any(
        connection not in known or connection.has_head_begun() for connection in connections
    ):
        await asyncio.sleep(_POLL_SECONDS)


def _drop_new_connections(listener: socket.socket) -> None:
    code = ctypes.create_string_buffer(_DROP_NEW, len(_DROP_NEW))
    program = struct.pack("HL", len(_DROP_NEW) // 8, ctypes.addressof(code))
    # Where it cannot be, as outside Linux, the moment between the last accept and the close stays.
    with contextlib.suppress(OSError):
        listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)


def _is_waiting(listener: socket.socket) -> bool:
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    return bool(poll.poll(0))
