from __future__ import annotations

import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Barrier, BrokenBarrierError
from types import SimpleNamespace

import joblib
import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from statsmodels.tools.sm_exceptions import ValueWarning
from statsmodels.tsa.api import VAR, AutoReg, ExponentialSmoothing
from statsmodels.tsa.arima.model import ARIMA
from statsmodels.tsa.exponential_smoothing.ets import ETSModel

from bundleserver.errors import HistoryTooLong, InvalidInput, LoadError, StoreError
from bundleserver.frameworks import LoadContext
from bundleserver.frameworks.statsmodels import framework
from bundleserver.frameworks.statsmodels.series import (
    HISTORY_BYTES,
    Family,
    bytes_per_observation,
    longest_history,
    longest_horizon,
)
from bundleserver.tensors import NamedTensor


def tensor(name, values, dtype=None):
    """Make one input as a request brings it."""
    return NamedTensor(name, np.array(values, dtype=dtype))


def ask(predictor, *inputs, **parameters):
    """Call the default method and name its outputs as the signature does."""
    signature = predictor.methods["forecast"]
    answer = predictor.call("forecast", inputs, parameters)
    assert len(signature.outputs) == len(answer)
    return {spec.name: array for spec, array in zip(signature.outputs, answer, strict=True)}


def reload(results, directory, **options):
    """Save results as the notebook does and open them as the server does."""
    path, saved = framework.save(results, directory, "model")
    return framework.load(path, LoadContext(options={**saved, **options}))


@pytest.fixture(scope="module")
def co2():
    """Ten years of monthly CO2, dated."""
    data = sm.datasets.co2.load_pandas().data["co2"]
    return data.resample("MS").mean().ffill().iloc[-120:]


@pytest.fixture(scope="module")
def macro():
    """American quarters, dated by period."""
    data = sm.datasets.macrodata.load_pandas().data
    data.index = pd.period_range("1959Q1", periods=len(data), freq="Q")
    return data


@pytest.fixture(scope="module")
def arima(co2):
    """Fit a dated ARIMA."""
    return ARIMA(co2, order=(2, 1, 1)).fit()


@pytest.fixture
def forecaster(arima, tmp_path):
    """Open the dated ARIMA from its file."""
    return reload(arima, tmp_path)


@pytest.fixture
def with_regressors(macro, tmp_path):
    """Fit a SARIMAX with two regressors and open it."""
    model = sm.tsa.SARIMAX(
        macro["realgdp"][:180], exog=macro[["realcons", "unemp"]][:180], order=(1, 1, 0)
    )
    results = model.fit(disp=0)
    return results, reload(results, tmp_path)


FIT = {
    "ARIMA": lambda y: ARIMA(y, order=(2, 1, 1)).fit(),
    "SARIMAX": lambda y: sm.tsa.SARIMAX(y, order=(1, 0, 0), trend="c").fit(disp=0),
    "UnobservedComponents": lambda y: sm.tsa.UnobservedComponents(y, "local level").fit(disp=0),
    "AutoReg": lambda y: AutoReg(y, lags=3).fit(),
    "ETSModel": lambda y: ETSModel(y, error="add", trend="add").fit(disp=0),
}
INDEX = {
    "months": lambda y: y,
    "periods": lambda y: y.set_axis(y.index.to_period("M")),
    "numbers": lambda y: y.reset_index(drop=True),
    "array": lambda y: y.to_numpy(),
}


def test_clients_are_told_the_step_and_the_longest_horizon(arima, co2, tmp_path):
    """What a request is held to stands in the metadata; without dates there is no step."""
    undated = ARIMA(co2.to_numpy(), order=(1, 1, 0)).fit()

    assert {"max_horizon": 7, "step": "MS"} == reload(arima, tmp_path, max_horizon=7).metadata
    assert {"max_horizon": 10_000} == reload(undated, tmp_path).metadata


def bounds(prediction, alpha):
    """Read the interval of any family's prediction."""
    interval = getattr(prediction, "conf_int", getattr(prediction, "pred_int", None))
    return np.asarray(interval(alpha=alpha))


