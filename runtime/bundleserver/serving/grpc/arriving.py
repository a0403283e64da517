"""gRPC messages that have not come whole: how many at a time, and for how long.

gRPC gives a message only once all of it has come, and does not tell how much has. Of a call that
nobody reads from it takes as much as a window holds (64 KiB). So few calls are read from at a time,
and one that has been read from for long makes way for others.
"""

from __future__ import annotations

import asyncio
import math
import sys
from collections import OrderedDict
from contextlib import suppress
from typing import NamedTuple

import grpc

from bundleserver.errors import BundleServerError, QueueFull, RequestTooSlow
from bundleserver.serving.errors import answer_for
from bundleserver.serving.grpc.ending import end_call
from bundleserver.serving.options import SLOWEST_BYTES_PER_SECOND

PATIENCE_SECONDS = 5.0
"""How long a message may arrive before others that wait for its place."""

FEWEST = 8
_FEWEST_WAITING = 1024
_WINDOW_BYTES = 2**16
"""What may come of a message that is not read."""

_UNBOUNDED_BYTES = 64 * 2**20
"""What is taken for the largest message where any may come."""


class _Waiting(NamedTuple):
    since: float
    place: asyncio.Future[None]


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
        self._most = max(FEWEST, most_bytes // largest) if bounded else sys.maxsize
        self._most_waiting = max(_FEWEST_WAITING, most_bytes // _WINDOW_BYTES)
        longest = largest if largest > 0 else _UNBOUNDED_BYTES
        self._timeout = timeout_receive or math.inf
        self._longest_seconds = self._timeout + longest / SLOWEST_BYTES_PER_SECOND
        self._patience = PATIENCE_SECONDS if patience_seconds is None else patience_seconds
        self._interval = min(self._patience / 4, self._timeout / 2)
        # By when they began, the first one first.
        self._reading: dict[grpc.aio.ServicerContext, float] = {}
        self._waiting: OrderedDict[grpc.aio.ServicerContext, _Waiting] = OrderedDict()
        self._looking: asyncio.TimerHandle | None = None
        self._ending: set[asyncio.Task[None]] = set()

    async def receive(self, context: grpc.aio.ServicerContext) -> bytes:
        """Return a call's message.

        Raises:
            QueueFull: too many others arrive.
            CancelledError: there is none; the call is over.
            grpc.aio.AbortError: it did not come in time; the client has been told.
        """
        loop = asyncio.get_running_loop()
        now = loop.time()
        if self._looking is None:
            self._looking = loop.call_later(self._interval, self._look)
        try:
            if self._waiting or len(self._reading) >= self._most:
                await self._wait_for_place(context, now)
            else:
                self._reading[context] = now
            body: object = await context.read()
        finally:
            self._leave(context)
        if not isinstance(body, bytes):
            # So gRPC itself ends a call without its message, or with one that is too large.
            raise asyncio.CancelledError
        return body

    async def _wait_for_place(self, context: grpc.aio.ServicerContext, now: float) -> None:
        if len(self._waiting) >= self._most_waiting:
            raise self._full()
        waiting = _Waiting(now, asyncio.get_running_loop().create_future())
        self._waiting[context] = waiting
        await waiting.place

    def _leave(self, context: grpc.aio.ServicerContext) -> None:
        """Wait no more, or give a place to the next that waits."""
        self._waiting.pop(context, None)
        if self._reading.pop(context, None) is None:
            return
        while self._waiting and len(self._reading) < self._most:
            following, waiting = self._waiting.popitem(last=False)
            if not waiting.place.done():
                self._reading[following] = asyncio.get_running_loop().time()
                waiting.place.set_result(None)

    def _look(self) -> None:
        """End the calls whose message is too late, or that have to make way for others."""
        loop = asyncio.get_running_loop()
        self._looking, now = None, loop.time()
        for context, waiting in list(self._waiting.items()):
            if now < waiting.since + self._timeout:
                break
            del self._waiting[context]
            if not waiting.place.done():
                waiting.place.set_exception(self._full())
        for context, began in list(self._reading.items()):
            waited = now - began
            if waited >= self._longest_seconds:
                self._end(context, self._too_late(waited))
            elif self._waiting and waited >= self._patience:
                self._end(context, self._made_way(waited))
            else:
                break
        if self._reading:
            self._looking = loop.call_later(self._interval, self._look)

    def _full(self) -> QueueFull:
        return QueueFull("arriving gRPC messages", self._most_waiting, flag="--max_inflight_bytes")

    def _too_late(self, waited: float) -> RequestTooSlow:
        return RequestTooSlow(
            f"the message has not arrived after {round(waited, 1):g} s; expected it within "
            f"{self._longest_seconds:g} s, the time of the largest one; send it without pauses, or "
            "raise --timeout_receive"
        )

    def _made_way(self, waited: float) -> RequestTooSlow:
        return RequestTooSlow(
            f"the message has not arrived after {round(waited, 1):g} s, and other calls wait; of "
            f"the {self._most} that may arrive at a time each has {self._patience:g} s; retry "
            "later, or raise --max_inflight_bytes"
        )

    def _end(self, context: grpc.aio.ServicerContext, error: BundleServerError) -> None:
        """Tell the client; whoever reads from the call gets an AbortError."""
        self._leave(context)
        ending = asyncio.ensure_future(_end(context, error))
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)


async def _end(context: grpc.aio.ServicerContext, error: BundleServerError) -> None:
    # It may be over by now.
    with suppress(Exception):
        await end_call(context, answer_for(error))
