"""Calls into a library that may hang: with a timeout, and a breaker after failures."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from bundleserver.errors import SourceError

T = TypeVar("T")


@dataclass
class _Outcome(Generic[T]):
    value: T | None = None
    error: BaseException | None = None


def call_within(seconds: float, what: str, function: Callable[[], T]) -> T:
    """Return what a function returns, or raise what it raises; never wait longer than that.

    A function that does not come back is left to its thread, which does not keep the process.

    Raises:
        TimeoutError: it has not come back.
    """
    outcome: _Outcome[T] = _Outcome()

    def run() -> None:
        try:
            outcome.value = function()
        except BaseException as error:  # noqa: BLE001  # raised again by the caller's thread
            outcome.error = error

    thread = threading.Thread(target=run, name=f"registry: {what}", daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise TimeoutError(f"no answer within {seconds:g} s")
    if outcome.error is not None:
        raise outcome.error
    return outcome.value  # type: ignore[return-value]  # there is no error, so there is a value


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