@pytest.mark.parametrize("index", INDEX)
@pytest.mark.parametrize("family", FIT)
def test_forecast_equals_the_library_in_process(family, index, co2, tmp_path):
    """Mean and bounds are the library's own, to the bit, for every family and kind of index."""
    results = FIT[family](INDEX[index](co2))
    answer = ask(reload(results, tmp_path), tensor("horizon", [12]), level=0.68)

    if (family, index) == ("ETSModel", "array"):  # get_prediction of statsmodels 0.15 raises here
        results = FIT[family](co2.reset_index(drop=True))
    expected = results.get_prediction(len(co2), len(co2) + 11)
    np.testing.assert_array_equal(np.asarray(expected.predicted_mean), answer["mean"])
    np.testing.assert_array_equal(bounds(expected, 0.32)[:, 0], answer["lower"])
    np.testing.assert_array_equal(bounds(expected, 0.32)[:, 1], answer["upper"])
    assert (index in ("months", "periods")) == ("ds" in answer)


def test_forecast_equals_get_forecast(arima, co2, forecaster):
    """The default level is 95 %, and the dates follow the series at its own frequency."""
    expected = arima.get_forecast(24)

    answer = ask(forecaster, tensor("horizon", [24]))

    np.testing.assert_array_equal(expected.predicted_mean.to_numpy(), answer["mean"])
    np.testing.assert_array_equal(expected.conf_int(alpha=0.05).to_numpy()[:, 0], answer["lower"])
    np.testing.assert_array_equal(expected.conf_int(alpha=0.05).to_numpy()[:, 1], answer["upper"])
    assert [date.isoformat() for date in expected.row_labels] == answer["ds"].tolist()
    assert co2.index[-1] < expected.row_labels[0]


def test_a_sample_is_one_step_that_the_model_takes(forecaster, with_regressors):
    """What the model offers as a plausible call, regressors with their last values, is answered."""
    results, regressed = with_regressors

    for predictor in (forecaster, regressed):
        [inputs] = predictor.samples("forecast", 2)
        assert [1] == [len(values) for values in ask(predictor, *inputs).values()][:1]
    assert results.model.data.orig_exog.iloc[-1].tolist() == [t.values[0] for t in inputs[1:]]


def test_predict_is_forecast(forecaster):
    """Both names call the same method."""
    inputs = [tensor("horizon", [3])]

    np.testing.assert_array_equal(
        forecaster.call("forecast", inputs, {})[0], forecaster.call("predict", inputs, {})[0]
    )
    assert "forecast" == next(iter(forecaster.methods))


def test_periods_are_dated_by_their_start(macro, tmp_path):
    """A model fitted on periods answers the first moment of each."""
    forecaster = reload(AutoReg(macro["unemp"], lags=2).fit(), tmp_path)

    answer = ask(forecaster, tensor("horizon", [2]))

    assert ["2009-10-01T00:00:00", "2010-01-01T00:00:00"] == answer["ds"].tolist()


def test_ds_answers_in_the_order_asked_in_sample_and_after(arima, co2, forecaster):
    """Dates in the training range answer in-sample, later ones are forecast, in any order."""
    asked = ["2002-03-01", "1999-05-01", "2002-01-01"]
    expected = arima.get_prediction(0, len(co2) + 2)
    places = [len(co2) + 2, co2.index.get_loc("1999-05-01"), len(co2)]

    answer = ask(forecaster, tensor("ds", asked, object))

    np.testing.assert_array_equal(expected.predicted_mean.to_numpy()[places], answer["mean"])
    np.testing.assert_array_equal(expected.conf_int().to_numpy()[places, 1], answer["upper"])
    assert [f"{date}T00:00:00" for date in asked] == answer["ds"].tolist()


def test_ds_after_the_series_equals_the_horizon(forecaster):
    """Asking the dates that follow gives what asking their number gives."""
    by_horizon = ask(forecaster, tensor("horizon", [6]))

    by_date = ask(forecaster, NamedTensor("ds", by_horizon["ds"]))

    for name, values in by_horizon.items():
        np.testing.assert_array_equal(values, by_date[name])


def test_ds_without_a_time_index_is_refused(tmp_path):
    """A model fitted on numbered steps says why it takes no dates."""
    sunspots = sm.datasets.sunspots.load_pandas().data["SUNACTIVITY"]
    forecaster = reload(AutoReg(sunspots, lags=9).fit(), tmp_path)

    with pytest.raises(InvalidInput, match="the model was fitted without dates"):
        ask(forecaster, tensor("ds", ["2009-01-01"], object))


