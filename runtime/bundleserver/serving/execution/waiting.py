"""Waiting for work in the thread pool: until it is done, it is late, or its client has gone."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from typing import TypeVar

from bundleserver.tensors.budget import Budget

T = TypeVar("T")


async def outcome_of_work(future: Future[T], budget: Budget) -> T:
    """Wait for the outcome of a call. On the event loop.

    A call that has not started when its time is over, or when this is cancelled, never starts; one
    that runs stops at its budget's next check, and nobody waits for it.

    Raises:
        RequestTimedOut: its time is over.
    """
    waiting = asyncio.wrap_future(future)
    left = budget.left_seconds()
    if left is None:
        try:
            return await waiting
        except asyncio.CancelledError:
            budget.cancel()
            raise
        finally:
            # An error's traceback has this frame: it would hold itself.
            del waiting, future
    is_over = False

    def end(waiting: asyncio.Future[T]) -> None:
        nonlocal is_over
        # Of two ends the first one counts.
        is_over = not waiting.done()
        waiting.cancel()

    timer = asyncio.get_running_loop().call_later(left, end, waiting)
    try:
        return await waiting
    except asyncio.CancelledError:
        budget.cancel()
        if is_over:
            raise budget.timed_out() from None
        raise
    finally:
        timer.cancel()
        del waiting, future
