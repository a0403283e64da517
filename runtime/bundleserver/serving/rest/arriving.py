"""Request bodies that come in several messages: a client that drips one is not waited for."""

from __future__ import annotations

import asyncio

from bundleserver.errors import RequestTooLarge, RequestTooSlow
from bundleserver.serving.codecs.json_pieces import LARGE_BYTES
from bundleserver.serving.rest.asgi import Message, Receive

_SLOWEST_BYTES_PER_SECOND = 16 * 2**10
"""What a body that takes longer than its seconds has to come with, on average."""


class ClientDisconnectedError(Exception):
    """The client went away before its request was complete; nobody waits for an answer."""


class ArrivingBody:
    """A body that comes in several messages; a client that drips it is not waited for."""

    def __init__(
        self,
        first: Message,
        receive: Receive,
        limit_bytes: int,
        timeout_receive: float,
        declared: str,
    ) -> None:
        """Begin with the first message; ``declared`` is the length that the head announces."""
        self._receive = receive
        self._limit_bytes = limit_bytes
        self._timeout_receive = timeout_receive
        self._declared = declared
        chunk = _checked_chunk(first, 0, limit_bytes)
        self._chunks = [chunk]
        self._size = len(chunk)

    async def read(self) -> bytes:
        """Wait for all of it.

        Raises:
            RequestTooLarge: it is over the limit.
            RequestTooSlow: nothing came for its seconds, or too little in all the time it took.
            ClientDisconnectedError: the client is gone.
        """
        if not self._timeout_receive:
            return await self._gather()
        # One task for the whole of it: to wait for each message with a deadline costs one for each.
        gathering = asyncio.ensure_future(self._gather())
        try:
            await self._watch(gathering)
            return gathering.result()
        finally:
            gathering.cancel()

    async def _gather(self) -> bytes:
        more = True
        while more:
            message = await self._receive()
            chunk = _checked_chunk(message, self._size, self._limit_bytes)
            self._chunks.append(chunk)
            self._size += len(chunk)
            more = bool(message.get("more_body", False))
        if self._size > LARGE_BYTES:
            # To join them takes a while, and does not need the interpreter.
            return await asyncio.to_thread(b"".join, self._chunks)
        return b"".join(self._chunks)

    async def _watch(self, gathering: asyncio.Future[bytes]) -> None:
        now = asyncio.get_running_loop().time
        seconds, begun = self._timeout_receive, now()
        while True:
            seen, left = self._size, self._due(begun) - now()
            done, _ = await asyncio.wait({gathering}, timeout=min(seconds, left))
            if done:
                return
            if self._size == seen or now() >= self._due(begun):
                raise too_slow(self._so_far(), now() - begun, seconds)

    def _due(self, begun: float) -> float:
        """Return until when it may take; a client that is slow and steady gains time by it."""
        return begun + self._timeout_receive + self._size / _SLOWEST_BYTES_PER_SECOND

    def _so_far(self) -> str:
        of_all = f" of the {self._declared}" if self._declared.isdigit() else ""
        return f"{self._size}{of_all} bytes of its body"


def _checked_chunk(message: Message, size: int, limit_bytes: int) -> bytes:
    """Return what a message brings to a body of that size so far."""
    if message["type"] == "http.disconnect":
        raise ClientDisconnectedError
    chunk: bytes = message.get("body", b"")  # type: ignore[assignment]  # ASGI's promise
    if size + len(chunk) > limit_bytes:
        raise RequestTooLarge(limit_bytes)
    return chunk


def too_slow(came: str, waited_seconds: float, timeout_receive: float) -> RequestTooSlow:
    """Say that a request takes too long to arrive, and how long it may take."""
    return RequestTooSlow(
        f"the request came too slowly: {came} after {round(waited_seconds, 1):g} s; it may take "
        f"{timeout_receive:g} s, and a large one a second for every "
        f"{_SLOWEST_BYTES_PER_SECOND >> 10} KiB; send it without pauses, or raise --timeout_receive"
    )
