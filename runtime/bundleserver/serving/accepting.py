"""The end of a listener: no connection that has begun is reset with the request sent there."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import select
import socket
import struct
from collections.abc import Iterable

POLL_SECONDS = 0.02
_HANDSHAKE_SECONDS = 0.2
"""How long a handshake that has begun may take; clients are in the same cluster."""

_LONGEST_SECONDS = 1.2

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


async def finish_accepting(
    listeners: Iterable[socket.socket], longest_seconds: float = _LONGEST_SECONDS
) -> None:
    """Let no new connection begin, and wait until those that have are accepted.

    Closing a listener resets what it has not accepted, with the request that was sent there. A
    client whose first segment is dropped sends it again a second later, to a port that is closed
    or to another process's.
    """
    listeners = list(listeners)
    for listener in listeners:
        _drop_new_connections(listener)
    now = asyncio.get_running_loop().time
    until = now() + min(longest_seconds, _LONGEST_SECONDS)
    await asyncio.sleep(min(longest_seconds, _HANDSHAKE_SECONDS))
    while now() < until and any(_is_waiting(listener) for listener in listeners):
        await asyncio.sleep(POLL_SECONDS)


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
