from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from bundleserver.errors import InvalidInput
from bundleserver.frameworks.forecasting.steps import (
    MonthStep,
    OffsetStep,
    infer_step,
    mean_step,
    steps_through,
)


def month_days(first: str, day: int, months: int, count: int) -> pd.DatetimeIndex:
    """List a day of every so many months, or the last day of a shorter month."""
    periods = pd.period_range(first, periods=count * months, freq="M")[::months]
    return pd.DatetimeIndex(
        [pd.Timestamp(p.year, p.month, min(day, p.days_in_month)) for p in periods]
    )


def seconds_at_random(count: int) -> pd.DatetimeIndex:
    """List moments without any step."""
    random = np.random.default_rng(1)
    seconds = random.choice(90 * 86_400, count, replace=False)
    return pd.Timestamp("2024-03-01") + pd.to_timedelta(np.sort(seconds), unit="s")


@pytest.mark.parametrize(
    ("dates", "following"),
    [
        (pd.date_range("2020-01-31", periods=9, freq="ME"), ["2020-10-31", "2020-11-30"]),
        (pd.date_range("2020-01-01", periods=9, freq="MS"), ["2020-10-01", "2020-11-01"]),
        (pd.date_range("2020-01-01", periods=9, freq="QS"), ["2022-04-01", "2022-07-01"]),
        (pd.date_range("2020-01-05", periods=9, freq="W"), ["2020-03-08", "2020-03-15"]),
        (pd.date_range("2020-01-01", periods=9, freq="W-WED").delete(3), ["2020-03-04"]),
        (pd.date_range("2020-01-01", periods=9, freq="h"), ["2020-01-01T09", "2020-01-01T10"]),
        (pd.date_range("2020-01-01", periods=9, freq="15min"), ["2020-01-01T02:15"]),
        (pd.date_range("2020-01-01", periods=10, freq="B"), ["2020-01-15", "2020-01-16"]),
        (pd.date_range("2020-01-01", periods=10, freq="D").delete(4), ["2020-01-11"]),
        (pd.date_range("2020-01-01", periods=13, freq="B").delete(4), ["2020-01-20"]),
        (pd.date_range("2020-01-01T17", periods=13, freq="B").delete(4), ["2020-01-20T17"]),
        (pd.date_range("2020-01-31", periods=9, freq="ME").delete(4), ["2020-10-31"]),
        (pd.date_range("2020-01-01", periods=9, freq="MS").delete(4), ["2020-10-01"]),
        (pd.date_range("2015-01-01", periods=9, freq="YS").delete(4), ["2024-01-01"]),
        (pd.date_range("2015-03-31", periods=9, freq="QE").delete(4), ["2017-06-30"]),
        (pd.date_range("2020-01-01", periods=9, freq="h").delete(4), ["2020-01-01T09"]),
        (pd.DatetimeIndex(["2020-01-01", "2020-01-04"]), ["2020-01-07"]),
        (pd.DatetimeIndex(["2020-01-20", "2020-02-20"]), ["2020-03-20"]),
        (month_days("2021-05", 20, 1, 9), ["2022-02-20", "2022-03-20"]),
        (month_days("2021-05", 20, 1, 9).delete([2, 5]), ["2022-02-20"]),
        (month_days("2021-05", 20, 1, 9) + pd.Timedelta(hours=6), ["2022-02-20T06"]),
        (month_days("2021-05", 30, 1, 9), ["2022-02-28", "2022-03-30"]),
        (month_days("2021-05", 31, 1, 10), ["2022-03-31", "2022-04-30"]),
        (month_days("2020-02", 10, 3, 9), ["2022-05-10", "2022-08-10"]),
        (month_days("2012-02", 29, 12, 12), ["2024-02-29", "2025-02-28"]),
    ],
)
def test_a_series_goes_on_as_it_is(dates, following):
    """A series goes on at its own spacing, calendar months and business days with gaps too."""
    step = infer_step(dates[::-1])

    assert step is not None
    expected = pd.DatetimeIndex([pd.Timestamp(date) for date in following])
    assert expected.tolist() == step.after(dates[-1], len(following)).tolist()


@pytest.mark.parametrize(
    "dates",
    [
        seconds_at_random(60),
        pd.DatetimeIndex(["2020-01-01"]),
        pd.DatetimeIndex(["2020-01-01", "2020-01-15", "2020-02-01", "2020-02-15", "2020-03-01"]),
        pd.DatetimeIndex(["2020-01-05", "2020-02-17", "2020-03-02", "2020-04-29"]),
        pd.date_range("2020-01-01", periods=9, freq="D").union([pd.Timestamp("2020-01-05T11:30")]),
        pd.DatetimeIndex(["2020-01-10T00", "2020-02-10T07", "2020-03-10T01", "2020-04-10T02"]),
    ],
)
def test_dates_without_a_step_have_none(dates):
    """No step is made up for dates that keep to none."""
    assert infer_step(dates) is None


@pytest.mark.parametrize(
    ("step", "name"),
    [(MonthStep(1, 15), "M-15"), (MonthStep(3, 31), "3M-31"), (OffsetStep(pd.offsets.Day()), "D")],
)
def test_a_step_has_a_name(step, name):
    """Clients read the step in pandas' words, with the day of the month."""
    assert name == step.name


@pytest.mark.parametrize("step", [MonthStep(12, 15), OffsetStep(pd.offsets.YearBegin())])
def test_dates_beyond_the_clock_are_refused(step):
    """Steps past the last date that pandas counts to are the caller's error."""
    with pytest.raises(InvalidInput, match="request fewer steps"):
        step.after(pd.Timestamp("2020-01-01"), 10_000)


def test_steps_end_at_the_first_that_is_not_before_the_end():
    """The dates to a moment are those before it and one that is not."""
    step, start = OffsetStep(pd.offsets.Day()), pd.Timestamp("2020-01-01")

    between = steps_through(step, start, pd.Timestamp("2020-01-04T12:00"), 100)
    on_grid = steps_through(step, start, pd.Timestamp("2020-01-04"), 100)

    assert pd.date_range("2020-01-02", "2020-01-05").tolist() == between.tolist()
    assert pd.date_range("2020-01-02", "2020-01-04").tolist() == on_grid.tolist()


@pytest.mark.parametrize(
    ("step", "end"),
    [
        (OffsetStep(pd.offsets.Second()), "2200-01-01"),
        (OffsetStep(pd.offsets.YearEnd()), "2262-01-01"),
        (mean_step(pd.DatetimeIndex(["2020-01-01", "2020-01-02", "2020-01-09"])), "2100-01-01"),
    ],
)
def test_steps_to_a_far_date_are_few(step, end):
    """However far the end is, there are no more dates than allowed, and the last is not before."""
    dates = steps_through(step, pd.Timestamp("2020-01-01"), pd.Timestamp(end), 300)

    assert len(dates) <= 300
    assert dates[-1] >= pd.Timestamp(end)
    assert dates.is_monotonic_increasing
