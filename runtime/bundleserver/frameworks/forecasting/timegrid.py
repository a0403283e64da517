"""Dates in requests and answers, and the regular grid of dates of a fitted series."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import tzinfo
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from bundleserver.errors import InvalidInput
from bundleserver.frameworks.forecasting.contract import FloatArray, shorten
from bundleserver.tensors import Array

Positions = npt.NDArray[np.intp]
_Answer = TypeVar("_Answer")

_ISO_8601 = re.compile(r"\d{4}(-?\d{2}([-\d].*)?)?", re.ASCII)
_WITH_ZONE = re.compile(r".*[T ].*(Z|[+-]\d{2}(:?\d{2})?)")
OVERFLOWS = (pd.errors.OutOfBoundsDatetime, pd.errors.OutOfBoundsTimedelta, OverflowError)
"""What pandas raises for dates, or times between dates, out of its range."""


@dataclass(frozen=True, eq=False)
class TimeGrid:
    """Ascending training dates ``past`` and the ``step`` of the dates after them.

    Dates in requests are ISO 8601. One with a time zone is converted to the model's zone, and to
    UTC if the model has none. One without a zone is in the model's own time; a model with a zone
    rejects it. ``period`` is the frequency of a model that counts in periods, whose dates are the
    periods' first moments.
    """

    past: pd.DatetimeIndex
    step: pd.offsets.BaseOffset
    period: Any = None

    @classmethod
    def from_index(cls, index: pd.Index[Any] | None) -> TimeGrid | None:
        """Convert the index of a fitted series; None if it is not a regular sequence of dates."""
        if isinstance(index, pd.PeriodIndex) and index.is_full:
            starts = index.to_timestamp()
            return cls(starts, starts.freq, index.freq) if starts.freq is not None else None
        if isinstance(index, pd.DatetimeIndex) and index.freq is not None:
            return cls(index, index.freq)
        return None

    @property
    def last(self) -> pd.Timestamp:
        """The last training date."""
        return self.past[-1]

    def starting(self, start: str | None, length: int) -> TimeGrid:
        """Return the grid of another series, from ``start`` or else the start of this one."""
        first = (
            self.past[0] if start is None else self._parse("parameter 'history_start'", [start])[0]
        )
        index = in_bounds(lambda: pd.date_range(start=first, periods=length, freq=self.step))
        if index[0] != first:
            raise InvalidInput(
                f"parameter 'history_start' is {shorten(start)}, which is not on the model's grid "
                f"(step {self.step.freqstr}); the next date on it is '{index[0].isoformat()}'"
            )
        return TimeGrid(index, self.step, self.period)

    def label(self, values: FloatArray) -> pd.Series[float]:
        """Index a series on this grid, with the type of index that the model was fitted on."""
        index = self.past if self.period is None else self.past.to_period(self.period)
        return pd.Series(values, index=index)

    def after(self, steps: int) -> pd.DatetimeIndex:
        """List the next dates after the training dates.

        Raises:
            InvalidInput: they are out of the library's range.
        """
        dates = in_bounds(lambda: pd.date_range(start=self.last, periods=steps + 1, freq=self.step))
        return dates[dates > self.last][:steps]

    def locate(self, texts: Sequence[str], max_horizon: int) -> tuple[pd.DatetimeIndex, Positions]:
        """Parse dates and return their positions on the grid: 0 is the first training date.

        Raises:
            InvalidInput: a date is not valid, a duplicate, before the training dates, not on the
                grid, or more than ``max_horizon`` steps after them.
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
        return parse_dates(what, texts, self.past.tz)

    def _check_range(self, asked: pd.DatetimeIndex, max_horizon: int) -> None:
        check_once(asked)
        if asked.min() < self.past[0]:
            raise InvalidInput(
                f"input 'ds' has '{asked.min().isoformat()}'; the model's dates start at "
                f"'{self.past[0].isoformat()}'"
            )
        try:
            limit = self.last + max_horizon * self.step
        except OVERFLOWS:
            return
        if asked.max() > limit:
            raise InvalidInput(
                f"input 'ds' has '{asked.max().isoformat()}'; a forecast expects dates up to "
                f"{max_horizon} steps after the series, '{limit.isoformat()}'"
            )

    def _off_grid(self, date: pd.Timestamp, reachable: pd.DatetimeIndex) -> str:
        before = reachable[reachable < date][-1]
        return (
            f"input 'ds' has '{date.isoformat()}', which is not on the model's grid "
            f"(step {self.step.freqstr}); the last date on it before that is '{before.isoformat()}'"
        )


def parse_dates(what: str, texts: Sequence[str], zone: tzinfo | None) -> pd.DatetimeIndex:
    """Parse ISO 8601 to dates in a model's zone, or to UTC without a zone if the model has none.

    Raises:
        InvalidInput: a date is not valid, out of range, or lacks the zone that the model has.
    """
    for text in texts:
        if not _ISO_8601.fullmatch(text):
            raise _not_a_date(what, text)
        if zone is not None and not _WITH_ZONE.fullmatch(text):
            raise InvalidInput(
                f"{what} has {shorten(text)}, which has no time zone; the model's dates "
                f"are in '{zone}', so add one, such as 'Z'"
            )
    try:
        return pd.DatetimeIndex(_as_utc(texts).tz_convert(zone))
    except ValueError as error:
        problems = (_problem(what, text) for text in texts)
        raise next(filter(None, problems), _not_a_date(what, texts[0])) from error


def check_once(asked: pd.DatetimeIndex) -> None:
    """Refuse dates of which one comes twice.

    Raises:
        InvalidInput: names the date.
    """
    if asked.has_duplicates:
        twice = asked[asked.duplicated()][0].isoformat()
        raise InvalidInput(f"input 'ds' has the duplicate '{twice}'; send each date once")


def iso_dates(dates: pd.DatetimeIndex) -> Array:
    """Format dates as a BYTES tensor of ISO 8601, each with its time: ``2025-01-31T00:00:00``."""
    texts = np.empty(len(dates), dtype=object)
    texts[:] = [date.isoformat() for date in dates]
    return texts


def _not_a_date(what: str, text: str) -> InvalidInput:
    return InvalidInput(
        f"{what} has {shorten(text)}, which is not a valid ISO 8601 date; "
        "write it as '2025-01-31' or '2025-01-31T06:00:00'"
    )


def _as_utc(texts: Sequence[str]) -> pd.DatetimeIndex:
    # UTC does not change a date without a zone.
    return pd.to_datetime(list(texts), format="ISO8601", utc=True)


def _problem(what: str, text: str) -> InvalidInput | None:
    try:
        _as_utc([text])
    except pd.errors.OutOfBoundsDatetime:
        return InvalidInput(
            f"{what} has {shorten(text)}, a date that is out of range; expected dates from "
            f"'{pd.Timestamp.min.date()}' to '{pd.Timestamp.max.date()}'"
        )
    except ValueError:
        return _not_a_date(what, text)
    return None


def in_bounds(make: Callable[[], _Answer]) -> _Answer:
    """Return what ``make`` does, unless its dates are out of the library's range.

    Raises:
        InvalidInput: they are.
    """
    try:
        return make()
    except OVERFLOWS as error:
        raise InvalidInput(
            "the forecast has dates out of the library's range; request fewer steps"
        ) from error
