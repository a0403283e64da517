"""How a series of dates goes on: by the calendar, at an equal spacing, or not at all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd
from pandas.tseries.frequencies import to_offset

from bundleserver.errors import InvalidInput
from bundleserver.frameworks.forecasting.timegrid import in_bounds

_DAY = pd.Timedelta(days=1)
_LAST_DAY = 31


class Step(Protocol):
    """What lies between two dates of a regular series; ``name`` is as pandas writes it."""

    @property
    def name(self) -> str:
        """The name for clients: ``D``, ``W-SUN``, ``M-15``."""

    def after(self, start: pd.Timestamp, count: int) -> pd.DatetimeIndex:
        """List the next dates after one of the series.

        Raises:
            InvalidInput: they are out of the library's range.
        """


@dataclass(frozen=True)
class OffsetStep:
    """The step of a frequency of pandas."""

    offset: pd.offsets.BaseOffset

    @property
    def name(self) -> str:
        """The name of the frequency."""
        return self.offset.freqstr

    def after(self, start: pd.Timestamp, count: int) -> pd.DatetimeIndex:
        """List the next dates after one of the series."""
        dates = in_bounds(lambda: pd.date_range(start=start, periods=count + 1, freq=self.offset))
        return dates[dates > start][:count]


@dataclass(frozen=True)
class MonthStep:
    """Every so many months on one day of the month, or on the last day of a shorter month."""

    months: int
    day: int

    @property
    def name(self) -> str:
        """The name as of pandas' months, followed by the day."""
        return f"{self.months if self.months > 1 else ''}M-{self.day}"

    def after(self, start: pd.Timestamp, count: int) -> pd.DatetimeIndex:
        """List the next dates after one of the series, at its time of day."""
        months = np.datetime64(start, "M") + self.months * np.arange(1, count + 1)
        firsts = in_bounds(lambda: pd.DatetimeIndex(months.astype("M8[s]")).as_unit("ns"))
        days = np.minimum(self.day, firsts.days_in_month) - 1
        time = start - start.normalize()
        return in_bounds(lambda: firsts + pd.to_timedelta(days, unit="D") + time)


def infer_step(dates: pd.DatetimeIndex) -> Step | None:
    """Infer the step of dates, of which some may be missing; None if they are not regular."""
    dates = dates.unique().sort_values()
    inferred = pd.infer_freq(dates) if len(dates) >= 3 else None
    if inferred is not None:
        return OffsetStep(to_offset(inferred))
    if len(dates) < 2:
        return None
    return _monthly(dates) or _business(dates) or _even(dates)


def mean_step(dates: pd.DatetimeIndex) -> Step:
    """Return the mean spacing of two or more dates."""
    return OffsetStep(to_offset((dates.max() - dates.min()) / max(1, len(dates.unique()) - 1)))


def steps_through(
    step: Step, start: pd.Timestamp, end: pd.Timestamp, most: int
) -> pd.DatetimeIndex:
    """List the dates after ``start`` up to the first that is not before ``end``.

    Where they are more than ``most``, so many dates at an equal spacing.
    """
    count = 1
    try:
        while count < 2 * most:
            dates = step.after(start, min(count, most))
            if dates[-1] >= end:
                return dates[: dates.searchsorted(end) + 1]
            count *= 2
    except InvalidInput:  # the first date that is not before the end is beyond the library's range
        pass
    return pd.date_range(start=start, end=end, periods=most + 1)[1:]


def _monthly(dates: pd.DatetimeIndex) -> Step | None:
    months = np.diff(np.asarray(dates.year * 12 + dates.month))
    day = _LAST_DAY if dates.is_month_end.all() else int(dates.day.max())
    kept = dates.day == np.minimum(day, dates.days_in_month)
    if not months.all() or not kept.all() or not _is_at_one_time(dates):
        return None
    step = int(np.gcd.reduce(months))
    return MonthStep(step, day) if step == _usual(months) else None


def _business(dates: pd.DatetimeIndex) -> Step | None:
    is_regular = len(dates) > 5 and _is_at_one_time(dates) and (dates.dayofweek < 5).all()
    usual = _usual(np.diff(dates.normalize().as_unit("ns").asi8))
    return OffsetStep(pd.offsets.BusinessDay()) if is_regular and usual == _DAY.value else None


def _even(dates: pd.DatetimeIndex) -> Step | None:
    spacings = np.diff(dates.as_unit("ns").asi8)
    step = _usual(spacings)
    return None if (spacings % step).any() else OffsetStep(to_offset(pd.Timedelta(step, "ns")))


def _is_at_one_time(dates: pd.DatetimeIndex) -> bool:
    return len((dates - dates.normalize()).unique()) == 1


def _usual(spacings: npt.NDArray[np.int64]) -> int:
    """Return the median, as one of the values."""
    return int(np.sort(spacings)[(len(spacings) - 1) // 2])
