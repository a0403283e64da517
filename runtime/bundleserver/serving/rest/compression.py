"""Compressed request bodies, decompressed in linear time and in threads of their own."""

from __future__ import annotations

import io
import zlib
from functools import partial

from bundleserver.errors import InvalidInput, QueueFull, RequestTooLarge
from bundleserver.serving.execution.small_first import SmallFirst
from bundleserver.serving.inflight import Held
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
        self,
        body: bytes,
        encoding: str,
        limit_bytes: int,
        budget: Budget | None = None,
        held: Held | None = None,
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
                    work = partial(decompress, body, encoding, most, held)
                    return await self._threads.run(most, work, budget)
                except RequestTooLarge:
                    # Nothing of it is left while it waits.
                    if held is not None:
                        held.shrink_to(len(body))
        if self._pending >= self._most:
            raise QueueFull("compressed bodies", self._most - THREADS, flag="")
        self._pending += 1
        try:
            work = partial(decompress, body, encoding, limit_bytes, held)
            return await self._threads.run(limit_bytes, work, budget)
        finally:
            self._pending -= 1


def decompress(body: bytes, encoding: str, limit_bytes: int, held: Held | None = None) -> bytes:
    """Decompress step by step, so that a small body cannot grow over the limit.

    Each step is counted in ``held``, of which the body is a part, before the next one.

    Raises:
        RequestTooLarge: it exceeds the limit when decompressed, or alone that of all in flight.
        TooManyBytes: all bodies in flight would exceed theirs.
        RequestCancelled: nobody waits for it any more.
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
    position = members = 0
    # Closed, since an error's traceback would keep what it has. Its value is no copy.
    with _Inflated(limit_bytes, held, len(body)) as inflated:
        while position < len(body):
            members += 1
            if members > MOST_MEMBERS:
                raise InvalidInput(
                    f"the request body has more than {MOST_MEMBERS} {encoding} members; compress "
                    "it as one"
                )
            try:
                position = _inflate_member(body, position, window_bits, inflated)
            except zlib.error as error:
                raise InvalidInput(f"the request body is not valid {encoding}: {error}") from error
            if position < 0:
                raise InvalidInput(f"the request body is not valid {encoding}: it is truncated")
        return inflated.getvalue()


class _Inflated(io.BytesIO):
    """What there is of a body's content, within its limits."""

    def __init__(self, limit_bytes: int, held: Held | None, body_size: int) -> None:
        super().__init__()
        self._limit_bytes = limit_bytes
        self._held = held
        self._body_size = body_size

    def room(self) -> int:
        return self._limit_bytes - self.tell()

    def add(self, part: bytes) -> None:
        if len(part) > self.room():
            raise RequestTooLarge(self._limit_bytes)
        if self._held is not None:
            self._held.grow_to(self._body_size + self.tell() + len(part))
        self.write(part)


def _inflate_member(body: bytes, start: int, window_bits: int, inflated: _Inflated) -> int:
    """Inflate one member piece by piece; return where it ends, -1 if it is truncated.

    zlib copies what a member leaves of its piece; of the whole rest that would take quadratic time.
    """
    engine = zlib.decompressobj(window_bits)
    view, position, part = memoryview(body), start, b""
    while not engine.eof:
        piece = engine.unconsumed_tail or view[position : position + _PIECE_BYTES]
        if not piece and not part:
            return -1
        if not engine.unconsumed_tail:
            position += len(piece)
        # A maximum of 0 would mean no maximum; one byte over the limit shows that it exceeds.
        part = engine.decompress(piece, min(inflated.room() + 1, 16 * _PIECE_BYTES))
        inflated.add(part)
    return position - len(engine.unused_data)


def _has_zlib_header(body: bytes) -> bool:
    return len(body) > 1 and body[0] & 15 == 8 and int.from_bytes(body[:2], "big") % 31 == 0
