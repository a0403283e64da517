"""A trickle of clients that send what nobody should, or leave; each has one right answer."""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Callable
from contextlib import suppress

import numpy as np

from tests.soak.checking import LOST, WRONG, Exchange
from tests.soak.children import Line
from tests.soak.clients import Place

ANSWER_WITHIN_SECONDS = 30.0
MOST_SLOW_READERS = 3
_PREDICT = b"POST /v1/models/forest:predict HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"


def _post(body: bytes, length: int | None = None) -> bytes:
    count = len(body) if length is None else length
    return _PREDICT + b"Content-Length: %d\r\n\r\n" % count + body


ANSWERED: dict[str, tuple[bytes, int]] = {
    "too large": (_post(b"", 1 << 30), 413),
    "not JSON": (_post(b'{"instances": [[1, 2'), 400),
    "deep JSON": (_post(b'{"instances": ' + b"[" * 50_000 + b"]" * 50_000 + b"}"), 400),
    "three columns": (_post(b'{"instances": [[1, 2, 3]]}'), 400),
    "many values": (_post(b'{"instances": [' + b"[]," * 1_300_000 + b"[]]}"), 413),
    "large head": (_PREDICT + b"X-Long: " + b"x" * 80_000 + b"\r\n\r\n", 431),
    "not HTTP": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n", 400),
    "unknown model": (
        b"GET /v2/models/nobody HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        404,
    ),
}
"""What is sent, and the status that answers it."""


def run_hostile(line: Line, places: list[Place], seed: int) -> None:
    """Send one of them after another, to one server after another, until told to stop."""
    rng = np.random.default_rng(seed)
    line.report("started", "hostile")
    slow: list[socket.socket] = []
    kinds: list[Callable[[Place], None]] = [_leave_midway, lambda place: _read_slowly(place, slow)]
    while line.wait(float(rng.uniform(0.2, 0.8))) != "stop":
        place = places[int(rng.integers(len(places)))]
        chosen = int(rng.integers(len(ANSWERED) + len(kinds)))
        if chosen >= len(ANSWERED):
            with suppress(OSError):
                kinds[chosen - len(ANSWERED)](place)
        else:
            _expect(line, place, [*ANSWERED][chosen])
        line.report("hostile", 1)
    for client in slow:
        client.close()


def _expect(line: Line, place: Place, name: str) -> None:
    sent, status = ANSWERED[name]
    asked = (os.getpid(), f"hostile: {name}", place.server, "forest", (), time.monotonic())
    try:
        first = _first_line(place, sent)
    except OSError as error:
        is_reset = not isinstance(error, TimeoutError)
        exchange = Exchange(*asked, time.monotonic(), failure=repr(error), is_reset=is_reset)
        line.report("problem", (LOST, f"expected {status}", exchange))
        return
    if f" {status} " not in first:
        exchange = Exchange(
            *asked, time.monotonic(), failure=f"got {first!r}", is_reset=first == ""
        )
        line.report("problem", (WRONG if first else LOST, f"expected {status}", exchange))


def _first_line(place: Place, sent: bytes) -> str:
    """Return the status line; a server may answer before it has read all, and close."""
    with socket.create_connection(("127.0.0.1", place.http_port), ANSWER_WITHIN_SECONDS) as link:
        with suppress(BrokenPipeError, ConnectionResetError):
            link.sendall(sent)
        answer = b""
        while b"\r\n" not in answer and (data := link.recv(4096)):
            answer += data
    return answer.partition(b"\r\n")[0].decode("latin-1")


def _leave_midway(place: Place) -> None:
    """Send half a body, then reset the connection."""
    with socket.create_connection(("127.0.0.1", place.http_port), ANSWER_WITHIN_SECONDS) as link:
        link.sendall(_post(b'{"instances": [[1, 2', 4000))
        link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _read_slowly(place: Place, slow: list[socket.socket]) -> None:
    """Ask for a long answer and take little of it; the oldest of a few such clients leaves."""
    link = socket.create_connection(("127.0.0.1", place.http_port), ANSWER_WITHIN_SECONDS)
    link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    link.sendall(_post(b'{"instances": [' + b"[1, 2, 3, 4]," * 5_000 + b"[1, 2, 3, 4]]}"))
    link.recv(100)
    slow.append(link)
    while len(slow) > MOST_SLOW_READERS:
        slow.pop(0).close()
