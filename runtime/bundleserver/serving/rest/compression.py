"""Compressed request bodies, decompressed in linear time and in threads of their own."""

from __future__ import annotations

import zlib
from functools import partial

from bundleserver.errors import InvalidInput, QueueFull, RequestTooLarge
from bundleserver.serving.execution.small_first import SmallFirst
from bundleserver.tensors.budget import Budget

MOST_MEMBERS = 1000
"""gzip allows any number of members, and each costs as much as a kilobyte of content."""

THREADS = 3
MOST_WAITING = 64
"""Large bodies that may wait; what is large shows only when it is decompressed."""

STEPS_BYTES = (2**20, 2**23)
"""What exceeds one of these is begun again as larger work, so that it holds up nothing smaller."""

_PIECE_BYTES = 2**16
_WINDOW_BITS = {"gzip": 31, "x-gzip": 31, "deflate": 15}
_RAW_DEFLATE = -15


class Decompression:
    """Decompresses bodies in a few threads. Called from the event loop."""

    def __init__(self, most_waiting: int = MOST_WAITING) -> None:
        self._threads = SmallFirst(THREADS, "decompress")
        self._most = THREADS + most_waiting
        self._pending = 0

    async def run(
        self, body: bytes, encoding: str, limit_bytes: int, budget: Budget | None = None
    ) -> bytes:
        """Decompress a body within its request's time, see ``decompress``.

        Raises:
            QueueFull: too many large bodies wait for it.
            RequestTimedOut: the request is over.
        """
        budget = budget or Budget()
        for most in STEPS_BYTES:
            if len(body) < most < limit_bytes:
                try:
                    work = partial(decompress, body, encoding, most)
                    return await self._threads.run(most, work, budget)
                except RequestTooLarge:
                    continue
        if self._pending >= self._most:
            raise QueueFull("compressed bodies", self._most - THREADS, flag="")
        self._pending += 1
        try:
            work = partial(decompress, body, encoding, limit_bytes)
            return await self._threads.run(limit_bytes, work, budget)
        finally:
            self._pending -= 1


def decompress(body: bytes, encoding: str, limit_bytes: int) -> bytes:
    """Decompress step by step, so that a small body cannot grow over the limit.

    Raises:
        RequestTooLarge: it exceeds the limit when decompressed.
        InvalidInput: it is not valid for its encoding, has too many members, or the encoding is
            not supported.
    """
    window_bits = _WINDOW_BITS.get(encoding)
    if window_bits is None:
        raise InvalidInput(
            f"content-encoding '{encoding[:40]}' is not supported; expected gzip, deflate or none"
        )
    if encoding == "deflate" and not _has_zlib_header(body):
        window_bits = _RAW_DEFLATE
    inflated: list[bytes] = []
    left, position = limit_bytes, 0
    for _ in range(MOST_MEMBERS):
        if position >= len(body):
            return b"".join(inflated)
        try:
            member, position = _inflate_member(body, position, window_bits, left)
        except zlib.error as error:
            raise InvalidInput(f"the request body is not valid {encoding}: {error}") from error
        if position < 0:
            raise InvalidInput(f"the request body is not valid {encoding}: it is truncated")
        left -= sum(map(len, member))
        if left < 0:
            # The error's traceback would keep them.
            inflated.clear()
            member.clear()
            raise RequestTooLarge(limit_bytes)
        inflated += member
    if position < len(body):
        raise InvalidInput(
            f"the request body has more than {MOST_MEMBERS} {encoding} members; compress it as one"
        )
    return b"".join(inflated)


def _inflate_member(
    body: bytes, start: int, window_bits: int, most: int
) -> tuple[list[bytes], int]:
    """Inflate one member, up to one byte more than allowed, piece by piece.

    zlib copies what a member leaves of its piece; of the whole rest that would take quadratic time.

    Returns:
        What it has, and where it ends; -1 if it is truncated.
    """
    engine = zlib.decompressobj(window_bits)
    parts: list[bytes] = []
    view, position = memoryview(body), start
    while not engine.eof and most >= 0:
        piece = engine.unconsumed_tail or view[position : position + _PIECE_BYTES]
        if not piece and not (parts and parts[-1]):
            return parts, -1
        if not engine.unconsumed_tail:
            position += len(piece)
        # A maximum of 0 would mean no maximum; one byte over the limit shows that it exceeds.
        part = engine.decompress(piece, min(most + 1, 16 * _PIECE_BYTES))
        most -= len(part)
        parts.append(part)
    return parts, position - len(engine.unused_data)


def _has_zlib_header(body: bytes) -> bool:
    return len(body) > 1 and body[0] & 15 == 8 and int.from_bytes(body[:2], "big") % 31 == 0
