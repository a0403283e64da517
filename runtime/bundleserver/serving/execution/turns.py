"""Turns: the calls of several models in one thread pool, so that none is held up by the others.

The next free thread goes to the waiting model with the fewest running calls, then to the one that
has had the least time of the threads. A model that was idle counts as if it had had as much as the
one that was next meanwhile, so that nobody saves time up. However many models flood the pool, a
model that asks for little waits for one call to end.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable

LOG = logging.getLogger(__name__)

_GRAIN_SECONDS = 0.1
"""Of models whose times differ by less, the one with the fewest waiting calls is next."""

Call = Callable[[], None]


class Turns:
    """The waiting calls of each model. Called from any thread.

    ``work`` runs in as many threads as ``add`` and ``remove`` leave waiting for, at most one more
    than a model may have. A model whose calls take all the threads that it may have has its next
    one run by the thread that is free of them first.
    """

    def __init__(
        self, most_of_a_model: int, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        """Set how many calls of one model may run at a time."""
        self._clock = clock
        self._most = most_of_a_model
        self._lock = threading.Lock()
        self._waiting: dict[str, deque[Call]] = {}
        self._running: Counter[str] = Counter()
        self._workers = 0
        # Seconds of the threads that each model has had, from a common start.
        self._had: dict[str, float] = {}
        self._least_had = 0.0

    def add(self, model: str, call: Call) -> bool:
        """Let a call wait for its model's turn; True if another thread is to ``work``."""
        with self._lock:
            self._waiting.setdefault(model, deque()).append(call)
            if self._had.get(model, -1.0) < self._least_had and not self._running[model]:
                self._had[model] = self._least_had
            # A thread would look in vain, and the one that ends a call of the model looks anyway.
            if self._workers > self._most or self._running[model] >= self._most:
                return False
            self._workers += 1
            return True

    def remove(self, model: str, call: Call) -> bool:
        """Let a call wait no more; False if it has begun."""
        with self._lock:
            calls = self._waiting.get(model)
            if calls is None or call not in calls:
                return False
            calls.remove(call)
            if not calls:
                del self._waiting[model]
            return True

    def refuse(self) -> None:
        """Say that no thread could be had for ``work``."""
        with self._lock:
            self._workers = max(0, self._workers - 1)

    def work(self) -> None:
        """Run calls until none waits whose model may have another thread."""
        ended: tuple[str, float] | None = None
        while (taken := self._next(ended)) is not None:
            model, call = taken
            began = self._clock()
            try:
                call()
            except BaseException:  # its futures have what was raised; the next calls go on
                LOG.exception("unexpected error in a call of '%s'", model)
            ended = model, self._clock() - began

    def _next(self, ended: tuple[str, float] | None) -> tuple[str, Call] | None:
        with self._lock:
            if ended is not None:
                self._end(*ended)
            model = self._first()
            if model is None:
                # A thread that could not be started may have left its work to another.
                self._workers = max(0, self._workers - 1)
                return None
            self._least_had = max(self._least_had, self._had[model])
            calls = self._waiting[model]
            call = calls.popleft()
            # Of equals the one that waits longest is next.
            del self._waiting[model]
            if calls:
                self._waiting[model] = calls
            self._running[model] += 1
            return model, call

    def _end(self, model: str, seconds: float) -> None:
        self._had[model] += seconds
        self._running[model] -= 1
        if not self._running[model]:
            del self._running[model]
        if not self._running and not self._waiting:
            self._had.clear()
            self._least_had = 0.0

    def _first(self) -> str | None:
        """Return the model whose turn it is; None if none may have a thread."""
        first, least = None, None
        for model, calls in self._waiting.items():
            running = self._running[model]
            if running < self._most:
                key = running, int(self._had[model] / _GRAIN_SECONDS), len(calls)
                if least is None or key < least:
                    first, least = model, key
        return first
