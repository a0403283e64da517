"""Forecasts in the form: what they are asked for, and the plot over the model's own history."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.browser.browsing import NARROW
from tests.browser.form_models import save_demand
from tests.browser.form_page import FormPage
from tests.end_to_end.processes import ServerProcess, running

PLOT = ".form-plot"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory):
    """Serve an ARIMA and a Prophet, with the page."""
    root: Path = tmp_path_factory.mktemp("forecasters")
    save_demand(root)
    # One load at a time: Prophet's backend is not made for two at once.
    with running(root, enable_page=True, load_threads=1) as started:
        for model in ("demand", "sales"):
            started.wait_until_ready(model)
        yield started


@pytest.fixture
def page(browser, server: ServerProcess):
    """Open a model's page; the browser must have nothing to complain about afterwards."""
    yield lambda model: FormPage(browser, server.rest, model)
    assert [] == [told for told in browser.complaints() if "status of 400" not in told]


def described(form: FormPage) -> str:
    """Return what the plot says of itself to those who do not see it."""
    form.browser.find(f"{PLOT} canvas")
    return form.browser.find(PLOT).get_attribute("aria-label")


def plotted(form: FormPage) -> list[list[float | None]]:
    """Return the columns that are drawn: time, history, mean, lower, upper."""
    form.browser.find(f"{PLOT} canvas")
    return form.browser.run("return document.querySelector('.form-plot').plotted")


def test_a_forecast_is_drawn_over_its_history(page, server):
    """An ARIMA's forecast begins where the series that it was fitted on ends."""
    form = page("demand")
    form.fill("0-0-0", "24")
    form.fill_parameter("level", "0.8")
    form.send()
    answer = server.predict(
        "demand", {"instances": [{"horizon": 24}], "parameters": {"level": 0.8}}
    ).json()["predictions"][0]

    assert (
        "Forecast of 24 steps from 2025-07-01T00:00:00 to 2027-06-01T00:00:00, after 90 points of "
        "history; the values are in the table"
    ) == described(form)
    time, history, mean, lower, upper = plotted(form)
    assert 90 + 24 == len(time)
    assert sorted(time) == time
    assert [90, 24] == [sum(value is not None for value in row) for row in (history, mean)]
    assert (answer["mean"], answer["lower"], answer["upper"]) == (
        mean[90:],
        lower[90:],
        upper[90:],
    )
    assert 24 == len(form.cells())


@pytest.mark.parametrize("protocol", ["v1", "v2"])
def test_a_prophet_with_a_regressor_has_its_values_filled_in(page, protocol):
    """A regressor needs a value for each step; the example repeats the last one."""
    form = page("sales")
    form.choose("protocol", protocol)

    assert form.send().startswith("200")
    assert "Forecast of 12 steps from 2025-07-20T00:00:00" in described(form)
    assert "after 200 points" in described(form)


def test_dates_may_stand_in_the_place_of_the_horizon(page):
    """Dates are one a line, also such that lie in the history."""
    form = page("sales")
    form.fill("0-0-0", "")
    form.fill("0-1-0", "2025-07-10\n2025-07-30")
    form.fill("0-2-0", "0.5\n0.25")
    form.send()

    assert ["2025-07-10T00:00:00", "2025-07-30T00:00:00"] == [row[-1] for row in form.cells()]
    time, history, mean, *_ = plotted(form)
    at = [place for place, value in enumerate(mean) if value is not None]
    assert 2 == len(at)
    assert history[at[0]] is not None
    assert history[at[1]] is None
    assert 20 * 86400 == time[at[1]] - time[at[0]]


def test_what_is_missing_is_told_by_the_server(page):
    """Neither horizon nor dates is an error that says what a forecast expects."""
    form = page("demand")
    form.fill("0-0-0", "")

    assert form.send().startswith("400")
    assert "either 'horizon'" in form.error()
    assert not form.browser.all(PLOT)


def test_a_history_of_the_requests_own_is_drawn_instead(page):
    """Observations that replace the training series are what the forecast follows."""
    form = page("demand")
    values = [str(90 + place % 12) for place in range(30)]
    form.fill("0-0-0", "3")
    form.fill("0-2-0", "\n".join(values))

    assert form.send().startswith("200")
    assert "after 30 points of history" in described(form)
    assert [float(value) for value in values] == plotted(form)[1][:30]


def test_the_history_is_bounded(server):
    """The last points are told, as many as were asked for and never more than a thousand."""
    few = server.get("/page/models/demand/history?points=2").json()
    all_of_it = server.get("/page/models/demand/history?points=999999999").json()

    assert ["2025-05-01T00:00:00", "2025-06-01T00:00:00"] == few["ds"]
    assert [2, 90] == [len(few["values"]), few["total"]]
    assert 90 == len(all_of_it["values"])


def test_the_plot_fits_a_narrow_window(page, browser):
    """At 400 pixels the page does not scroll sideways, and the plot shrinks with a window."""
    form = page("demand")
    form.send()
    described(form)
    browser.resize(NARROW)

    browser.until(
        lambda: browser.run("return document.documentElement.scrollWidth") <= 400, "it fits"
    )


def test_without_the_page_no_history_is_served(tmp_path):
    """The series that a model was fitted on is data, which --enable_page alone shows."""
    save_demand(tmp_path)
    with running(tmp_path, load_threads=1) as started:
        started.wait_until_ready("demand")
        answer = started.get("/page/models/demand/history")

    assert 404 == answer.status_code
