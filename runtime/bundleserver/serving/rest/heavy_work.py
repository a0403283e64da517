"""Decoding and encoding of large bodies, without delaying small requests and health checks.

In each iteration the event loop does a limited amount of such work, plus one call that was waiting;
in between it serves its connections. The largest bodies are decoded in threads, of the very large
ones one at a time: each may need ten times its size in memory, unless it is decoded in pieces.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from bundleserver.serving.codecs.json_pieces import LARGE_BYTES
from bundleserver.serving.execution.small_first import SmallFirst
from bundleserver.tensors.budget import Budget

T = TypeVar("T")

SMALL_BYTES = 32 * 2**10
"""Smaller bodies, a few tenths of a millisecond's work, are not limited."""

TURN_BYTES = 128 * 2**10
"""Bytes processed in one iteration: a millisecond's work or two."""


class HeavyWork:
    """Runs work in turns. Called from the event loop."""

    def __init__(self) -> None:
        self._left = TURN_BYTES
        self._turn = asyncio.Lock()
        self._threads = SmallFirst(2, "large-body")

    async def run(self, size: int, call: Callable[[], T], budget: Budget | None = None) -> T:
        """Run a call on so many bytes, within a request's time.

        Raises:
            RequestTimedOut: the request is over before it runs.
        """
        if size <= SMALL_BYTES:
            return call()
        budget, loop = budget or Budget(), asyncio.get_running_loop()
        if size > LARGE_BYTES:
            return await self._threads.run(size, call, budget)
        if size <= self._left and not self._turn.locked():  # waiting calls run first
            if self._left == TURN_BYTES:
                loop.call_soon(self._begin_turn)
            self._left -= size
            return call()
        try:
            await asyncio.wait_for(self._turn.acquire(), budget.left_seconds())
        except asyncio.TimeoutError:
            raise budget.timed_out() from None
        try:
            # The next call starts in a later iteration of the loop.
            await asyncio.sleep(0)
        finally:
            self._turn.release()
        budget.check()
        return call()

    def _begin_turn(self) -> None:
        self._left = TURN_BYTES
