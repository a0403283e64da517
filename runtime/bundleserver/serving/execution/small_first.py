"""Threads for work of known size, where small work does not wait behind large."""

from __future__ import annotations

import heapq
import itertools
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar
from weakref import ref

from bundleserver.errors import NotReady
from bundleserver.serving.execution.promise import Promise
from bundleserver.serving.execution.thread_pool import switch_often
from bundleserver.serving.execution.waiting import outcome_of_work
from bundleserver.tensors.budget import Budget

T = TypeVar("T")

LARGE_BYTES = 8 * 2**20
"""Work on more is large: tenths of a second, and maybe ten times as much memory."""


@dataclass(order=True)
class _Waiting:
    size: int
    number: int
    call: Callable[[], None] = field(compare=False)


class SmallFirst:
    """The smallest waiting call is next, and one thread is kept free of large ones.

    Called from the event loop.
    """

    def __init__(self, threads: int, name: str) -> None:
        """Start no thread yet; all but one of them may run large calls."""
        self._most_large = threads - 1
        self._large = 0
        self._numbers = itertools.count()
        self._waiting: list[_Waiting] = []
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(threads, name, initializer=switch_often)

    async def run(self, size: int, call: Callable[[], T], budget: Budget) -> T:
        """Run a call on so many bytes within a request's time.

        Raises:
            RequestTimedOut: the request is over; a call that has not started never starts.
            NotReady: no thread can be started.
        """
        budget.check()
        return await outcome_of_work(self._submit(size, call), budget)

    def _submit(self, size: int, call: Callable[[], T]) -> Future[T]:
        future: Future[T] = Future()
        work = partial(Promise(future).fulfil, call)
        waiting = _Waiting(size, next(self._numbers), work)
        with self._lock:
            heapq.heappush(self._waiting, waiting)
        # Weakly, as in the thread pool.
        future.add_done_callback(partial(self._forget, ref(waiting)))
        try:
            self._pool.submit(self._work)
        except (RuntimeError, MemoryError) as error:
            # A thread that is there may have begun it.
            if future.cancel():
                raise NotReady("this server", f"no thread is available: {error}") from error
        return future

    def _work(self) -> None:
        while taken := self._take():
            size = taken.size
            try:
                taken.call()
            finally:
                if size > LARGE_BYTES:
                    with self._lock:
                        self._large -= 1

    def _take(self) -> _Waiting | None:
        with self._lock:
            if not self._waiting:
                return None
            is_large = self._waiting[0].size > LARGE_BYTES
            if is_large and self._large >= self._most_large:
                # A thread that runs a large one looks again when it has done.
                return None
            self._large += is_large
            return heapq.heappop(self._waiting)

    def _forget(self, work: ref[_Waiting], future: Future[Any]) -> None:
        """Keep nothing of a call that was cancelled before it started."""
        if future.cancelled() and (waiting := work()) is not None:
            with self._lock:
                if waiting in self._waiting:
                    self._waiting.remove(waiting)
                    heapq.heapify(self._waiting)
