"""Calls into a library that may hang: with a timeout, and a breaker after failures."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import TypeVar

from bundleserver.errors import SourceError

T = TypeVar("T")


def call_within(seconds: float, what: str, function: Callable[[], T]) -> T:
    """Return a function's result, or raise its error, within a timeout.

    A function that hangs is left to its thread, which does not prevent the process from exiting.

    Raises:
        TimeoutError: it has not returned.
    """
    outcome: Future[T] = Future()

    def run() -> None:
        try:
            outcome.set_result(function())
        except BaseException as error:  # noqa: BLE001  # raised again by the caller's thread
            outcome.set_exception(error)

    threading.Thread(target=run, name=f"registry: {what}", daemon=True).start()
    if not wait([outcome], seconds).done:
        raise TimeoutError(f"no response within {seconds:g} s")
    return outcome.result()


class Breaker:
    """Refuses calls for a while after one has failed: it is open for a growing, jittered pause.

    One thread calls and notes; others may check.
    """

    def __init__(
        self,
        first_seconds: float = 1.0,
        most_seconds: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._first = first_seconds
        self._most = most_seconds
        self._clock = clock
        self._failures = 0
        self._open_until = 0.0
        self._error: SourceError | None = None

    def check(self) -> None:
        """Return while the breaker is closed.

        Raises:
            SourceError: the last call's; the breaker is open.
        """
        error = self._error
        if error is not None and self._clock() < self._open_until:
            raise error

    def note_failure(self, error: SourceError) -> None:
        """Open the breaker for a while, each time for longer."""
        pause = min(self._most, self._first * 2 ** min(self._failures, 30))
        # Jittered, so that many replicas do not all come back at one moment.
        pause *= random.uniform(0.5, 1.0)  # noqa: S311
        self._failures += 1
        self._open_until = self._clock() + pause
        self._error = error

    def note_success(self) -> None:
        """Close the breaker."""
        self._failures, self._error = 0, None