@pytest.mark.parametrize("family", FIT)
def test_irregular_dates_forecast_by_step_number(family, co2, tmp_path):
    """A series whose dates have no frequency is forecast as if it had none."""
    days = pd.to_timedelta(np.arange(len(co2)) ** 2 % 11, unit="D")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ValueWarning)
        results = FIT[family](co2.set_axis(co2.index + days))
    plain = FIT[family](co2.reset_index(drop=True))

    forecaster = reload(results, tmp_path)
    answer = ask(forecaster, tensor("horizon", [4]))

    assert ["mean", "lower", "upper"] == list(answer)
    np.testing.assert_array_equal(np.asarray(plain.forecast(4)), answer["mean"])
    with pytest.raises(InvalidInput, match="no regular frequency"):
        ask(forecaster, tensor("ds", ["2002-01-01"], object))


@pytest.mark.parametrize("family", ["ARIMA", "AutoReg"])
def test_numbered_steps_may_start_anywhere(family, co2, tmp_path):
    """A range index that starts at 5 forecasts like one that starts at 0."""
    shifted = reload(FIT[family](co2.set_axis(pd.RangeIndex(5, 125))), tmp_path)
    plain = FIT[family](co2.reset_index(drop=True))

    np.testing.assert_array_equal(
        np.asarray(plain.forecast(4)), ask(shifted, tensor("horizon", [4]))["mean"]
    )


@pytest.mark.parametrize("family", ["ARIMA", "SARIMAX", "UnobservedComponents", "AutoReg"])
def test_history_replaces_the_training_series(family, co2, tmp_path):
    """A history is applied under the fitted parameters, and the forecast follows it."""
    results = FIT[family](co2)
    history = co2[:60] * 1.1

    answer = ask(reload(results, tmp_path), tensor("horizon", [5]), tensor("history", history))

    expected = results.apply(history).get_prediction(60, 64)
    np.testing.assert_array_equal(np.asarray(expected.predicted_mean), answer["mean"])
    np.testing.assert_array_equal(bounds(expected, 0.05)[:, 0], answer["lower"])
    assert f"{co2.index[60].isoformat()}" == answer["ds"][0]


def test_a_history_that_needs_too_much_memory_is_refused(arima, tmp_path):
    """Both numbers and the option are told before the library begins; 0 turns the limit off."""
    long = tensor("history", np.arange(1.0, 300_000.0))
    each = bytes_per_observation(arima.model)
    most = HISTORY_BYTES // each

    with pytest.raises(HistoryTooLong) as caught:
        ask(reload(arima, tmp_path), tensor("horizon", [1]), tensor("history", [1.0] * (most + 1)))
    assert f"{most + 1} observations, each of which takes {each} bytes" in str(caught.value)
    assert f"at most {most};" in str(caught.value)
    with pytest.raises(HistoryTooLong, match="max_history"):
        ask(reload(arima, tmp_path, max_history=299_000), tensor("horizon", [1]), long)
    short = tensor("history", np.arange(1.0, 130.0))
    unlimited = reload(arima, tmp_path, max_history=0)
    assert 1 == len(ask(unlimited, tensor("horizon", [1]), short)["mean"])
    with pytest.raises(LoadError, match="max_history is -1; expected 0 or"):
        reload(arima, tmp_path, max_history=-1)


def test_a_history_may_be_as_long_as_the_training_series():
    """However many states a model has, what it was fitted on is within its memory."""
    model = SimpleNamespace(k_states=5000, endog=np.zeros(777))

    assert 777 == longest_history(model)
    assert 1_000_000 < longest_history(SimpleNamespace(endog=np.zeros(9)))


def test_a_horizon_is_shorter_where_each_step_needs_a_lot_of_memory():
    """The default fits into the memory of a history; few models come near it."""
    wide = SimpleNamespace(k_states=170, endog=np.zeros(300))

    assert 300 < longest_horizon(wide) < 1000
    assert 10_000 < longest_horizon(SimpleNamespace(k_states=30, endog=np.zeros(9)))


