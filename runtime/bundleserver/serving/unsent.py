"""The answers that clients have not taken, within one limit of their bytes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from bundleserver.errors import TooManyBytes

_FAIR_SECONDS = 1.0
"""An answer is not slow before that, if others have waited longer."""


class _Answer(NamedTuple):
    since: float
    size: int
    unsent: Callable[[], int]
    close: Callable[[], None]

    def is_young(self, now: float) -> bool:
        return now - self.since < _FAIR_SECONDS

    def rate(self, now: float) -> float:
        return (self.size - self.unsent()) / max(now - self.since, 0.001)


class UnsentAnswers:
    """Counts large answers from when they are written until they are taken. On the event loop.

    When they exceed the limit together, those are closed whose clients take them slowest: no client
    can keep others from being answered. One answer alone may have any size.

    Attributes:
        held: bytes of all of them.
    """

    def __init__(self, limit: int) -> None:
        """Allow so many bytes; 0: any number."""
        self._limit = limit
        self._answers: dict[object, _Answer] = {}
        self.held = 0

    def add(
        self, owner: object, size: int, unsent: Callable[[], int], close: Callable[[], None]
    ) -> None:
        """Count what an owner has not sent; it is closed if it is slow and there is too much."""
        self.remove(owner)
        self._answers[owner] = _Answer(time.monotonic(), size, unsent, close)
        self.held += size
        while 0 < self._limit < self.held and len(self._answers) > 1:
            now = time.monotonic()
            slowest = min(
                (other for other in self._answers if other is not owner),
                key=lambda other: self._order(other, now),
            )
            close_slowest = self._answers[slowest].close
            self.remove(slowest)
            close_slowest()

    def remove(self, owner: object) -> None:
        """Count an owner's answer no more."""
        answer = self._answers.pop(owner, None)
        if answer is not None:
            self.held -= answer.size

    def _order(self, owner: object, now: float) -> tuple[bool, float]:
        answer = self._answers[owner]
        return answer.is_young(now), answer.rate(now)


class RefusedAnswers:
    """The same for answers that cannot be closed: more are refused instead."""

    def __init__(self, limit: int) -> None:
        """Allow so many bytes; 0: any number."""
        self._limit = limit
        self.held = 0

    def take(self, size: int) -> None:
        """Count an answer.

        Raises:
            TooManyBytes: all would exceed the limit, and it is not the only one.
        """
        if self.held and 0 < self._limit < self.held + size:
            raise TooManyBytes(size, self.held, self._limit, what="answer")
        self.held += size

    def give_back(self, size: int) -> None:
        """Count it no more."""
        self.held -= size
