"""What a thread promises to whoever waits for its work."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

T = TypeVar("T")


class Promise(Generic[T]):
    """A future that is set once, and not kept from then on.

    The traceback of an error has the frames of its callers with all that they name. If they named
    the future that has the error, both would stay until garbage is collected, with the request.
    """

    __slots__ = ("_future",)

    def __init__(self, future: Future[T]) -> None:
        """Promise the outcome of a future."""
        self._future: Future[T] | None = future

    @property
    def is_open(self) -> bool:
        """Ask whether it is still to be set."""
        return self._future is not None

    def begin(self) -> bool:
        """Say that the work begins; False if it was cancelled."""
        if self._future is not None and self._future.set_running_or_notify_cancel():
            return True
        self._future = None
        return False

    def fulfil(self, call: Callable[[], T]) -> None:
        """Run a call, unless it was cancelled, and set its outcome."""
        if not self.begin():
            return
        try:
            result = call()
        except BaseException as error:  # noqa: BLE001  # its caller gets it
            self.fail(error)
        else:
            self.set_result(result)

    def set_result(self, result: T) -> None:
        """Set what the work gave."""
        if (future := self._end()) is not None:
            future.set_result(result)

    def fail(self, error: BaseException) -> None:
        """Set an error; one that would end the event loop is wrapped."""
        if not isinstance(error, Exception):
            wrapped = RuntimeError(f"{type(error).__name__}: {error}")
            wrapped.__cause__ = error
            error = wrapped
        if (future := self._end()) is not None:
            future.set_exception(error)

    def _end(self) -> Future[T] | None:
        future, self._future = self._future, None
        return future
