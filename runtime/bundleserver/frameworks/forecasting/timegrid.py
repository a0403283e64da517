"""The dates that a forecaster can answer: its training dates and the ones that follow at its step.

This module imports pandas; the forecasters import it when they open a model.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd
from pandas.tseries.frequencies import to_offset

from bundleserver.errors import InvalidInput
from bundleserver.frameworks.forecasting.contract import FloatArray, shorten
from bundleserver.tensors import Array

Positions = npt.NDArray[np.intp]
_Answer = TypeVar("_Answer")

_ISO_8601 = re.compile(r"\d{4}(-?\d{2}([-\d].*)?)?", re.ASCII)
_WITH_ZONE = re.compile(r".*[T ].*(Z|[+-]\d{2}(:?\d{2})?)")
_OVERFLOWS = (pd.errors.OutOfBoundsDatetime, pd.errors.OutOfBoundsTimedelta, OverflowError)

# Steps that a series with gaps may still have, each with the median days that hint at it.
_CALENDAR_STEPS = (
    (pd.offsets.BusinessDay(), 1, 1),
    (pd.offsets.MonthBegin(), 28, 31),
    (pd.offsets.MonthEnd(), 28, 31),
    (pd.offsets.QuarterBegin(startingMonth=1), 90, 92),
    (pd.offsets.QuarterEnd(startingMonth=3), 90, 92),
    (pd.offsets.YearBegin(), 365, 366),
    (pd.offsets.YearEnd(), 365, 366),
)
_MAX_GAPS = 1_000_000


@dataclass(frozen=True, eq=False)
class TimeGrid:
    """Ascending training dates ``past`` and the ``step`` by which the series goes on after them.

    Dates in requests are ISO 8601. One with a time zone is converted to the model's zone, and to
    UTC where the model has none. One without a zone is in the model's own time; a model with a zone
    refuses it. ``period`` is the frequency of a model that counts in periods, whose dates are the
    periods' first moments.
    """

    past: pd.DatetimeIndex
    step: pd.offsets.BaseOffset
    period: Any = None

    @classmethod
    def from_index(cls, index: pd.Index[Any] | None) -> TimeGrid | None:
        """Read the index of a fitted series; None where it is no regular sequence of dates."""
        if isinstance(index, pd.PeriodIndex) and index.is_full:
            starts = index.to_timestamp()
            return cls(starts, starts.freq, index.freq) if starts.freq is not None else None
        if isinstance(index, pd.DatetimeIndex) and index.freq is not None:
            return cls(index, index.freq)
        return None

    @classmethod
    def from_dates(cls, dates: pd.DatetimeIndex) -> TimeGrid:
        """Infer the step of dates that may have gaps; the dates missing there are on the grid."""
        dates = dates.unique().sort_values()
        step = _infer_step(dates)
        return cls(dates.union(_between(dates, step)), step)

    @property
    def last(self) -> pd.Timestamp:
        """The last training date."""
        return self.past[-1]

    def starting(self, start: str | None, length: int) -> TimeGrid:
        """Give the grid of another series, from ``start`` or else where this one starts."""
        first = (
            self.past[0] if start is None else self._parse("parameter 'history_start'", [start])[0]
        )
        index = _in_bounds(lambda: pd.date_range(start=first, periods=length, freq=self.step))
        if index[0] != first:
            raise InvalidInput(
                f"parameter 'history_start' is {shorten(start)}, which is off the model's grid "
                f"(step {self.step.freqstr}); the next date on it is '{index[0].isoformat()}'"
            )
        return TimeGrid(index, self.step, self.period)

    def label(self, values: FloatArray) -> pd.Series[float]:
        """Give a series on this grid its index, of the kind that the model was fitted on."""
        index = self.past if self.period is None else self.past.to_period(self.period)
        return pd.Series(values, index=index)

    def after(self, steps: int) -> pd.DatetimeIndex:
        """List the dates that follow the training dates.

        Raises:
            InvalidInput: they go beyond what the clock of the library can count.
        """
        dates = _in_bounds(
            lambda: pd.date_range(start=self.last, periods=steps + 1, freq=self.step)
        )
        return dates[dates > self.last][:steps]

    def locate(self, texts: Sequence[str], max_horizon: int) -> tuple[pd.DatetimeIndex, Positions]:
        """Read the dates asked and count where they stand: 0 is the first training date.

        Raises:
            InvalidInput: a date is no date, came twice, is before the training dates, off the grid,
                or more than ``max_horizon`` steps after them.
        """
        asked = self._parse("input 'ds'", texts)
        self._check_range(asked, max_horizon)
        reachable = self.through(asked.max())
        positions = reachable.get_indexer(asked)
        if (positions < 0).any():
            raise InvalidInput(self._off_grid(asked[positions < 0][0], reachable))
        return asked, positions

    def through(self, end: pd.Timestamp) -> pd.DatetimeIndex:
        """List every date on the grid from the first training date to ``end``."""
        if end <= self.last:
            return self.past
        dates = pd.date_range(start=self.last, end=end, freq=self.step)
        return pd.DatetimeIndex(self.past.append(dates[dates > self.last]))

    def _parse(self, what: str, texts: Sequence[str]) -> pd.DatetimeIndex:
        for text in texts:
            if not _ISO_8601.fullmatch(text):
                raise _no_date(what, text)
            if self.past.tz is not None and not _WITH_ZONE.fullmatch(text):
                raise InvalidInput(
                    f"{what} has {shorten(text)}, which has no time zone; the model's dates "
                    f"are in '{self.past.tz}', so add one, such as 'Z'"
                )
        try:
            return pd.DatetimeIndex(_read_dates(texts).tz_convert(self.past.tz))
        except pd.errors.OutOfBoundsDatetime as error:
            raise InvalidInput(
                f"{what} has a date beyond those that the library counts, from "
                f"'{pd.Timestamp.min.date()}' to '{pd.Timestamp.max.date()}'"
            ) from error
        except ValueError as error:
            wrong = next((text for text in texts if not _is_date(text)), texts[0])
            raise _no_date(what, wrong) from error

    def _check_range(self, asked: pd.DatetimeIndex, max_horizon: int) -> None:
        if asked.has_duplicates:
            twice = asked[asked.duplicated()][0].isoformat()
            raise InvalidInput(f"input 'ds' has '{twice}' more than once; ask for each date once")
        if asked.min() < self.past[0]:
            raise InvalidInput(
                f"input 'ds' has '{asked.min().isoformat()}'; the model's dates start at "
                f"'{self.past[0].isoformat()}'"
            )
        try:
            limit = self.last + max_horizon * self.step
        except _OVERFLOWS:
            return
        if asked.max() > limit:
            raise InvalidInput(
                f"input 'ds' has '{asked.max().isoformat()}'; a forecast takes dates up to "
                f"{max_horizon} steps after the series, that is '{limit.isoformat()}'"
            )

    def _off_grid(self, date: pd.Timestamp, reachable: pd.DatetimeIndex) -> str:
        before = reachable[reachable < date][-1]
        return (
            f"input 'ds' has '{date.isoformat()}', which is off the model's grid "
            f"(step {self.step.freqstr}); the last date on it before that is '{before.isoformat()}'"
        )


def iso_dates(dates: pd.DatetimeIndex) -> Array:
    """Write dates as a BYTES tensor of ISO 8601, each with its time: ``2025-01-31T00:00:00``."""
    texts = np.empty(len(dates), dtype=object)
    texts[:] = [date.isoformat() for date in dates]
    return texts


def _no_date(what: str, text: str) -> InvalidInput:
    return InvalidInput(
        f"{what} has {shorten(text)}, which is no date in ISO 8601; "
        "write it as '2025-01-31' or '2025-01-31T06:00:00'"
    )


def _read_dates(texts: Sequence[str]) -> pd.DatetimeIndex:
    # As UTC, which leaves a date without a zone as it stands.
    return pd.to_datetime(list(texts), format="ISO8601", utc=True)


def _is_date(text: str) -> bool:
    try:
        _read_dates([text])
    except ValueError:
        return False
    return True


def _in_bounds(make: Callable[[], _Answer]) -> _Answer:
    try:
        return make()
    except _OVERFLOWS as error:
        raise InvalidInput(
            "the forecast goes beyond the last date that the library counts to; ask for fewer steps"
        ) from error


def _infer_step(dates: pd.DatetimeIndex) -> pd.offsets.BaseOffset:
    inferred = pd.infer_freq(dates) if len(dates) >= 3 else None
    if inferred is not None:
        return to_offset(inferred)
    spacing = pd.Series(dates).diff().median()
    for step, shortest, longest in _CALENDAR_STEPS:
        fits = pd.Timedelta(days=shortest) <= spacing <= pd.Timedelta(days=longest)
        if fits and len(dates) > 5 and all(step.is_on_offset(date) for date in dates):
            return step
    return to_offset(spacing)


def _between(dates: pd.DatetimeIndex, step: pd.offsets.BaseOffset) -> pd.DatetimeIndex:
    # A burst of seconds in years of silence has no useful grid: only the dates themselves count.
    if (
        isinstance(step, pd.offsets.Tick)
        and (dates[-1] - dates[0]) / pd.Timedelta(step) > _MAX_GAPS
    ):
        return dates
    return pd.date_range(start=dates[0], end=dates[-1], freq=step)
