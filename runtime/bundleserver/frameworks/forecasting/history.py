"""The series that a forecaster was fitted on, for a plot of its forecasts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from bundleserver.frameworks.forecasting.contract import FloatArray

MOST_POINTS = 1000
"""The last points of a series that are shown; the others add nothing to a plot."""


@dataclass(frozen=True)
class History:
    """The last points of the series that a model was fitted on.

    Attributes:
        values: FP64 ``[n]``; NaN is a missing observation.
        dates: ISO 8601, one for each value; empty if the model knows no dates.
        total: how many points the whole series has.
    """

    values: FloatArray
    dates: tuple[str, ...]
    total: int

    @classmethod
    def last(cls, values: Any, dates: Any, points: int) -> History:
        """Take the last points of a series; ``dates`` is its index of dates, or None.

        Raises:
            TypeError, ValueError: it is not one series of numbers.
        """
        series = np.asarray(values, dtype=np.float64)
        series = series.reshape(len(series))
        points = max(0, min(points, MOST_POINTS, len(series)))
        first = len(series) - points
        shown = () if dates is None else tuple(date.isoformat() for date in dates[first:])
        return cls(series[first:].copy(), shown, len(series))

    def document(self) -> Mapping[str, object]:
        """Return it as a JSON value; a value that is not finite is null."""
        return {
            "values": [float(v) if np.isfinite(v) else None for v in self.values],
            "ds": list(self.dates) or None,
            "total": self.total,
        }


@runtime_checkable
class HasHistory(Protocol):
    """A predictor that knows the series that it was fitted on."""

    def history(self, points: int) -> History | None:
        """Return the last points of the series, as it was fitted; None if it is not kept."""
