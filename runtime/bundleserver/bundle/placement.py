"""Where a version's calls run: inline on the event loop, in a batch, or in the thread pool.

Running a call in a thread costs more than a cheap model does. The cost of calls is measured once,
at load; requests are placed by their rows only, not by the cost of others.
"""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod

import numpy as np

from bundleserver.tensors import NUMPY_DTYPES, NamedTensor
from bundleserver.tensors.call_traits import UNKNOWN, CallTraits
from bundleserver.tensors.signature import Signature

LOG = logging.getLogger(__name__)

INLINE_SECONDS = 0.0005
"""Maximum cost of an inline call: a few times that of running it in a thread."""

OVERRUN_SECONDS = 0.005
"""An inline call that exceeds this moves its version to the thread pool until it is reloaded."""

MANY_ROWS = 256
MOST_INLINE_ROWS = 16 * MANY_ROWS
"""Maximum extrapolation of the measured cost."""

MOST_VALUES = MANY_ROWS << 12
"""The most values of a measured call; wider rows are measured with fewer of them."""

_CALLS = 9
_LEAST_ROWS = 2
_BUDGET_SECONDS = 0.1
"""Maximum time for a measurement."""

_BATCHING_GAIN = 4.0
"""Requests are batched if a call's fixed cost is so many times that of their rows."""


@dataclass(frozen=True)
class CallCost:
    """The median processor time of a warm call in seconds: for 1 row, and for so many ``rows``."""

    one_row: float
    many_rows: float
    rows: int = MANY_ROWS

    @property
    def per_row(self) -> float:
        """The cost of each further row."""
        return max(0.0, (self.many_rows - self.one_row) / (self.rows - 1))

    def rows_within(self, seconds: float) -> int:
        """Return the maximum rows of a call within a cost."""
        left = seconds - self.one_row
        if left < 0:
            return 0
        return 1 + int(min(left / self.per_row if self.per_row else np.inf, MOST_INLINE_ROWS - 1))


class Placement:
    """Where the calls of one version run. Called from the event loop and the thread pool.

    Attributes:
        inline_rows: maximum rows of an inline call; 0 for none.
        batchable: whether several requests may share one call.
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
        """Ask whether a batch of requests of so many rows is faster than separate calls."""
        cost = self._cost
        if cost is None:
            return True
        return cost.one_row - cost.per_row >= _BATCHING_GAIN * cost.per_row * rows

    def leave_the_loop(self) -> None:
        """Run no further call inline, after one took too long."""
        self.inline_rows = 0


Predict = Callable[[Mapping[str, NamedTensor], Mapping[str, object]], object]


def measure(predict: Predict, signature: Signature, traits: CallTraits) -> Placement:
    """Measure a few calls with synthetic numbers and decide where calls run.

    Only versions that may run inline or in a batch are measured, and only those whose inputs are
    tensors of numbers ``[n, …]`` of known widths that are not too large.
    """
    if not (traits.predictable or traits.batchable):
        return Placement(traits)
    rows = min(MANY_ROWS, MOST_VALUES // max(1, _row_values(signature)))
    if rows < _LEAST_ROWS:
        return Placement(traits)
    one, many = (_synthetic_inputs(signature, number) for number in (1, rows))
    if one is None or many is None:
        return Placement(traits)
    try:
        cost = CallCost(_median_seconds(predict, one), _median_seconds(predict, many), rows)
    except Exception as error:  # noqa: BLE001  # a framework may refuse synthetic numbers
        LOG.debug("the cost of calls was not measured: %r", error)
        return Placement(traits)
    return Placement(traits, cost)


def _row_values(signature: Signature) -> int:
    """Return how many values a row of all inputs has, as far as they are known."""
    return sum(prod(map(abs, (spec.shape or ())[1:])) for spec in signature.inputs)


def _synthetic_inputs(signature: Signature, rows: int) -> dict[str, NamedTensor] | None:
    """Make finite numbers for every input; None if not all widths are known."""
    generator = np.random.default_rng(0)
    made: dict[str, NamedTensor] = {}
    for spec in signature.inputs:
        dtype = NUMPY_DTYPES[spec.datatype or "FP64"]
        if spec.shape is None or spec.shape[:1] != (-1,) or -1 in spec.shape[1:]:
            return None
        if dtype.kind not in "iuf":
            return None
        # Integers, which columns of integers accept too.
        values = np.rint(3 * generator.normal(size=(rows, *spec.shape[1:])))
        values = np.abs(values) if dtype.kind == "u" else values
        made[spec.name] = NamedTensor(spec.name, values.astype(dtype), spec.columns)
    return made or None


def _median_seconds(predict: Predict, inputs: Mapping[str, NamedTensor]) -> float:
    # Processor time, which does not grow on a busy machine.
    predict(inputs, {})
    seconds: list[float] = []
    while len(seconds) < _CALLS and sum(seconds) < _BUDGET_SECONDS:
        started = time.thread_time()
        predict(inputs, {})
        seconds.append(time.thread_time() - started)
    return statistics.median(seconds)
