"""The limits of one request's work: how many values its answer has, and how long it may take."""

from __future__ import annotations

import math
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bundleserver.errors import AnswerTooLarge, InvalidInput
from bundleserver.serving.requests import PredictRequest
from bundleserver.tensors import Array
from bundleserver.tensors.budget import Budget

if TYPE_CHECKING:
    from bundleserver.bundle import Bundle

MAX_ANSWER_VALUES = 1_000_000
"""Default maximum of an answer's values."""

REQUEST_TIMEOUT_SECONDS = 60.0
"""Default time that a request may take."""

TIMEOUT_HEADER = "X-Request-Timeout-Seconds"
"""The header that shortens it."""

_MOST_COUNTED = 100_000
"""Instances that are counted even if the answer is known to be too large, to say how large."""

_LONGEST_HORIZON = 10_000_000

_SECONDS = re.compile(r"\d{1,9}(\.\d{1,9})?")


@dataclass(frozen=True)
class Limits:
    """The limits of one request; 0 turns each off."""

    max_answer_values: int = MAX_ANSWER_VALUES
    request_timeout_seconds: float = REQUEST_TIMEOUT_SECONDS

    @property
    def noted_values(self) -> int:
        """From how many values on an answer is noted: a hundredth of the limit."""
        return max(1, (self.max_answer_values or MAX_ANSWER_VALUES) // 100)

    def budget(self, deadline: float | None = None, began: float | None = None) -> Budget:
        """Make the budget of a request that came now or then; its own deadline only shortens it."""
        began = time.monotonic() if began is None else began
        if self.request_timeout_seconds:
            own = began + self.request_timeout_seconds
            deadline = own if deadline is None else min(own, deadline)
        return Budget(self.max_answer_values, deadline, began)

    def values_of(self, bundle: Bundle, request: PredictRequest, rows: int) -> int:
        """Count the values that an answer will have, as far as the request tells."""
        if not bundle.signature.rowwise:
            rows = self.steps_of(request, bundle.values_per_row)
        return rows * bundle.values_per_row

    def steps_of(self, request: PredictRequest, values_per_step: int = 1) -> int:
        """Count the steps of all forecasts of a request; an instance has at least one.

        One that is no object ends the request, with an error, so none is counted after it.
        """
        if request.rows is None:
            given = {tensor.name: tensor.values for tensor in request.tensors or ()}
            return _steps_of_tensors(given.get("horizon"), given.get("ds"))
        most, steps = (self.max_answer_values or MAX_ANSWER_VALUES) // max(1, values_per_step), 0
        for index, row in enumerate(request.rows):
            if not isinstance(row, dict):
                break
            steps += _steps(row)
            if steps > most and index >= _MOST_COUNTED:
                break
        return steps

    def check(self, values: int) -> None:
        """Refuse an answer of so many values.

        Raises:
            AnswerTooLarge: there are too many.
        """
        if 0 < self.max_answer_values < values:
            raise AnswerTooLarge(values, self.max_answer_values)


def deadline_of(seconds: str | None) -> float | None:
    """Return the deadline of a request that begins now, by its ``TIMEOUT_HEADER``.

    Raises:
        InvalidInput: it is not a number of seconds above 0.
    """
    if seconds is None:
        return None
    text = seconds.strip()
    if not _SECONDS.fullmatch(text) or not float(text):
        raise InvalidInput(
            f"header '{TIMEOUT_HEADER}' is '{text[:40]}'; expected a number of seconds above 0, "
            "such as 2.5"
        )
    return time.monotonic() + float(text)


def _steps(row: dict[str, object]) -> int:
    """Count the steps of one forecast; what is not valid is refused later."""
    horizon = row.get("horizon")
    while isinstance(horizon, list) and len(horizon) == 1:
        horizon = horizon[0]
    dates = row.get("ds")
    return _counted(horizon, len(dates) if isinstance(dates, list) else 1)


def _steps_of_tensors(horizon: Array | None, dates: Array | None) -> int:
    """Count the same of tensors; of long ones nothing is converted."""
    step = horizon.item() if horizon is not None and horizon.size == 1 else None
    return _counted(step, 1 if dates is None else dates.size)


def _counted(horizon: object, dates: int) -> int:
    if isinstance(horizon, (int, float)) and math.isfinite(horizon):
        # No forecaster allows more; it says so itself.
        return max(1, int(horizon)) if horizon <= _LONGEST_HORIZON else 1
    return max(1, dates)
