"""Large bodies read and written so that small requests and health need not wait for many of them.

In each turn the event loop does some of such work at once, and one piece more that had to wait for
a turn; in between it looks at its connections. The largest bodies are read in a thread, one by one:
each may take ten times its size there, unless it is read in pieces.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from bundleserver.serving.codecs.json_pieces import LARGE_BYTES
from bundleserver.serving.execution.thread_pool import switch_often

T = TypeVar("T")

SMALL_BYTES = 32 * 2**10
"""What takes no longer than a few tenths of a millisecond is no such work."""

TURN_BYTES = 128 * 2**10
"""What is done at once in a turn: a millisecond's work or two."""

THREAD_BYTES = LARGE_BYTES
"""What would keep the event loop from everything else for more than some milliseconds."""


class HeavyWork:
    """Runs work in turns. Called from the event loop."""

    def __init__(self) -> None:
        self._left = TURN_BYTES
        self._turn = asyncio.Lock()
        self._thread = ThreadPoolExecutor(1, "large-body", initializer=switch_often)

    async def run(self, size: int, call: Callable[[], T]) -> T:
        """Run a call on so many bytes, and return or raise what it does."""
        if size <= SMALL_BYTES:
            return call()
        loop = asyncio.get_running_loop()
        if size > THREAD_BYTES:
            return await loop.run_in_executor(self._thread, call)
        if size <= self._left and not self._turn.locked():  # nobody overtakes those who wait
            if self._left == TURN_BYTES:
                loop.call_soon(self._begin_turn)
            self._left -= size
            return call()
        async with self._turn:
            # Whoever is next begins in a later turn of the loop.
            await asyncio.sleep(0)
        return call()

    def _begin_turn(self) -> None:
        self._left = TURN_BYTES
