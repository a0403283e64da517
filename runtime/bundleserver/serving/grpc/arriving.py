"""gRPC messages that have not come whole: how many at a time, and for how long.

gRPC gives a message only once all of it has come, and does not tell how much has. Of a call that
nobody reads from it takes as much as a window holds (64 KiB). So few calls are read from at a time,
and one that has been read from for long makes way for others.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress

import grpc

from bundleserver.errors import BundleServerError, QueueFull, RequestTooSlow
from bundleserver.serving.errors import answer_for

PATIENCE_SECONDS = 5.0
"""How long a message may arrive before others that wait for its place."""

FEWEST = 8
_SLOWEST_BYTES_PER_SECOND = 16 * 2**10
"""As of a REST body."""

_UNBOUNDED_BYTES = 64 * 2**20
"""What is taken for the largest message where any may come."""


class ArrivingMessages:
    """Receives the messages of a server's calls. On the event loop."""

    def __init__(
        self,
        most_bytes: int = 0,
        largest: int = -1,
        timeout_receive: float = 0.0,
        patience_seconds: float | None = None,
    ) -> None:
        """Let so many bytes arrive at a time; 0 or less of anything: no limit.

        Args:
            most_bytes: of all messages; at least ``FEWEST`` arrive at a time.
            largest: the largest message.
            timeout_receive: seconds for one, and for the largest one more for every 16 KiB.
            patience_seconds: None for ``PATIENCE_SECONDS``.
        """
        bounded = most_bytes > 0 and largest > 0
        self._most = max(FEWEST, most_bytes // largest) if bounded else 0
        longest = largest if largest > 0 else _UNBOUNDED_BYTES
        self._timeout = timeout_receive
        self._longest_seconds = timeout_receive + longest / _SLOWEST_BYTES_PER_SECOND
        self._patience = PATIENCE_SECONDS if patience_seconds is None else patience_seconds
        # By when they began, the first one first.
        self._reading: dict[grpc.aio.ServicerContext, float] = {}
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._looking: asyncio.TimerHandle | None = None
        self._ending: set[asyncio.Task[None]] = set()

    async def receive(self, context: grpc.aio.ServicerContext) -> bytes:
        """Return a call's message.

        Raises:
            QueueFull: too many others arrive.
            CancelledError: there is none; the call is over.
            grpc.aio.AbortError: it did not come in time; the client has been told.
        """
        if self._most and (self._waiting or len(self._reading) >= self._most):
            await self._wait_for_place()
        loop = asyncio.get_running_loop()
        self._reading[context] = loop.time()
        if self._looking is None and self._timeout:
            self._looking = loop.call_later(self._timeout, self._look)
        try:
            body: object = await context.read()
        finally:
            self._leave(context)
        if not isinstance(body, bytes):
            # So gRPC itself ends a call without its message, or with one that is too large.
            raise asyncio.CancelledError
        return body

    def _leave(self, context: grpc.aio.ServicerContext) -> None:
        """Give its place to the next."""
        if self._reading.pop(context, None) is not None and self._waiting:
            self._wake()

    def _wake(self) -> None:
        while self._waiting:
            waiting = self._waiting.popleft()
            if not waiting.done():
                waiting.set_result(None)
                return

    async def _wait_for_place(self) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + (self._timeout or self._longest_seconds)
        own: asyncio.Future[None] = loop.create_future()
        self._waiting.append(own)
        try:
            while not own.done():
                now = loop.time()
                if now >= until:
                    raise QueueFull("gRPC messages that arrive", self._most)
                is_first = self._waiting[0] is own
                if is_first and len(self._reading) < self._most:
                    break
                wait = min(until - now, self._make_room(now) if is_first else self._patience)
                if wait > 0:
                    await asyncio.wait({own}, timeout=wait)
        finally:
            if not own.done():
                own.cancel()
                with suppress(ValueError):
                    self._waiting.remove(own)

    def _make_room(self, now: float) -> float:
        """End the call that has been read from for longest, or return when that may be done."""
        first, began = next(iter(self._reading.items()))
        left = began + self._patience - now
        if left <= 0:
            seconds = round(now - began, 1)
            self._end(
                first,
                RequestTooSlow(
                    f"the message has not arrived after {seconds:g} s, and other calls wait; of "
                    f"the {self._most} that may arrive at a time each has {self._patience:g} s; "
                    "retry later, or raise --max_inflight_bytes"
                ),
            )
        return left

    def _look(self) -> None:
        """End the calls whose message is too late."""
        loop = asyncio.get_running_loop()
        self._looking, now = None, loop.time()
        for context, began in list(self._reading.items()):
            if now < began + self._longest_seconds:
                break
            self._end(
                context,
                RequestTooSlow(
                    f"the message has not arrived after {round(now - began, 1):g} s; expected it "
                    f"within {self._longest_seconds:g} s, the time of the largest one; send it "
                    "without pauses, or raise --timeout_receive"
                ),
            )
        if self._reading:
            self._looking = loop.call_later(self._timeout, self._look)

    def _end(self, context: grpc.aio.ServicerContext, error: BundleServerError) -> None:
        """Tell the client; whoever reads from the call gets an AbortError."""
        self._leave(context)
        ending = asyncio.ensure_future(_abort(context, error))
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)


async def _abort(context: grpc.aio.ServicerContext, error: BundleServerError) -> None:
    answer = answer_for(error)
    # It may be over by now.
    with suppress(Exception):
        await context.abort(grpc.StatusCode[answer.grpc_code], answer.message)
