"""Calls into a library that may hang: with a timeout, and a breaker after failures."""

from __future__ import annotations

import ctypes
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

from bundleserver.errors import SourceError

T = TypeVar("T")

_MOST_CALLS = 16
"""How many calls of the process may be under way, or hang: each has a thread."""

_CALLS = threading.BoundedSemaphore(_MOST_CALLS)

_DOWNLOADS = threading.BoundedSemaphore(_MOST_CALLS)
"""As above, for calls that a check may end, so that hanging downloads hold up no poll."""

_CHECK_SECONDS = 0.1
_CHECKS: ContextVar[tuple[Callable[[], object], ...]] = ContextVar("checks", default=())


@contextmanager
def ended_by(check: Callable[[], object]) -> Iterator[None]:
    """End a call of this thread in the block, and raise the error, as soon as a check raises."""
    token = _CHECKS.set((*_CHECKS.get(), check))
    try:
        yield
    finally:
        _CHECKS.reset(token)


def run_checks() -> None:
    """Raise what a check raises that ends this thread's calls."""
    for check in _CHECKS.get():
        check()


def call_within(seconds: float, what: str, function: Callable[[], T]) -> T:
    """Return a function's result, or raise its error, within a timeout.

    A function that hangs is ended at its next step in Python, as after the next byte of an answer
    that trickles. Until then it is left to its thread, which does not prevent the process from
    exiting; while too many are under way or hang, others wait for their turn.

    Raises:
        TimeoutError: it has not returned, or has had no thread to begin in.
        Exception: as raised by the function, or by a check of ``ended_by``.
    """
    calls = _DOWNLOADS if _CHECKS.get() else _CALLS
    outcome: Future[T] = Future()
    ending = threading.Lock()

    def run() -> None:
        try:
            try:
                outcome.set_result(function())
            except BaseException as error:  # noqa: BLE001  # raised again by the caller's thread
                outcome.set_exception(error)
            ending.acquire()  # from here on it is not ended any more
        except _GivenUp:
            pass  # it came after the function's own end
        finally:
            calls.release()

    deadline = time.monotonic() + seconds
    _wait(lambda pause: calls.acquire(timeout=pause), deadline, "earlier calls have not ended")
    thread = threading.Thread(target=run, name=f"registry: {what}", daemon=True)
    try:
        thread.start()
    except BaseException:
        calls.release()
        raise
    try:
        _wait(
            lambda pause: bool(wait([outcome], pause).done),
            deadline,
            f"no response within {seconds:g} s",
        )
    except BaseException:
        if ending.acquire(blocking=False):
            _end(thread)
            ending.release()
        raise
    return outcome.result()


def _wait(is_over: Callable[[float], bool], deadline: float, late: str) -> None:
    """Wait, in short pauses, for what ``is_over`` waits for."""
    while not is_over(min(_CHECK_SECONDS, max(0.0, deadline - time.monotonic()))):
        run_checks()
        if time.monotonic() >= deadline:
            raise TimeoutError(late)


class _GivenUp(BaseException):
    """Raised in a call that nobody waits for any more; libraries do not catch it."""


def _end(thread: threading.Thread) -> None:
    """Let a thread raise an exception at its next step in Python."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(thread.ident or 0), ctypes.py_object(_GivenUp)
    )


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
            # Else its traceback would grow, and keep what the failed call had read.
            raise error.with_traceback(None)

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
