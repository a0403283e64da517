"""Long work on a file ends when nobody waits for it any more."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_CHECK: ContextVar[Callable[[], None] | None] = ContextVar("check", default=None)


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