def test_history_start_dates_the_history(forecaster):
    """The dates of the answer follow the history from where it is said to start."""
    history = tensor("history", [300.0, 301.0, 302.0])

    by_horizon = ask(forecaster, tensor("horizon", [2]), history, history_start="2030-01-01")
    by_date = ask(
        forecaster, tensor("ds", ["2030-05-01"], object), history, history_start="2030-01-01"
    )

    assert ["2030-04-01T00:00:00", "2030-05-01T00:00:00"] == by_horizon["ds"].tolist()
    assert by_horizon["mean"][1] == by_date["mean"][0]


def test_history_does_not_change_the_model(forecaster):
    """One request's history is forgotten by the next request."""
    before = ask(forecaster, tensor("horizon", [5]))
    ask(forecaster, tensor("horizon", [5]), tensor("history", [1.0, 2.0, 3.0, 4.0]))

    np.testing.assert_array_equal(before["mean"], ask(forecaster, tensor("horizon", [5]))["mean"])


def test_history_of_a_state_space_model_may_have_gaps(arima, co2, forecaster):
    """NaN in the history of a state space model is a missing observation."""
    history = co2[:40].copy()
    history.iloc[[3, 20]] = np.nan

    answer = ask(forecaster, tensor("horizon", [3]), tensor("history", history))

    expected = arima.apply(history).get_forecast(3).predicted_mean.to_numpy()
    np.testing.assert_array_equal(expected, answer["mean"])


@pytest.mark.parametrize(
    ("history", "reason"),
    [
        ([1.0, 2.0], "has 2 observations, which the model rejects"),
        ([1.0] * 20 + [np.nan], "does not support missing observations"),
    ],
)
def test_history_that_auto_reg_cannot_take_is_refused(history, reason, co2, tmp_path):
    """A history too short for the lags, or with a gap, is the caller's error."""
    forecaster = reload(AutoReg(co2, lags=3).fit(), tmp_path)

    with pytest.raises(InvalidInput, match=reason):
        ask(forecaster, tensor("horizon", [2]), tensor("history", history))


def test_history_of_a_family_without_apply_is_refused(co2, tmp_path):
    """A family that needs a refit for new observations says so."""
    forecaster = reload(FIT["ETSModel"](co2), tmp_path)

    with pytest.raises(InvalidInput, match=r"ETSResults' does not apply to a new series"):
        ask(forecaster, tensor("horizon", [2]), tensor("history", [1.0, 2.0, 3.0]))


def test_history_start_without_a_time_index_is_refused(co2, tmp_path):
    """A history of numbered steps starts at no date."""
    forecaster = reload(FIT["ARIMA"](co2.to_numpy()), tmp_path)

    with pytest.raises(InvalidInput, match="'history_start' requires a model with a time index"):
        ask(forecaster, tensor("horizon", [2]), tensor("history", [1.0]), history_start="2020")


def test_history_of_an_array_model_is_applied(co2, tmp_path):
    """A model without dates takes a history too."""
    results = FIT["ARIMA"](co2.to_numpy())
    history = co2.to_numpy()[:30]

    answer = ask(reload(results, tmp_path), tensor("horizon", [2]), tensor("history", history))

    np.testing.assert_array_equal(results.apply(history).forecast(2), answer["mean"])


REGRESSED = {
    "ARIMA": lambda y, x: ARIMA(y, exog=x, order=(1, 0, 0)).fit(),
    "ARIMA with drift": lambda y, x: ARIMA(y, exog=x, order=(1, 1, 0), trend="t").fit(),
    "SARIMAX": lambda y, x: sm.tsa.SARIMAX(y, exog=x, order=(1, 1, 0)).fit(disp=0),
    "UnobservedComponents": lambda y, x: sm.tsa.UnobservedComponents(y, "local level", exog=x).fit(
        disp=0
    ),
}


@pytest.mark.parametrize("family", REGRESSED)
@pytest.mark.filterwarnings("ignore::statsmodels.tools.sm_exceptions.EstimationWarning")
def test_regressors_are_taken_by_name(family, macro, tmp_path):
    """Regressors reach the model by their names, in whatever order they come."""
    known, future = macro[:180], macro[180:185]
    results = REGRESSED[family](known["realgdp"], known[["realcons", "unemp"]])
    expected = results.get_forecast(5, exog=future[["realcons", "unemp"]])

    answer = ask(
        reload(results, tmp_path),
        tensor("unemp", future["unemp"]),
        tensor("horizon", [5]),
        tensor("realcons", future["realcons"]),
    )

    np.testing.assert_array_equal(expected.predicted_mean.to_numpy(), answer["mean"])
    np.testing.assert_array_equal(expected.conf_int().to_numpy()[:, 0], answer["lower"])


