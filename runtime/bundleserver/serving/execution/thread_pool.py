"""The threads that predict, and the bound on the requests that wait for one."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from bundleserver.errors import QueueFull
from bundleserver.serving.execution.cpus import cpu_limit, limit_library_threads

P = ParamSpec("P")
T = TypeVar("T")

MAX_QUEUE = 128
"""How many requests may wait by default: a few seconds of work for a model that takes 20 ms."""

SWITCH_SECONDS = 0.0005
"""How long a thread keeps the interpreter while the event loop waits for it; Python's own 5 ms
would hold up every answer several times over."""


class WorkerPool(ThreadPoolExecutor):
    """As many threads as CPUs, in front of them a queue that says no when it is full.

    ``submit`` is called from the event loop; a call that is cancelled before it starts never runs.
    """

    def __init__(
        self, threads: int | None = None, max_queue: int = MAX_QUEUE, processes: int = 1
    ) -> None:
        """Start no thread yet; ``processes`` share the CPUs, this one among them."""
        cpus = max(1, cpu_limit() // processes)
        self.threads = threads or cpus
        self.library_threads = max(1, cpus // self.threads)
        self.max_queue = max_queue
        self._pending = 0
        self._changed = threading.Condition()
        super().__init__(
            self.threads,
            thread_name_prefix="predict",
            initializer=_prepare_thread,
            initargs=(self.library_threads,),
        )

    def submit(self, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Queue a call.

        Raises:
            QueueFull: as many calls wait as may.
        """
        self._take_place()
        try:
            future = super().submit(call, *args, **kwargs)
        except RuntimeError:
            self._leave()
            raise
        future.add_done_callback(self._leave)
        return future

    def promise(self) -> Future[T]:
        """Take a place for a call that another one answers; it is given back with the outcome.

        Raises:
            QueueFull: as many calls wait as may.
        """
        self._take_place()
        future: Future[T] = Future()
        future.add_done_callback(self._leave)
        return future

    def run_promised(self, call: Callable[[], None]) -> None:
        """Run a call that answers what was promised, and takes no place itself."""
        super().submit(call)

    def wait_spare(self, timeout_seconds: float) -> bool:
        """Wait until a thread is free and no call waits for one; False when the time is over."""
        with self._changed:
            return self._changed.wait_for(lambda: self._pending < self.threads, timeout_seconds)

    def _take_place(self) -> None:
        with self._changed:
            if self._pending >= self.threads + self.max_queue:
                raise QueueFull("this server", self.max_queue)
            self._pending += 1

    def _leave(self, _: object = None) -> None:
        with self._changed:
            self._pending -= 1
            self._changed.notify_all()


def switch_often() -> None:
    """Have every thread of this process give the interpreter to those who wait for it soon."""
    sys.setswitchinterval(min(SWITCH_SECONDS, sys.getswitchinterval()))


def _prepare_thread(library_threads: int) -> None:
    limit_library_threads(library_threads)
    switch_often()
