"""Calls into a library that may hang: with a timeout, and a breaker after failures."""

from __future__ import annotations

import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any, TypeVar

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


class _Call:
    """A call in a thread of its own, and the connections that it uses."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_given_up = False
        self._connections: dict[int, Any] = {}

    def use(self, connection: Any) -> None:
        """Note a connection, until another call uses it.

        Raises:
            _GivenUp: nobody waits for this call any more.
        """
        with self._lock:
            if self._is_given_up:
                raise _GivenUp
            connection.call = self
            # An answer that ends with its connection takes the socket from it.
            connection.last_sock = connection.sock or connection.last_sock
            self._connections[id(connection)] = connection

    def give_up(self) -> None:
        """Let it use no other connection, and end what it waits for on those that it uses."""
        with self._lock:
            self._is_given_up = True
        for connection in self._connections.values():
            sock = connection.sock or connection.last_sock
            # Of TLS inside TLS, to a proxy, the socket is inside.
            sock = getattr(sock, "socket", sock)
            if connection.call is self and isinstance(sock, socket.socket):
                with suppress(OSError):
                    # Not that of an SSLSocket, which is not made for other threads.
                    socket.socket.shutdown(sock, socket.SHUT_RDWR)


_CALL: ContextVar[_Call | None] = ContextVar("call", default=None)


class _GivenUp(BaseException):
    """Raised in a call that nobody waits for any more; libraries do not catch it."""


class EndsWithItsCall:
    """Mixed into a class of urllib3's connections: shut down when their call is given up."""

    sock: Any
    call: object = None
    last_sock: Any = None

    def connect(self) -> None:
        """Connect, unless the call is given up meanwhile."""
        super().connect()  # type: ignore[misc]  # of urllib3's class
        _use(self)

    def request(self, *args: object, **settings: object) -> None:
        """Send a request, which the call waits for from now on."""
        _use(self)
        super().request(*args, **settings)  # type: ignore[misc]

    def getresponse(self, *args: object, **settings: object) -> Any:
        """Read an answer's head."""
        _use(self)
        return super().getresponse(*args, **settings)  # type: ignore[misc]


def _use(connection: object) -> None:
    call = _CALL.get()
    if call is not None:
        call.use(connection)


def call_within(seconds: float, what: str, function: Callable[[], T]) -> T:
    """Return a function's result, or raise its error, within a timeout.

    A function that hangs is left to its thread, which does not prevent the process from exiting;
    while too many are under way or hang, others wait for their turn. If it waits for an answer over
    HTTP, or for the rest of one, its connection is shut down, which ends it. (An exception that
    another thread raises in it would end more, and could leave any lock of any library locked.)

    Raises:
        TimeoutError: it has not returned, or has had no thread to begin in.
        Exception: as raised by the function, or by a check of ``ended_by``.
    """
    calls = _DOWNLOADS if _CHECKS.get() else _CALLS
    outcome: Future[T] = Future()
    call = _Call()

    def run() -> None:
        _CALL.set(call)
        try:
            outcome.set_result(function())
        except BaseException as error:  # noqa: BLE001  # raised again by the caller's thread
            outcome.set_exception(error)
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
        call.give_up()
        raise
    return outcome.result()


def _wait(is_over: Callable[[float], bool], deadline: float, late: str) -> None:
    """Wait, in short pauses, for what ``is_over`` waits for."""
    while not is_over(min(_CHECK_SECONDS, max(0.0, deadline - time.monotonic()))):
        run_checks()
        if time.monotonic() >= deadline:
            raise TimeoutError(late)


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
