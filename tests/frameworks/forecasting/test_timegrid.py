from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from bundleserver.errors import InvalidInput
from bundleserver.frameworks.forecasting.timegrid import TimeGrid, iso_dates

MONTHS = pd.date_range("2020-01-01", periods=24, freq="MS")


def monthly() -> TimeGrid:
    """Make the grid of a monthly series."""
    grid = TimeGrid.from_index(MONTHS)
    assert grid is not None
    return grid


def texts(index: pd.DatetimeIndex) -> list[str]:
    """List dates as an answer has them."""
    return iso_dates(index).tolist()


@pytest.mark.parametrize(
    "index",
    [
        None,
        pd.RangeIndex(5),
        pd.DatetimeIndex(["2020-01-01", "2020-01-02", "2020-01-09"]),
        pd.PeriodIndex(["2020-01", "2020-02", "2020-05"], freq="M"),
        pd.PeriodIndex(["2020-01", "2020-03", "2020-05", "2020-07"], freq="M"),
    ],
)
def test_index_without_a_frequency_is_no_grid(index):
    """Only a regular sequence of dates is a time index."""
    assert TimeGrid.from_index(index) is None


@pytest.mark.parametrize("freq", ["M", "Q", "W", "D", "h", "Y"])
def test_periods_are_named_by_their_first_moment(freq):
    """A model that counts in periods answers the first moment of each."""
    periods = pd.period_range("2020-01-01", periods=8, freq=freq)
    grid = TimeGrid.from_index(periods[:5])

    assert grid is not None
    assert texts(periods[5:].to_timestamp()) == texts(grid.after(3))
    pd.testing.assert_index_equal(periods[:5], grid.label(np.zeros(5)).index)


def test_locate_counts_from_the_first_training_date():
    """Dates are placed in the order asked, in the series and after it."""
    asked, positions = monthly().locate(["2022-03-01", "2020-01-01", "2021-12-01T00:00"], 10)

    assert [26, 0, 23] == positions.tolist()
    assert ["2022-03-01T00:00:00", "2020-01-01T00:00:00", "2021-12-01T00:00:00"] == texts(asked)


@pytest.mark.parametrize(
    "text", ["2020-02-01", "20200201", "2020-02", "2020-02-01T00:00:00Z", "2020-02-01 02:00+02:00"]
)
def test_dates_are_read_in_every_iso_form(text):
    """A date with a time zone is converted to UTC where the model has no zone."""
    assert [1] == monthly().locate([text], 10)[1].tolist()


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "soon", "now", "today", "NaT", "nan", "01/02/2020", "2020-13-01", "2020-02-31"),
        *(
            "2020-2-1",
            "2020-W05",
            "2020-02-01T25:00",
            "2020-02-01junk",
            "20\u0662\u0660-02",
        ),
    ],
)
def test_text_that_is_no_date_is_refused(text):
    """What is not a valid ISO 8601 date is refused with the value that came."""
    with pytest.raises(InvalidInput) as refusal:
        monthly().locate(["2020-02-01", text], 10)

    assert f"input 'ds' has '{text}', which is not a valid ISO 8601 date" in str(refusal.value)


def test_a_date_that_the_library_cannot_count_is_refused():
    """A date after the year 2262 is one, but none that pandas can hold."""
    with pytest.raises(
        InvalidInput,
        match=r"input 'ds' has '9999-01-01', a date that is out of range.*'2262-04-11'",
    ):
        monthly().locate(["2020-02-01", "9999-01-01"], 10)


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (["2020-02-01", "2020-02"], "'2020-02-01T00:00:00'"),
        (["2019-12-01"], "the model's dates start at '2020-01-01T00:00:00'"),
        (["2022-11-01"], "expects dates up to 10 steps after the series"),
        (["2262-01-01"], "the series, '2022-10-01T00:00:00'"),
        (["2020-02-15"], "not on the model's grid (step MS)"),
        (["2022-02-01T06:00"], "the last date on it before that is '2022-02-01T00:00:00'"),
    ],
)
def test_dates_off_the_grid_are_refused(asked, reason):
    """Dates asked twice, before the series, too far after it or between its steps are refused."""
    with pytest.raises(InvalidInput) as refusal:
        monthly().locate(asked, 10)

    assert reason in str(refusal.value)


def test_dates_of_a_model_with_a_time_zone_need_one():
    """A model in a time zone answers in it, and a date without one would be ambiguous."""
    index = pd.date_range("2020-01-01", periods=9, freq="D", tz="Europe/Berlin")
    grid = TimeGrid.from_index(index)
    assert grid is not None

    assert [9] == grid.locate(["2020-01-09T23:00:00Z"], 10)[1].tolist()
    assert ["2020-01-10T00:00:00+01:00"] == texts(grid.after(1))
    with pytest.raises(
        InvalidInput, match="no time zone; the model's dates are in 'Europe/Berlin'"
    ):
        grid.locate(["2020-01-10"], 10)


def test_dates_beyond_the_clock_are_refused():
    """A horizon past the last date that pandas counts to is the caller's error."""
    years = TimeGrid.from_index(pd.date_range("2000-01-01", periods=9, freq="YS"))
    assert years is not None

    with pytest.raises(InvalidInput, match="request fewer steps"):
        years.after(10_000)


def test_starting_moves_the_grid():
    """Another series keeps the step and starts where it is said to, if that is on the grid."""
    moved = monthly().starting("1999-05-01", 3)

    assert ["1999-08-01T00:00:00"] == texts(moved.after(1))
    assert texts(MONTHS[:3]) == texts(monthly().starting(None, 3).past)
    with pytest.raises(InvalidInput, match="not on the model's grid"):
        monthly().starting("1999-05-02", 3)
    with pytest.raises(InvalidInput, match="'history_start' has 'May'"):
        monthly().starting("May", 3)
