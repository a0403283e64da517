"""The thread pool for predictions, with a bounded queue for each model."""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TypeVar
from weakref import ref

from bundleserver.errors import NotReady, QueueFull
from bundleserver.serving.cpus import cpu_limit, limit_library_threads
from bundleserver.serving.execution.promise import Promise
from bundleserver.serving.execution.turns import Turns

T = TypeVar("T")

MAX_QUEUE = 128
"""Default size of the queue: a few seconds of work for a model that takes 20 ms."""

SWITCH_SECONDS = 0.0005
"""How long a thread keeps the interpreter lock while the event loop waits for it; Python's default
of 5 ms would delay every response several times."""


class ThreadPool:
    """As many threads as CPUs for each model, and one more, which no model takes from the others.

    Models take turns, so that each gets its share of the threads' time, however many ask. Each has
    a queue that refuses calls when it is full. Called from the event loop and its threads. A call
    cancelled before its start never runs.
    """

    def __init__(
        self, threads: int | None = None, max_queue: int = MAX_QUEUE, processes: int = 1
    ) -> None:
        """Start no thread yet; so many ``processes`` share the CPUs. A queue of 0 has no limit."""
        cpus = max(1, cpu_limit() // processes)
        self.threads = threads or cpus
        self.library_threads = max(1, cpus // self.threads)
        self.max_queue = max_queue
        self._pending = 0
        self._pending_of: Counter[str] = Counter()
        self._turns = Turns(self.threads)
        self._changed = threading.Condition()
        self._is_stopped = False
        self._pool = ThreadPoolExecutor(
            self.threads + 1,
            thread_name_prefix="predict",
            initializer=_prepare_thread,
            initargs=(self.library_threads,),
        )

    def submit(self, call: Callable[[], T], model: str = "") -> Future[T]:
        """Queue a call of a model.

        Raises:
            QueueFull: the model's queue is full.
            NotReady: the server is stopping, or no thread can be started.
        """
        future: Future[T]
        promise, future = self.promise(model)
        work = partial(promise.fulfil, call)
        try:
            self.run(work, model)
            # Weakly: what holds itself stays until garbage is collected.
            future.add_done_callback(partial(self._forget, model, ref(work)))
        except NotReady:
            # If a thread still runs it, it is cancelled.
            future.cancel()
            raise
        return future

    def promise(self, model: str = "") -> tuple[Promise[T], Future[T]]:
        """Reserve a place in a model's queue, which is released when the future is done.

        Returns:
            A promise, and its future.

        Raises:
            QueueFull: the queue is full.
        """
        with self._changed:
            if 0 < self.max_queue <= self._pending_of[model] - self.threads:
                raise QueueFull(f"model '{model}'" if model else "this server", self.max_queue)
            self._pending += 1
            self._pending_of[model] += 1
        future: Future[T] = Future()
        future.add_done_callback(partial(self._release, model))
        return Promise(future), future

    def run(self, call: Callable[[], None], model: str = "") -> None:
        """Run a call that sets reserved futures, without a place of its own.

        Raises:
            NotReady: the server is stopping, or no thread can be started.
        """
        if self._is_stopped:
            raise NotReady("this server", "no thread is available: it is stopping", 1)
        if not self._turns.add(model, call):
            return
        try:
            self._pool.submit(self._turns.work)
        except RuntimeError as error:
            self._turns.refuse()
            # A thread that is there may have begun it, or will; then the caller's future says so.
            self._turns.remove(model, call)
            raise NotReady("this server", f"no thread is available: {error}", 1) from error

    def wait_spare(self, timeout_seconds: float) -> bool:
        """Wait until a thread is free and no call waits for one; False at the timeout."""
        with self._changed:
            return self._changed.wait_for(lambda: self._pending < self.threads, timeout_seconds)

    def shutdown(self) -> None:
        """Refuse new calls, and wait for those that run or wait."""
        self._is_stopped = True
        self._pool.shutdown(wait=True)

    def _forget(self, model: str, waiting: ref[Callable[[], None]], future: Future[T]) -> None:
        """Keep nothing of a call that was cancelled, however long the threads are busy."""
        if future.cancelled() and (work := waiting()) is not None:
            self._turns.remove(model, work)

    def _release(self, model: str, _: object = None) -> None:
        with self._changed:
            self._pending -= 1
            self._pending_of[model] -= 1
            if not self._pending_of[model]:
                del self._pending_of[model]
            self._changed.notify_all()


def switch_often() -> None:
    """Shorten the interpreter lock's switch interval for every thread of this process."""
    sys.setswitchinterval(min(SWITCH_SECONDS, sys.getswitchinterval()))


def _prepare_thread(library_threads: int) -> None:
    limit_library_threads(library_threads)
    switch_often()
