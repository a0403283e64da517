"""Large bodies read and written so that small requests and health need not wait for many of them.

The event loop does one such piece of work in a turn and looks at its connections in between. The
largest bodies are read in a thread, one after the other: each may take ten times its size there,
unless it is read in pieces.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from bundleserver.errors import BundleServerError
from bundleserver.serving.json_pieces import LARGE_BYTES
from bundleserver.serving.workers import switch_often

T = TypeVar("T")

TURN_BYTES = 64 * 2**10
"""What takes longer than a few tenths of a millisecond."""

THREAD_BYTES = LARGE_BYTES
"""What would keep the event loop from everything else for more than some milliseconds."""


class HeavyWork:
    """Runs work in turns. Called from the event loop."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._thread = ThreadPoolExecutor(1, "large-body", initializer=switch_often)

    async def run(self, size: int, call: Callable[[], T]) -> T:
        """Run a call on so many bytes, and return or raise what it does."""
        if size <= TURN_BYTES:
            return call()
        if size > THREAD_BYTES:
            return await asyncio.get_running_loop().run_in_executor(self._thread, call)
        async with self._turn:
            # Whoever is next begins in a later turn of the loop.
            await asyncio.sleep(0)
        return call()

    async def decode(
        self, size: int, call: Callable[[], T], note: Callable[[BundleServerError], None]
    ) -> T:
        """Run a call that decodes so many bytes; what it refuses is noted, and raised."""
        try:
            return call() if size <= TURN_BYTES else await self.run(size, call)
        except BundleServerError as error:
            note(error)
            raise
