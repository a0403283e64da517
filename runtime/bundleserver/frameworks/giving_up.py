"""Long work on a file ends when nobody waits for it any more."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from bundleserver.tensors.budget import current_budget

LOG = logging.getLogger(__name__)

_CHECK: ContextVar[Callable[[], None] | None] = ContextVar("check", default=None)

_ASK_SECONDS = 0.5
_TELL_SECONDS = 30.0


class Abandoned(BaseException):
    """Raised in work for which nobody waits any more; no handler of errors is meant for it."""


@contextmanager
def checked_by(check: Callable[[], None]) -> Iterator[None]:
    """Let long work in the block call ``check`` now and then.

    The check raises :class:`Abandoned` to end the work.
    """
    token = _CHECK.set(check)
    try:
        yield
    finally:
        _CHECK.reset(token)


def go_on() -> None:
    """Return if the work goes on; :class:`Abandoned` ends it."""
    check = _CHECK.get()
    if check is not None:
        check()


@contextmanager
def turn(lock: threading.Lock | threading.RLock, waits_for: str) -> Iterator[None]:
    """Hold a lock in the block; the wait for it ends with the load, or the request, that waits.

    It has no other limit: what holds the lock may take long with good reason. ``waits_for`` is
    logged where it does.

    Raises:
        Abandoned: nobody waits for the load any more.
        RequestCancelled, RequestTimedOut: nobody waits for the request any more.
    """
    if not lock.acquire(blocking=False):
        _wait(lock, waits_for)
    try:
        yield
    finally:
        lock.release()


def _wait(lock: threading.Lock | threading.RLock, waits_for: str) -> None:
    to_tell = time.monotonic() + _TELL_SECONDS
    while not lock.acquire(timeout=_ASK_SECONDS):
        go_on()
        if (budget := current_budget()) is not None:
            budget.check()
        if time.monotonic() > to_tell:
            LOG.warning("still waiting: %s", waits_for)
            to_tell += 10 * _TELL_SECONDS