def test_regressors_of_auto_reg_are_taken(macro, tmp_path):
    """The regressors of AutoReg are told from its trend and its lags."""
    known, future = macro[:180], macro[180:184]
    results = AutoReg(known["realgdp"], lags=2, exog=known[["unemp"]]).fit()

    answer = ask(
        reload(results, tmp_path), tensor("horizon", [4]), tensor("unemp", future["unemp"])
    )

    np.testing.assert_array_equal(results.forecast(4, exog=future[["unemp"]]), answer["mean"])


def test_regressors_of_arrays_have_the_library_names(macro, tmp_path):
    """Regressors without names are x1, x2, ... as in the library's own summary."""
    exog = macro[["realcons", "unemp"]].to_numpy()
    model = sm.tsa.SARIMAX(macro["realgdp"].to_numpy(), exog=exog, order=(1, 0, 0), trend="c")
    forecaster = reload(model.fit(disp=0), tmp_path)

    assert ["x1", "x2"] == [spec.name for spec in forecaster.methods["forecast"].inputs[1:]]


def test_regressors_follow_the_dates_asked(with_regressors, macro):
    """Values come in the order of the dates; those of in-sample dates are the training values."""
    results, forecaster = with_regressors
    expected = results.get_prediction(170, 181, exog=macro[["realcons", "unemp"]][180:182])

    answer = ask(
        forecaster,
        tensor("ds", ["2004-04-01", "2001-07-01", "2004-01-01"], object),
        tensor("realcons", macro["realcons"].iloc[[181, 170, 180]]),
        tensor("unemp", macro["unemp"].iloc[[181, 170, 180]]),
    )

    np.testing.assert_array_equal(expected.predicted_mean.to_numpy()[[11, 0, 10]], answer["mean"])


def test_regressors_are_needed_for_every_date_between(with_regressors):
    """Dates that leave a gap after the series cannot be answered with regressors."""
    _, forecaster = with_regressors
    values = [tensor("realcons", [5000.0]), tensor("unemp", [5.0])]

    with pytest.raises(InvalidInput, match="lacks dates"):
        ask(forecaster, tensor("ds", ["2004-07-01"], object), *values)


def test_history_of_a_model_with_regressors_is_refused(with_regressors):
    """The regressors' values in the history are not known."""
    _, forecaster = with_regressors
    values = [tensor("realcons", [5000.0]), tensor("unemp", [5.0])]

    with pytest.raises(InvalidInput, match="the model has regressors"):
        ask(forecaster, tensor("horizon", [1]), tensor("history", [1.0, 2.0]), *values)


def test_holt_winters_has_no_interval(co2, tmp_path):
    """The library offers no interval for the Holt-Winters family: the bounds are NaN."""
    results = ExponentialSmoothing(co2, trend="add", seasonal="add", seasonal_periods=12).fit()

    forecaster = reload(results, tmp_path)
    answer = ask(forecaster, tensor("horizon", [14]))
    inside = ask(forecaster, tensor("ds", [co2.index[7].isoformat()], object))

    np.testing.assert_array_equal(results.forecast(14).to_numpy(), answer["mean"])
    assert np.isnan(answer["lower"]).all()
    assert np.isnan(answer["upper"]).all()
    assert results.fittedvalues.iloc[7] == inside["mean"][0]


def test_simulated_intervals_repeat(co2, tmp_path):
    """The interval of a multiplicative ETS model is sampled, and every replica samples the same."""
    results = ETSModel(co2, error="mul", trend="add").fit(disp=0)
    forecaster, replica = reload(results, tmp_path), reload(results, tmp_path)

    first, second = (ask(one, tensor("horizon", [6])) for one in (forecaster, replica))
    narrow = ask(forecaster, tensor("horizon", [6]), level=0.5)
    mixed = ask(forecaster, tensor("ds", [str(co2.index[9].date()), first["ds"][0]], object))

    np.testing.assert_array_equal(first["upper"], second["upper"])
    np.testing.assert_array_equal(results.forecast(6).to_numpy(), first["mean"])
    assert (first["lower"] < narrow["lower"]).all()
    assert (narrow["upper"] < first["upper"]).all()
    assert [True, False] == np.isnan(mixed["lower"]).tolist()
    assert [results.fittedvalues.iloc[9], first["mean"][0]] == mixed["mean"].tolist()


