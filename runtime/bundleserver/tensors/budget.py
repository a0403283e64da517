"""What one request may still cost: the values of its answer, its time, its calls of other models.

Work in the thread pool runs with the budget of its request. Whoever is between two pieces of it, an
instance, a step or a member, asks whether to go on. Without a budget (a load, a command, a
call that is short anyway) nothing is limited.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

from bundleserver.errors import AnswerTooLarge, RequestCancelled, RequestTimedOut
from bundleserver.tensors import Array


class Budget:
    """The budget of one request, spent by one thread and cancelled from any.

    Attributes:
        began: when the request came, as ``time.monotonic`` tells it.
        deadline: when it is over, told alike; None for never.
        calls: how many calls of other models its present instance has made.
    """

    __slots__ = ("_is_cancelled", "_most_values", "_values", "began", "calls", "deadline")

    def __init__(
        self, most_values: int = 0, deadline: float | None = None, began: float | None = None
    ) -> None:
        """Begin with nothing spent, now or when the request came; 0 values are no limit."""
        self.deadline = deadline
        self.began = time.monotonic() if began is None else began
        self._most_values = most_values
        self._values = 0
        self._is_cancelled = False
        self.calls = 0

    def left_seconds(self) -> float | None:
        """Return how long it may still take; None for any time."""
        return None if self.deadline is None else max(0.0, self.deadline - time.monotonic())

    def check(self) -> None:
        """Ask whether to go on.

        Raises:
            RequestCancelled: nobody waits for the answer.
            RequestTimedOut: it is too late.
        """
        if self._is_cancelled:
            raise RequestCancelled
        if self.deadline is not None and time.monotonic() >= self.deadline:
            raise self.timed_out()

    @property
    def spent_values(self) -> int:
        """How many values there are so far."""
        return self._values

    def begin_instance(self) -> None:
        """Go on with another instance of the request, whose calls count anew.

        Raises:
            RequestCancelled, RequestTimedOut: as ``check`` does.
        """
        self.check()
        self.calls = 0

    def spend(self, outputs: Mapping[str, Array]) -> None:
        """Count the values of one call's outputs.

        Raises:
            AnswerTooLarge: there are more than an answer may have.
        """
        self.spend_values(sum(values.size for values in outputs.values()))

    def spend_values(self, count: int) -> None:
        """Count so many values.

        Raises:
            AnswerTooLarge: there are more than an answer may have.
        """
        self._values += count
        if 0 < self._most_values < self._values:
            raise AnswerTooLarge(self._values, self._most_values, least=True)

    def cancel(self) -> None:
        """Let the next check stop the work."""
        self._is_cancelled = True

    def timed_out(self) -> RequestTimedOut:
        """Make the error of a request that is over."""
        timeout = (self.deadline or self.began) - self.began
        return RequestTimedOut(_brief(time.monotonic() - self.began), _brief(max(0.0, timeout)))


def _brief(seconds: float) -> float:
    rounded = round(seconds, 2)
    return int(rounded) if rounded.is_integer() else rounded


_budget: ContextVar[Budget | None] = ContextVar("budget", default=None)

current_budget = _budget.get
"""Returns the budget of the request that this thread works for; None if there is none."""


@contextmanager
def spending(budget: Budget) -> Iterator[None]:
    """Let this thread work for a request."""
    token = _budget.set(budget)
    try:
        yield
    finally:
        _budget.reset(token)
