"""Request bodies in several messages, with a timeout for slow clients."""

from __future__ import annotations

import asyncio

from bundleserver.errors import RequestTooLarge, RequestTooSlow
from bundleserver.serving.codecs.json_pieces import LARGE_BYTES
from bundleserver.serving.errors import ClientDisconnectedError
from bundleserver.serving.inflight import Held
from bundleserver.serving.options import SLOWEST_BYTES_PER_SECOND
from bundleserver.serving.rest.asgi import Message, Receive


class ArrivingBody:
    """A body in several messages."""

    def __init__(
        self,
        first: Message,
        receive: Receive,
        limit_bytes: int,
        timeout_receive: float,
        declared: str,
        held: Held | None = None,
    ) -> None:
        """Start with the first message; ``declared`` is the value of ``content-length``.

        ``held`` counts what arrives, where that is more than it has counted.
        """
        self._receive = receive
        self._limit_bytes = limit_bytes
        self._timeout_receive = timeout_receive
        self._declared = declared
        self._held = held
        chunk = _checked_chunk(first, 0, limit_bytes)
        self._chunks = [chunk]
        self._size = len(chunk)

    async def receive(self) -> bytes:
        """Wait for the whole body.

        Raises:
            RequestTooLarge: it exceeds the limit.
            TooManyBytes: all bodies in flight exceed their limit.
            RequestTooSlow: nothing arrived within the timeout, or too little on average.
            ClientDisconnectedError: the client disconnected.
        """
        if not self._timeout_receive:
            return await self._gather()
        # One task for the whole body: a deadline for each message would cost one task each.
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
            if self._held is not None:
                self._held.grow_to(self._size)
            more = bool(message.get("more_body", False))
        if self._size > LARGE_BYTES:
            # Joining takes a while, and does not need the interpreter lock.
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
                of_all = f" of the {self._declared}" if self._declared.isdigit() else ""
                received = f"{self._size}{of_all} bytes of its body"
                raise too_slow(received, now() - begun, seconds)

    def _due(self, begun: float) -> float:
        """Return the deadline, which is later for a body that arrives at the minimum rate."""
        return begun + self._timeout_receive + self._size / SLOWEST_BYTES_PER_SECOND


def _checked_chunk(message: Message, size: int, limit_bytes: int) -> bytes:
    if message["type"] == "http.disconnect":
        raise ClientDisconnectedError
    chunk: bytes = message.get("body", b"")  # type: ignore[assignment]  # ASGI's promise
    if size + len(chunk) > limit_bytes:
        raise RequestTooLarge(limit_bytes)
    return chunk


def too_slow(received: str, waited_seconds: float, timeout_receive: float) -> RequestTooSlow:
    """Make the error for a request that did not arrive in time."""
    return RequestTooSlow(
        f"request timeout: received {received} after {round(waited_seconds, 1):g} s; expected it "
        f"within {timeout_receive:g} s, plus 1 s for every {SLOWEST_BYTES_PER_SECOND >> 10} KiB; "
        "send it without pauses, or raise --timeout_receive"
    )
