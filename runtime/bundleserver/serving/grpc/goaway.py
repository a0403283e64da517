"""The end of a gRPC port without a lost call: its clients are told before the server is shut down.

gRPC's server tells its clients only when it is shut down, and from then on it cancels every call
that comes, also those that were sent before the client was told. It has no other way to say it, so
we do: a GOAWAY frame, written into each connection, says that calls sent until it arrives are
answered, and that others belong on a new connection. gRPC goes on answering meanwhile.

A frame may only begin where another one ends. gRPC writes whole frames, in parts only where the
client is slow to read; so no answer is begun for a moment, and who has then not taken everything
that was sent before is not told.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import socket
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

from bundleserver.serving.accepting import POLL_SECONDS, finish_accepting

LOG = logging.getLogger(__name__)

_GOAWAY = bytes([0, 0, 8, 7, 0, 0, 0, 0, 0]) + struct.pack(">II", 2**31 - 1, 0)
"""RFC 9113, 6.8: no error, and every stream so far is answered."""

_QUIET_SECONDS = 0.03
_LONGEST_HOLD_SECONDS = 0.2
_TELLING_SECONDS = 1.0
_PAUSE_SECONDS = 0.1
"""How long answers go out before they are held again, for those that were not told yet."""

_LEAVING_SECONDS = 3.0
"""How long a client may take to act on it. What it sends after that is cancelled, and one that
shares its CPU with a starting server takes more than a second now and then."""

_TCP_INFO = struct.Struct("=8B24I4Q3I")
_STATE, _UNACKED, _LAST_DATA_SENT, _BYTES_ACKED, _NOT_SENT = 0, 12, 17, 34, 38
_ESTABLISHED = 1


async def leave(port: int, answering: asyncio.Event, seconds: float = math.inf) -> None:
    """Take no new connection, tell the clients of all others, and let them act on it.

    Args:
        port: where gRPC listens.
        answering: set while answers may begin; cleared for a moment.
        seconds: how long all of it takes at most; who has then not been told is not.
    """
    now = asyncio.get_running_loop().time
    until = now() + seconds
    with _sockets(port) as (listeners, _):
        await finish_accepting(listeners, seconds)
    with _sockets(port) as (_, connections):
        await _tell_all(connections, answering, min(until, now() + _TELLING_SECONDS))
        until = min(until, now() + _LEAVING_SECONDS)
        while now() < until and any(_is_open(connection) for connection in connections):
            await asyncio.sleep(POLL_SECONDS)


async def _tell_all(
    connections: Iterable[socket.socket], answering: asyncio.Event, until: float
) -> None:
    loop, waiting = asyncio.get_running_loop(), list(connections)
    while waiting and loop.time() < until:
        answering.clear()
        try:
            held_until = min(until, loop.time() + _LONGEST_HOLD_SECONDS)
            waiting = await _tell_some(waiting, held_until)
        finally:
            answering.set()
        if waiting:
            await asyncio.sleep(_PAUSE_SECONDS)
    if waiting:
        LOG.info("%d gRPC connections are not told to leave: they do not read", len(waiting))


async def _tell_some(waiting: list[socket.socket], until: float) -> list[socket.socket]:
    """Tell them while no answer is begun, and return those that cannot be told by then."""
    loop = asyncio.get_running_loop()
    while (waiting := [one for one in waiting if not _tell(one)]) and loop.time() < until:
        await asyncio.sleep(_QUIET_SECONDS / 2)
    return waiting


def _tell(connection: socket.socket) -> bool:
    """Write the frame where one may begin; returns False if it is to be tried again."""
    told = _tcp_info(connection)
    if told is None or told[_STATE] != _ESTABLISHED:
        return True  # there is nobody to tell
    if not told[_BYTES_ACKED] or told[_UNACKED] or told[_NOT_SENT]:
        return False
    if told[_LAST_DATA_SENT] < _QUIET_SECONDS * 1000:
        return False
    with contextlib.suppress(OSError):  # it has closed meanwhile
        connection.send(_GOAWAY, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
    return True


def _is_open(connection: socket.socket) -> bool:
    told = _tcp_info(connection)
    return told is not None and told[_STATE] == _ESTABLISHED


def _tcp_info(connection: socket.socket) -> tuple[int, ...] | None:
    """Return what the kernel knows of a connection; None if it says nothing."""
    try:
        raw = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
        return _TCP_INFO.unpack(raw)
    except (OSError, struct.error):
        return None


@contextlib.contextmanager
def _sockets(port: int) -> Iterator[tuple[list[socket.socket], list[socket.socket]]]:
    """Return second descriptors of a port's listeners and connections, for the block.

    gRPC shows them to nobody, but they are this process's files.
    """
    with contextlib.ExitStack() as stack:
        listeners: list[socket.socket] = []
        connections: list[socket.socket] = []
        for descriptor in _descriptors():
            if (own := _socket_at(descriptor, port)) is not None:
                stack.enter_context(own)
                listens = own.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
                (listeners if listens else connections).append(own)
        yield listeners, connections


def _descriptors() -> list[int]:
    try:
        return [int(entry.name) for entry in Path("/proc/self/fd").iterdir()]
    except OSError:  # not Linux: calls that are sent while clients are told may be lost
        return []


def _socket_at(descriptor: int, port: int) -> socket.socket | None:
    """Return a second descriptor of a TCP socket with this port of ours; None if it is none."""
    try:
        second = os.dup(descriptor)
    except OSError:  # closed meanwhile
        return None
    try:
        found = socket.socket(fileno=second)
    except OSError:
        os.close(second)
        return None
    with contextlib.suppress(OSError):
        address = found.getsockname()
        if found.type == socket.SOCK_STREAM and isinstance(address, tuple) and address[1] == port:
            return found
    found.close()
    return None
