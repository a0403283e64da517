"""Where a version's calls run: inline on the event loop, in a batch with others, or in a thread.

Handing a call to a thread and back costs more than a cheap model does. What a call costs is
measured once, at load; requests are placed by their rows alone, not by what others have cost.
"""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from bundleserver.tensors import NUMPY_DTYPES, NamedTensor
from bundleserver.tensors.call_traits import UNKNOWN, CallTraits
from bundleserver.tensors.signature import Signature

LOG = logging.getLogger(__name__)

INLINE_SECONDS = 0.0005
"""What a call that runs inline may cost: a few times what handing it to a thread does."""

OVERRUN_SECONDS = 0.005
"""A single inline call that costs more sends its version to the threads until it is loaded anew."""

MANY_ROWS = 256
MOST_INLINE_ROWS = 16 * MANY_ROWS
"""What was measured is not extrapolated further than this."""

_CALLS = 9
_BUDGET_SECONDS = 0.1
"""After so long no further call is timed."""

_BATCHING_GAIN = 4.0
"""Requests wait for each other where a call's fixed cost is so many times that of their rows."""


@dataclass(frozen=True)
class CallCost:
    """Seconds of processor time of a warm call, the median of a few: for 1 row, for 256 rows."""

    one_row: float
    many_rows: float

    @property
    def per_row(self) -> float:
        """What one row more costs."""
        return max(0.0, (self.many_rows - self.one_row) / (MANY_ROWS - 1))

    def rows_within(self, seconds: float) -> int:
        """Return how many rows a call may have so as to cost no more than that."""
        left = seconds - self.one_row
        if left < 0:
            return 0
        return 1 + int(min(left / self.per_row if self.per_row else np.inf, MOST_INLINE_ROWS - 1))


class Placement:
    """Where the calls of one open version run. Called from the event loop and worker threads.

    Attributes:
        inline_rows: calls of up to so many rows run inline; 0: none.
        batchable: requests that wait may be answered by one call.
    """

    def __init__(self, traits: CallTraits = UNKNOWN, cost: CallCost | None = None) -> None:
        self.batchable = traits.batchable
        self.inline_rows = 0
        if traits.predictable and cost is not None:
            self.inline_rows = cost.rows_within(INLINE_SECONDS)
        self._cost = cost

    @property
    def runs(self) -> str:
        """Where a call of one row runs: ``inline``, ``batched`` or ``threads``."""
        if self.inline_rows:
            return "inline"
        return "batched" if self.batchable else "threads"

    def gains_from_batching(self, rows: int) -> bool:
        """Ask whether one call answers requests of so many rows sooner than calls side by side."""
        cost = self._cost
        if cost is None:
            return True
        return cost.one_row - cost.per_row >= _BATCHING_GAIN * cost.per_row * rows

    def leave_the_loop(self) -> None:
        """Run no call inline any more: one of them took too long."""
        self.inline_rows = 0


Predict = Callable[[Mapping[str, NamedTensor], Mapping[str, object]], object]


def measure(predict: Predict, signature: Signature, traits: CallTraits) -> Placement:
    """Time a few calls with made-up numbers and decide where calls run.

    Only versions that may run inline or in a batch are timed, and only those whose inputs are
    tensors of numbers ``[n, …]`` of known widths.
    """
    if not (traits.predictable or traits.batchable):
        return Placement(traits)
    one, many = (_made_up(signature, rows) for rows in (1, MANY_ROWS))
    if one is None or many is None:
        return Placement(traits)
    try:
        cost = CallCost(_median_seconds(predict, one), _median_seconds(predict, many))
    except Exception as error:  # noqa: BLE001  # a framework's own code may mind made-up numbers
        LOG.debug("calls are not timed: %r", error)
        return Placement(traits)
    return Placement(traits, cost)


def _made_up(signature: Signature, rows: int) -> dict[str, NamedTensor] | None:
    """Make finite numbers for every input; None where not all widths are known."""
    generator = np.random.default_rng(0)
    made: dict[str, NamedTensor] = {}
    for spec in signature.inputs:
        dtype = NUMPY_DTYPES[spec.datatype or "FP64"]
        if spec.shape is None or spec.shape[:1] != (-1,) or -1 in spec.shape[1:]:
            return None
        if dtype.kind not in "iuf":
            return None
        values = generator.normal(size=(rows, *spec.shape[1:]))
        values = np.abs(values) if dtype.kind == "u" else values
        made[spec.name] = NamedTensor(spec.name, values.astype(dtype), spec.columns)
    return made or None


def _median_seconds(predict: Predict, inputs: Mapping[str, NamedTensor]) -> float:
    # Processor time, so that a busy machine does not make a cheap model look dear.
    predict(inputs, {})
    seconds: list[float] = []
    while len(seconds) < _CALLS and sum(seconds) < _BUDGET_SECONDS:
        started = time.thread_time()
        predict(inputs, {})
        seconds.append(time.thread_time() - started)
    return statistics.median(seconds)
