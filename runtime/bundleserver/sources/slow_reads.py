"""Reads of a volume that may hang: whoever asks waits for a moment, and for no one else's trouble.

A directory on a network file system whose server is gone keeps whoever reads it for minutes, and
nothing ends that read. It therefore happens in a thread of its own, which is left to its fate.
"""

from __future__ import annotations

import concurrent.futures
import errno
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import TypeVar, cast

T = TypeVar("T")

TIMEOUT_SECONDS = 1.0
"""How long a read may take, if none was late in this poll; each late one halves it."""

_LEAST_SECONDS = 0.05

_Task = tuple["concurrent.futures.Future[object]", Callable[[], object]]


class SlowReads:
    """Reads by what is read. For one thread.

    The result of a late read is that of the first call for it after its end; until then it is not
    begun again, so that a hanging directory costs one thread and not one for each poll.
    """

    def __init__(self, timeout_seconds: float | None = TIMEOUT_SECONDS) -> None:
        """Set the timeout; None waits for each read as long as it takes."""
        self._full_timeout_seconds = self._timeout_seconds = timeout_seconds
        self._late: dict[tuple[str, Path], concurrent.futures.Future[object]] = {}
        self._tasks: SimpleQueue[_Task | None] | None = None

    @contextmanager
    def poll(self) -> Iterator[None]:
        """Read with the full timeout in the block; its end ends the thread that reads."""
        self._timeout_seconds = self._full_timeout_seconds
        try:
            yield
        finally:
            self._leave_thread()

    def of(self, what: str, path: Path, read: Callable[[], T]) -> T:
        """Return what a read returns, or raise what it raises.

        Args:
            what: what is read, which together with the path identifies the read.
            path: where.
            read: reads it, in another thread.

        Raises:
            TimeoutError: it takes too long.
            OSError: no thread can be started to read it.
        """
        late = self._late.get((what, path))
        if late is not None and not late.done():
            raise _hangs(path)
        future = self._late.pop((what, path), None) or self._begin(path, read)
        try:
            return cast(T, future.result(self._timeout_seconds))
        except concurrent.futures.TimeoutError:
            if future.done():  # the read itself raised it
                raise
        self._late[what, path] = future
        self._leave_thread()
        self._timeout_seconds = max(_LEAST_SECONDS, (self._timeout_seconds or 0.0) / 2)
        raise _hangs(path)

    def forget(self, is_gone: Callable[[Path], bool]) -> None:
        """Forget the late results that nobody will ask for."""
        for key, future in list(self._late.items()):
            if future.done() and is_gone(key[1]):
                del self._late[key]

    def _leave_thread(self) -> None:
        """Leave the thread to the read that hangs, if there is one; it ends after it."""
        if self._tasks is not None:
            self._tasks.put(None)
            self._tasks = None

    def _begin(self, path: Path, read: Callable[[], object]) -> concurrent.futures.Future[object]:
        if self._tasks is None:
            tasks: SimpleQueue[_Task | None] = SimpleQueue()
            thread = threading.Thread(target=_run, args=(tasks,), name="reads", daemon=True)
            try:
                thread.start()
            except (RuntimeError, MemoryError) as error:
                raise OSError(errno.EAGAIN, f"no thread could be started: {error}", path) from error
            self._tasks = tasks
        future: concurrent.futures.Future[object] = concurrent.futures.Future()
        self._tasks.put((future, read))
        return future


def _run(tasks: SimpleQueue[_Task | None]) -> None:
    while (task := tasks.get()) is not None:
        future, read = task
        try:
            result = read()
        except BaseException as error:  # noqa: BLE001  # raised where the result is asked for
            future.set_exception(error)
        else:
            future.set_result(result)
        # Else the last result would stay in memory until the next poll.
        del task, future, read


def _hangs(path: Path) -> TimeoutError:
    text = "reading it takes too long; the volume may hang. Versions that are loaded go on"
    return TimeoutError(errno.ETIMEDOUT, text, str(path))
