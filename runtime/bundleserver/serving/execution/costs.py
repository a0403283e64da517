"""What calls have cost, by version and size: which are so small that a thread would cost more.

Costs are processor time where that matters, so that a busy machine does not make a cheap model look
dear. A size is the number of values, in classes that double.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakKeyDictionary

from bundleserver.serving.requests import PredictRequest

if TYPE_CHECKING:
    from bundleserver.bundle import Bundle

SMALL_SECONDS = 0.0005
"""What a call may cost that runs on the event loop: a few times what handing it over costs."""

SLOW_SECONDS = 0.002
SLOW_CALLS = 3
"""So many of the last calls that cost so much send their version back to the threads for a while.

One or two may be the machine's doing: what a neighbour takes from it counts as ours.
"""

SURPRISE_SECONDS = 0.02
"""A single call on the event loop that costs so much does so too."""

FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0
"""How long a version stays with the threads; twice as long each time."""

MEASURED_FIRST = 3
"""So many calls of a size are measured in threads before one runs on the event loop."""

MOST_OBJECTS = 64
"""More rows that are objects are never small: their sizes are not looked at."""

_REMEMBERED = 8
_SCALING = 0.6


class Size(NamedTuple):
    """How much a request brings: the form that it comes in, and the number of its values."""

    form: str
    values: int

    @property
    def bracket(self) -> tuple[str, int]:
        """What requests of about this size have in common."""
        return self.form, self.values.bit_length()


def size_of(request: PredictRequest) -> Size:
    """Measure a request without looking at its values."""
    if request.rows is None:
        values = 0
        for tensor in request.tensors or ():
            values += tensor.values.size
        return Size("tensors", values)
    rows = request.rows
    first = rows[0] if rows else None
    if isinstance(first, dict) and len(rows) <= MOST_OBJECTS:
        return Size("objects", sum(_width(row) for row in rows))
    form = "table" if isinstance(first, dict) else "rows"
    return Size(form, len(rows) * (len(first) if isinstance(first, (list, dict)) else 1))


def _width(row: object) -> int:
    if not isinstance(row, dict):
        return 1
    return sum(len(value) if isinstance(value, list) else 1 for value in row.values())


@dataclass
class _Cost:
    """What calls of one size cost.

    ``latest`` are those of the last calls, which are small where their median is; ``leanest`` is
    the size and cost of the call that was cheapest for its size.
    """

    leanest: tuple[int, float]
    latest: tuple[float, ...] = ()
    measured: int = 0
    is_small: bool = False

    @property
    def is_slow(self) -> bool:
        """Whether too many of the last calls cost more than the event loop can bear."""
        return sum(seconds > SLOW_SECONDS for seconds in self.latest) >= SLOW_CALLS

    def take_in(self, values: int, seconds: float) -> None:
        # A tuple, which may be read while it is replaced.
        self.latest = (*self.latest[1 - _REMEMBERED :], seconds)
        size, least = self.leanest
        if seconds * size < least * values:
            self.leanest = values, seconds
        self.measured += 1
        if self.is_small and seconds <= SMALL_SECONDS:
            return  # one more that is small leaves the median where it is, or below
        median = sorted(self.latest)[len(self.latest) // 2]
        self.is_small = self.measured >= MEASURED_FIRST and median <= SMALL_SECONDS


class VersionCosts:
    """The costs of one open version. Called from the event loop and from worker threads.

    Attributes:
        clock: what times a call on the event loop: the cheap clock, or the exact one.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock: Callable[[], float] = time.perf_counter
        self._clock = clock
        self._costs: dict[tuple[str, int], _Cost] = {}
        self._lock = threading.Lock()
        self._pause = FIRST_PAUSE_SECONDS
        self._paused_until = -math.inf
        self._suspects = 0

    def is_small(self, size: Size) -> bool:
        """Ask whether a call may run on the event loop: it was measured, and costs little."""
        cost = self._costs.get((size.form, size.values.bit_length()))
        return (
            cost is not None
            and cost.is_small
            and size.form != "table"
            and self._clock() >= self._paused_until
        )

    def scales(self, size: Size) -> bool:
        """Ask whether twice the values cost about twice as much, so that joining saves little.

        The answer comes from the next larger size that was measured, or the next smaller one.
        """
        form, own = size.bracket
        with self._lock:
            known = {at: c for (of, at), c in self._costs.items() if of == form and _is_known(c)}
        others = sorted((at for at in known if at != own), key=lambda at: (at < own, abs(at - own)))
        if own not in known or not others:
            return False
        low, high = (known[at].leanest for at in sorted((own, others[0])))
        return high[1] * low[0] > _SCALING * low[1] * high[0]

    def note(self, size: Size, seconds: float) -> None:
        """Take in what a call has cost."""
        with self._lock:
            cost = self._costs.get(size.bracket)
            if cost is None:
                cost = self._costs[size.bracket] = _Cost((size.values, seconds))
            cost.take_in(size.values, seconds)

    def note_at_once(self, size: Size, seconds: float, clock: Callable[[], float]) -> None:
        """Take in what a call on the event loop has cost by a clock.

        What lasted long by the clock on the wall may have been kept from the processor; the calls
        after it are measured by the thread's own clock, which itself costs as much as a small call.
        """
        cost = self._costs.get(size.bracket)
        if clock is time.perf_counter:
            if seconds > SLOW_SECONDS:
                self._suspects, self.clock = _REMEMBERED, time.thread_time
            elif cost is None:
                self.note(size, seconds)
            else:
                # Without the lock: two that do this at once lose one of many measurements.
                cost.take_in(size.values, seconds)
            return
        self._suspects = max(0, self._suspects - 1)
        if not self._suspects:
            self.clock = time.perf_counter
        self.note(size, seconds)
        if seconds > SURPRISE_SECONDS or self._costs[size.bracket].is_slow:
            now = self._clock()
            if now - self._paused_until > LONGEST_PAUSE_SECONDS:
                self._pause = FIRST_PAUSE_SECONDS
            self._paused_until = now + self._pause
            self._pause = min(2 * self._pause, LONGEST_PAUSE_SECONDS)


class Costs:
    """The costs of every version, for as long as it is open."""

    def __init__(self) -> None:
        self._versions: WeakKeyDictionary[Bundle, VersionCosts] = WeakKeyDictionary()

    def of(self, bundle: Bundle) -> VersionCosts:
        """Return what is known of a version."""
        known = self._versions.get(bundle)
        return self._versions.setdefault(bundle, VersionCosts()) if known is None else known


def _is_known(cost: _Cost) -> bool:
    return cost.measured >= MEASURED_FIRST