def test_one_call_at_a_time_is_inside_the_library(arima):
    """A second call waits for the first, because statsmodels writes into the model."""
    meeting = Barrier(2)

    def predict(results, first, last, exog, alpha):
        # Two calls inside at once meet here; one alone gives up.
        with suppress(BrokenBarrierError):
            meeting.wait(timeout=0.5)
            met.append(first)
        return (np.zeros(last - first + 1),) * 3

    met = []
    forecaster = framework.Forecaster(arima, Family(predict), 10, "'model.pkl'")
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda steps: ask(forecaster, tensor("horizon", [steps])), [1, 2]))

    assert [] == met


def test_horizon_over_the_maximum_is_refused(arima, tmp_path):
    """The option max_horizon bounds the steps and the dates of one request."""
    forecaster = reload(arima, tmp_path, max_horizon=6)

    assert 6 == len(ask(forecaster, tensor("horizon", [6]))["mean"])
    with pytest.raises(InvalidInput, match="'horizon' is 7; a forecast expects 1 to 6 steps"):
        ask(forecaster, tensor("horizon", [7]))
    with pytest.raises(InvalidInput, match="expects dates up to 6 steps"):
        ask(forecaster, tensor("ds", ["2002-07-01"], object))


@pytest.mark.parametrize("write", [joblib.dump, lambda results, path: results.save(str(path))])
def test_load_opens_what_notebooks_write(write, arima, tmp_path):
    """The library's own file and a joblib dump open alike."""
    path = tmp_path / "arima_model.pkl"
    write(arima, path)

    answer = ask(framework.load(path, LoadContext()), tensor("horizon", [3]))

    np.testing.assert_array_equal(arima.forecast(3).to_numpy(), answer["mean"])


def test_load_without_the_training_data_is_refused(co2, tmp_path):
    """Results that were stripped of their data cannot forecast, and that is told at load."""
    results = ARIMA(co2, order=(1, 0, 0)).fit()
    path = tmp_path / "model.pkl"
    results.save(str(path), remove_data=True)

    with pytest.raises(LoadError, match="remove_data"):
        framework.load(path, LoadContext())


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda macro: ARIMA(macro["unemp"], order=(1, 0, 0)), "ARIMA' that is not fitted"),
        (lambda macro: sm.OLS(macro["unemp"], macro["infl"]), "OLS' that is not fitted"),
        (lambda macro: VAR(macro[["unemp", "infl"]]).fit(1), "VARResults'; expected"),
        (
            lambda macro: sm.tsa.VARMAX(macro[["unemp", "infl"]], order=(1, 0)).fit(
                disp=0, maxiter=1
            ),
            "VARMAXResults'; expected",
        ),
        (
            lambda macro: sm.tsa.MarkovRegression(macro["infl"], k_regimes=2).fit(maxiter=1),
            "MarkovSwitchingResults'|MarkovRegressionResults'",
        ),
        (lambda macro: {"coefficients": [1.0]}, "builtins.dict'; expected"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_load_and_save_refuse_what_is_not_served(make, reason, macro, tmp_path):
    """A file that is no fitted results of one series or a regression is refused by its class."""
    thing = make(macro)
    path = tmp_path / "model.pkl"
    joblib.dump(thing, path)

    with pytest.raises(LoadError, match=reason):
        framework.load(path, LoadContext())
    with pytest.raises(StoreError, match=reason):
        framework.save(thing, tmp_path, "other")
    assert [path] == list(tmp_path.iterdir())


def test_load_with_an_unknown_option_is_refused(arima, tmp_path):
    """A misspelt option does not load."""
    with pytest.raises(LoadError, match=r"options\.max_horizn is not a known option"):
        reload(arima, tmp_path, max_horizn=3)
