"""Turns: the calls of several models in one thread pool, so that no model takes it for itself."""

from __future__ import annotations

import logging
import threading
from collections import Counter, deque
from collections.abc import Callable

LOG = logging.getLogger(__name__)

Call = Callable[[], None]


class Turns:
    """The waiting calls of each model; models take turns. Called from any thread.

    Every call that is added comes with a call of ``work`` in some thread. A model whose calls take
    all the threads that it may have has its next one run by the thread that is free of them first.
    """

    def __init__(self, most_of_a_model: int) -> None:
        """Set how many calls of one model may run at a time."""
        self._most = most_of_a_model
        self._lock = threading.Lock()
        self._waiting: dict[str, deque[Call]] = {}
        self._running: Counter[str] = Counter()

    def add(self, model: str, call: Call) -> None:
        """Let a call wait for its model's turn."""
        with self._lock:
            self._waiting.setdefault(model, deque()).append(call)

    def remove(self, model: str, call: Call) -> None:
        """Let a call wait no more, unless it has begun."""
        with self._lock:
            calls = self._waiting.get(model, deque())
            if call in calls:
                calls.remove(call)
            if not calls:
                self._waiting.pop(model, None)

    def work(self) -> None:
        """Run calls until none waits whose model may have another thread."""
        ended: str | None = None
        while (taken := self._next(ended)) is not None:
            ended, call = taken
            try:
                call()
            except BaseException:  # its futures have what was raised; the next calls go on
                LOG.exception("unexpected error in a call of '%s'", ended)

    def _next(self, ended: str | None) -> tuple[str, Call] | None:
        with self._lock:
            if ended is not None:
                self._running[ended] -= 1
                if not self._running[ended]:
                    del self._running[ended]
            for model, calls in self._waiting.items():
                if self._running[model] < self._most:
                    # Its next turn comes after those of the others.
                    del self._waiting[model]
                    call = calls.popleft()
                    if calls:
                        self._waiting[model] = calls
                    self._running[model] += 1
                    return model, call
            return None
