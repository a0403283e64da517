from __future__ import annotations

import json
import pickle
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import joblib
import numpy as np
import pandas as pd
import prophet
import pytest
import statsmodels.api as sm
from prophet import Prophet
from prophet.serialize import model_to_json

from bundleserver.errors import InvalidInput, LoadError, StoreError
from bundleserver.frameworks import LoadContext
from bundleserver.frameworks.interface import MakesSamples
from bundleserver.frameworks.prophet import framework, intervals
from bundleserver.tensors import NamedTensor, array_from_rows


def tensor(name, values, dtype=None):
    """Make one input as a request brings it."""
    return NamedTensor(name, np.array(values, dtype=dtype))


def ask(predictor, *inputs, **parameters):
    """Call the default method and name its outputs as the signature does."""
    signature = predictor.methods["forecast"]
    answer = predictor.call("forecast", inputs, parameters)
    assert len(signature.outputs) == len(answer)
    return {spec.name: array for spec, array in zip(signature.outputs, answer, strict=True)}


def reload(model, directory, **options):
    """Save a model as the notebook does and open it as the server does."""
    path, saved = framework.save(model, directory, "model")
    return framework.load(path, LoadContext(options={**saved, **options}))


def future(model, steps, freq="MS"):
    """List the dates after a model's history as Prophet does."""
    return model.make_future_dataframe(steps, freq=freq, include_history=False)


@pytest.fixture(scope="module")
def co2():
    """Read monthly CO2 as Prophet takes it."""
    data = sm.datasets.co2.load_pandas().data["co2"].resample("MS").mean().ffill().iloc[-150:]
    return pd.DataFrame({"ds": data.index, "y": data.to_numpy()})


@pytest.fixture(scope="module")
def model(co2):
    """Fit a monthly model."""
    return Prophet().fit(co2)


@pytest.fixture
def forecaster(model, tmp_path):
    """Open the monthly model from its file."""
    return reload(model, tmp_path)


@pytest.fixture(scope="module")
def rich(co2):
    """Fit a daily model with logistic growth, a floor, a regressor, a condition and holidays."""
    days = pd.DataFrame({"ds": pd.date_range("2024-01-01", periods=200, freq="D")})
    days["cap"], days["floor"] = 50.0, -5.0
    days["price"] = np.sin(np.arange(200))
    days["weekend"] = days["ds"].dt.dayofweek >= 5
    days["y"] = 10 + 3 * days["price"] + 2 * days["weekend"] + np.arange(200) / 50
    model = Prophet(growth="logistic", weekly_seasonality=False, uncertainty_samples=50)
    model.add_seasonality("at_weekends", 7, 3, condition_name="weekend")
    model.add_regressor("price")
    model.add_country_holidays("DE")
    return model.fit(days)


def rich_inputs(frame):
    """Make the inputs of the rich model from the frame that Prophet itself would take."""
    return [tensor(name, frame[name]) for name in ("floor", "weekend", "price", "cap")]


def rich_future(rich, steps):
    """Make a frame of the dates after the rich model's history, complete as Prophet needs it."""
    frame = future(rich, steps, "D")
    return frame.assign(
        cap=50.0,
        floor=-5.0,
        price=np.linspace(-1, 1, steps),
        weekend=frame["ds"].dt.dayofweek >= 5,
    )


def test_mean_equals_prophet_in_process(model, forecaster):
    """The mean is Prophet's own forecast of the dates that follow its history, to the bit."""
    expected = model.predict(future(model, 24))

    answer = ask(forecaster, tensor("horizon", [24]))

    np.testing.assert_array_equal(expected["yhat"], answer["mean"])
    assert [date.isoformat() for date in expected["ds"]] == answer["ds"].tolist()
    assert "forecast" == next(iter(forecaster.methods))


def test_clients_are_told_the_step_and_the_longest_horizon(forecaster):
    """What a request is held to stands in the metadata."""
    assert {"max_horizon": 10_000, "step": "MS"} == forecaster.metadata


def test_level_is_the_width_of_the_interval(model, forecaster):
    """The bounds are Prophet's for that interval width under the fixed seed; default 95 %."""
    wide = Prophet.__new__(Prophet)
    wide.__dict__.update(model.__dict__, interval_width=0.95)
    np.random.seed(intervals.SEED)
    expected = wide.predict(future(model, 12))

    answer = ask(forecaster, tensor("horizon", [12]))
    narrow = ask(forecaster, tensor("horizon", [12]), level=0.5)

    np.testing.assert_array_equal(expected["yhat_lower"], answer["lower"])
    np.testing.assert_array_equal(expected["yhat_upper"], answer["upper"])
    assert (answer["lower"] < narrow["lower"]).all()
    assert (narrow["upper"] < answer["upper"]).all()


def test_every_replica_and_repeat_answers_the_same(model, tmp_path):
    """Sampling starts from a fixed seed and leaves numpy's global generator as it was."""
    first, second = reload(model, tmp_path), reload(model, tmp_path)
    np.random.seed(7)
    before = np.random.get_state()[1].copy()

    answers = [ask(one, tensor("horizon", [6]))["upper"] for one in (first, second, first)]

    np.testing.assert_array_equal(before, np.random.get_state()[1])
    np.testing.assert_array_equal(answers[0], answers[1])
    np.testing.assert_array_equal(answers[0], answers[2])


def test_levels_of_many_threads_do_not_mix(forecaster):
    """Calls from several threads at once answer what each would answer alone."""

    def upper(level):
        return ask(forecaster, tensor("horizon", [3]), level=level)["upper"]

    levels = [0.5, 0.8, 0.95]
    alone = {level: upper(level) for level in levels}
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(upper, levels * 6))

    for level, bound in zip(levels * 6, together, strict=True):
        np.testing.assert_array_equal(alone[level], bound)


def test_ds_answers_in_the_order_asked_in_sample_and_after(model, co2, forecaster):
    """Dates in the training range answer in-sample, later ones are forecast, in any order."""
    asked = ["2002-03-01", "1995-05-01", "2002-01-01T00:00:00Z"]
    frame = pd.DataFrame({"ds": pd.to_datetime(["2002-03-01", "1995-05-01", "2002-01-01"])})
    expected = model.predict(frame).set_index("ds").loc[frame["ds"], "yhat"]

    answer = ask(forecaster, tensor("ds", asked, object))

    np.testing.assert_array_equal(expected, answer["mean"])
    assert ["2002-03-01T00:00:00", "1995-05-01T00:00:00"] == answer["ds"][:2].tolist()


def test_an_interval_does_not_depend_on_what_else_is_asked(model, forecaster):
    """A far date asked alone has the bounds that it has at the end of a horizon."""
    whole = ask(forecaster, tensor("horizon", [60]))

    alone = ask(forecaster, NamedTensor("ds", whole["ds"][[59]]))
    some = ask(forecaster, NamedTensor("ds", whole["ds"][[59, 3]]))

    assert whole["mean"][59] == alone["mean"][0]
    assert whole["lower"][59] == alone["lower"][0]
    assert whole["upper"][[59, 3]].tolist() == some["upper"].tolist()


def test_an_interval_widens_from_the_last_observation(co2, tmp_path):
    """Dates of the history that have no value yet are as uncertain as the future."""
    unknown = co2.copy()
    unknown.loc[120:, "y"] = np.nan
    trailing, cut = Prophet().fit(unknown), Prophet().fit(co2[:120])

    answer = ask(reload(trailing, tmp_path), tensor("horizon", [10]))
    expected = ask(reload(cut, tmp_path), tensor("horizon", [40]))

    assert "2002-01-01T00:00:00" == answer["ds"][0] == expected["ds"][30]
    np.testing.assert_array_equal(expected["upper"][30:], answer["upper"])


def test_without_samples_there_is_no_interval(co2, tmp_path):
    """A model fitted with uncertainty_samples=0 answers NaN for the bounds."""
    model = Prophet(uncertainty_samples=0).fit(co2)

    answer = ask(reload(model, tmp_path), tensor("horizon", [5]))

    np.testing.assert_array_equal(model.predict(future(model, 5))["yhat"], answer["mean"])
    assert np.isnan(answer["lower"]).all()
    assert np.isnan(answer["upper"]).all()


def test_signature_declares_what_the_model_needs(rich, tmp_path):
    """Capacity, floor, regressors and conditions are inputs, conditions BOOL."""
    signature = reload(rich, tmp_path).methods["forecast"]

    assert [
        ("cap", "FP64"),
        ("floor", "FP64"),
        ("price", "FP64"),
        ("weekend", "BOOL"),
    ] == [(spec.name, spec.datatype) for spec in signature.inputs[2:]]
    assert not any(spec.optional for spec in signature.inputs[3:])


def test_columns_reach_the_model_by_name(rich, tmp_path):
    """Capacity, regressors and conditions are used as Prophet itself uses them."""
    frame = rich_future(rich, 14)

    answer = ask(reload(rich, tmp_path), tensor("horizon", [14]), *rich_inputs(frame))

    np.testing.assert_array_equal(rich.predict(frame)["yhat"], answer["mean"])


def test_columns_follow_the_dates_asked(rich, tmp_path):
    """Values come in the order of the dates, whatever that is, and dates may be left out."""
    forecaster = reload(rich, tmp_path)
    frame = rich_future(rich, 14)
    mixed = frame.iloc[[13, 2, 7]]
    asked = NamedTensor("ds", mixed["ds"].dt.strftime("%Y-%m-%d").to_numpy(dtype=object))
    expected = rich.predict(mixed).set_index("ds").loc[mixed["ds"], "yhat"]
    whole = ask(forecaster, tensor("horizon", [14]), *rich_inputs(frame))

    answer = ask(forecaster, asked, *rich_inputs(mixed))

    np.testing.assert_array_equal(expected, answer["mean"])
    np.testing.assert_allclose(whole["upper"][[13, 2, 7]], answer["upper"], rtol=1e-9)


def test_means_of_any_dates_are_exact(rich, tmp_path):
    """The mean of dates with gaps equals Prophet's for just those dates, to the bit."""
    forecaster = reload(rich, tmp_path)
    frame = rich_future(rich, 60)
    random = np.random.default_rng(0)

    for count in range(1, 13):
        some = frame.iloc[np.sort(random.choice(60, count, replace=False))]
        asked = NamedTensor("ds", some["ds"].dt.strftime("%Y-%m-%d").to_numpy(dtype=object))
        answer = ask(forecaster, asked, *rich_inputs(some))

        np.testing.assert_array_equal(rich.predict(some)["yhat"], answer["mean"])


def test_cap_below_the_floor_is_refused(rich, tmp_path):
    """A capacity that is not above the floor is the caller's error."""
    frame = rich_future(rich, 3).assign(cap=[50.0, -5.0, 50.0])

    with pytest.raises(InvalidInput, match="'cap' must be above the model's floor"):
        ask(reload(rich, tmp_path), tensor("horizon", [3]), *rich_inputs(frame))


def test_missing_columns_are_refused(rich, tmp_path):
    """What the model was fitted with must come."""
    frame = rich_future(rich, 3)

    with pytest.raises(InvalidInput, match="missing input 'price', 'weekend'"):
        ask(reload(rich, tmp_path), tensor("horizon", [3]), *rich_inputs(frame)[::3])


def test_history_is_refused(forecaster):
    """Prophet takes no new observations without a refit, and says so."""
    with pytest.raises(InvalidInput, match="Prophet needs a refit"):
        ask(forecaster, tensor("horizon", [3]), tensor("history", [1.0, 2.0]))


def test_any_date_is_forecast(model, forecaster):
    """Dates between the steps, before the history and far after it have Prophet's own mean."""
    asked = ["2031-07-04T10:20:30", "1970-01-01", "2002-01-15", "1999-12-31T23:59", "2250-01-01"]
    dates = pd.to_datetime(asked, format="ISO8601")
    expected = model.predict(pd.DataFrame({"ds": dates})).set_index("ds").loc[dates, "yhat"]

    answer = ask(forecaster, tensor("ds", asked, object))

    np.testing.assert_array_equal(expected, answer["mean"])
    assert [date.isoformat() for date in dates] == answer["ds"].tolist()
    assert (answer["lower"] < answer["upper"]).all()


@pytest.mark.parametrize("asked", ["soon", "2002-02-30", "9999-01-01"])
def test_what_is_no_date_is_refused_by_name(asked, forecaster):
    """A text that is no date, or one that no clock of Prophet holds, is named."""
    with pytest.raises(InvalidInput, match=f"'ds' has '{asked}'"):
        ask(forecaster, tensor("ds", ["2002-01-01", asked], object))


@pytest.fixture(scope="module")
def irregular():
    """Fit a model of moments without a step."""
    random = np.random.default_rng(3)
    seconds = np.sort(random.choice(120 * 86_400, 150, replace=False))
    dates = pd.Timestamp("2023-02-01") + pd.to_timedelta(seconds, unit="s")
    values = np.cumsum(random.normal(0, 1, 150))
    model = Prophet(weekly_seasonality=False, changepoint_prior_scale=5.0)
    return model.fit(pd.DataFrame({"ds": dates, "y": values}))


def test_a_history_without_a_step_takes_dates_only(irregular, tmp_path):
    """Without a step a horizon means nothing: it is refused with what to send, and dates answer."""
    forecaster = reload(irregular, tmp_path)
    dates = pd.to_datetime(["2023-06-09T04:05:06", "2023-03-01", "2024-01-01"], format="ISO8601")
    expected = irregular.predict(pd.DataFrame({"ds": dates})).set_index("ds").loc[dates, "yhat"]

    answer = ask(forecaster, tensor("ds", [date.isoformat() for date in dates], object))

    np.testing.assert_array_equal(expected, answer["mean"])
    assert {"max_horizon": 10_000} == forecaster.metadata
    with pytest.raises(InvalidInput, match="no regular step; send the dates as 'ds'"):
        ask(forecaster, tensor("horizon", [3]))
    with pytest.raises(InvalidInput, match="missing input 'ds'"):
        ask(forecaster)


@pytest.mark.parametrize("day", [9, 31])
def test_a_horizon_keeps_to_the_day_of_the_month(day, tmp_path):
    """A monthly history goes on at its day, in the last days of shorter months too."""
    months = pd.period_range("2018-01", periods=47, freq="M")
    days = [pd.Timestamp(m.year, m.month, min(day, m.days_in_month)) for m in months]
    frame = pd.DataFrame({"ds": days[:44], "y": np.sin(np.arange(44))})
    model = Prophet(uncertainty_samples=0).fit(frame)

    answer = ask(reload(model, tmp_path), tensor("horizon", [3]))

    assert [date.isoformat() for date in days[44:]] == answer["ds"].tolist()
    expected = model.predict(pd.DataFrame({"ds": days[44:]}))["yhat"]
    np.testing.assert_array_equal(expected, answer["mean"])


def width(answer, position):
    """Measure one interval."""
    return answer["upper"][position] - answer["lower"][position]


@pytest.mark.parametrize("kind", ["monthly", "irregular"])
def test_an_interval_does_not_widen_with_dates_off_the_grid(kind, request, tmp_path):
    """However many dates are asked beside one, it is as uncertain as alone."""
    model = request.getfixturevalue({"monthly": "model"}.get(kind, kind))
    forecaster = reload(model, tmp_path)
    last = model.history["ds"].max()
    span = last - model.history["ds"].min()
    far = (last + span / 2).isoformat()
    crowd = pd.date_range(last + span / 99, last + span / 90, periods=200)

    alone = ask(forecaster, tensor("ds", [far], object))
    beside = ask(forecaster, tensor("ds", [far, *(d.isoformat() for d in crowd)], object))
    near = ask(forecaster, tensor("ds", [crowd[100].isoformat()], object))

    np.testing.assert_allclose(width(alone, 0), width(beside, 0), rtol=0.1)
    np.testing.assert_allclose(width(near, 0), width(beside, 101), rtol=0.15)
    assert width(near, 0) < width(alone, 0)


def test_dates_off_the_grid_leave_the_uncertainty_of_those_on_it(model, forecaster):
    """The trend of the dates on the grid is the same, whatever lies between them."""
    whole = ask(forecaster, tensor("horizon", [24]))
    mixed = [*whole["ds"], "2002-01-15", "2003-05-20", "1991-01-01"]

    answer = ask(forecaster, tensor("ds", mixed, object))

    np.testing.assert_array_equal(whole["mean"], answer["mean"][:24])
    np.testing.assert_allclose(width(whole, slice(24)), width(answer, slice(24)), rtol=0.12)


@pytest.mark.parametrize("kind", ["model", "rich", "irregular"])
def test_a_sample_is_one_step_that_the_model_takes(kind, request, tmp_path):
    """What the model offers as a plausible call is answered with one step."""
    forecaster = reload(request.getfixturevalue(kind), tmp_path)

    assert isinstance(forecaster, MakesSamples)
    [inputs] = forecaster.samples("forecast", 2)
    answer = ask(forecaster, *inputs)

    assert [1] * 4 == [len(values) for values in answer.values()]
    assert np.isfinite(answer["mean"]).all()


def test_horizon_over_the_maximum_is_refused(model, tmp_path):
    """The option max_horizon bounds the steps of one request."""
    with pytest.raises(InvalidInput, match="'horizon' is 13; a forecast expects 1 to 12 steps"):
        ask(reload(model, tmp_path, max_horizon=12), tensor("horizon", [13]))


WRITE = {
    "model.json": lambda model, path: path.write_text(model_to_json(model)),
    "dumped.json": lambda model, path: path.write_text(json.dumps(model_to_json(model))),
    "no_suffix": lambda model, path: path.write_text("\n " + model_to_json(model)),
    "pickle.pkl": lambda model, path: path.write_bytes(pickle.dumps(model)),
    "prophet_model.pkl": joblib.dump,
    "text.pkl": lambda model, path: path.write_bytes(pickle.dumps(model_to_json(model))),
}


@pytest.mark.parametrize("name", WRITE)
def test_load_opens_what_notebooks_write(name, model, tmp_path):
    """JSON, JSON within JSON, pickle and joblib open alike, whatever the suffix."""
    WRITE[name](model, tmp_path / name)

    answer = ask(framework.load(tmp_path / name, LoadContext()), tensor("horizon", [3]))

    np.testing.assert_array_equal(model.predict(future(model, 3))["yhat"], answer["mean"])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{}", "is not a valid Prophet model"),
        ('{"growth": "linear"}', "is not a valid Prophet model"),
        ('"not a model"', "is not a valid Prophet model"),
        ('{"growth": ', "JSONDecodeError"),
        ("", "is empty"),
    ],
)
def test_load_refuses_files_that_are_no_model(text, reason, tmp_path):
    """A file that is no Prophet model is refused with its path."""
    path = tmp_path / "model.json"
    path.write_text(text)

    with pytest.raises(LoadError, match=reason) as refusal:
        framework.load(path, LoadContext())

    assert str(path) in str(refusal.value)


def test_a_file_of_another_version_names_both(model, tmp_path):
    """A model that this Prophet cannot read is told with the version that wrote it."""
    document = json.loads(model_to_json(model))
    del document["seasonalities"]
    path = tmp_path / "model.json"
    path.write_text(json.dumps({**document, "__prophet_version": "0.7.1"}))

    with pytest.raises(LoadError) as refusal:
        framework.load(path, LoadContext())

    assert "written by prophet 0.7.1" in str(refusal.value)
    assert f"model_to_json of prophet {prophet.__version__}" in str(refusal.value)


def test_load_refuses_another_object(tmp_path):
    """A pickle of something else is refused."""
    joblib.dump({"growth": "linear"}, tmp_path / "model.pkl")

    with pytest.raises(LoadError, match="is not a valid Prophet model"):
        framework.load(tmp_path / "model.pkl", LoadContext())


def test_load_refuses_an_unfitted_model(tmp_path):
    """A model that is not fitted is refused at load, and before it is saved."""
    joblib.dump(Prophet(), tmp_path / "model.pkl")

    with pytest.raises(LoadError, match="not fitted"):
        framework.load(tmp_path / "model.pkl", LoadContext())
    with pytest.raises(StoreError, match="not fitted"):
        framework.save(Prophet(), tmp_path, "other")


def test_load_refuses_a_regressor_named_like_an_input(co2, tmp_path):
    """A regressor that a request could not tell from the horizon is refused at load."""
    model = Prophet()
    model.add_regressor("horizon")
    model.fit(co2.assign(horizon=np.arange(len(co2))))

    with pytest.raises(LoadError, match="regressor 'horizon'"):
        reload(model, tmp_path)


def test_save_writes_json(model, tmp_path):
    """A saved model is JSON, the form that survives a change of Prophet's internals."""
    path, options = framework.save(model, tmp_path, "model")

    assert (tmp_path / "model.json", {}) == (path, options)
    assert "linear" == json.loads(path.read_text())["growth"]


def test_a_regressor_that_the_model_predicts_is_no_input(co2, tmp_path):
    """Prophet would overwrite what is sent for it, and its JSON loses it: it is a pickle."""
    model = Prophet(uncertainty_samples=0)
    model.add_regressor("wave", regressor_predictor={"uncertainty_samples": 0})
    model.fit(co2.assign(wave=np.sin(np.arange(len(co2)) / 6)))
    forecaster = reload(model, tmp_path)

    answer = ask(forecaster, tensor("horizon", [3]))

    np.testing.assert_array_equal(model.predict(future(model, 3))["yhat"], answer["mean"])
    assert ["model.pkl"] == [path.name for path in tmp_path.iterdir()]
    with pytest.raises(InvalidInput, match="unknown input 'wave'"):
        ask(forecaster, tensor("horizon", [1]), tensor("wave", [1.0]))


def test_load_is_quiet(model, tmp_path):
    """Opening and asking a model prints nothing and logs nothing of Prophet's own."""
    path, _ = framework.save(model, tmp_path, "model")
    code = (
        "import logging, sys, pathlib, numpy; logging.basicConfig(level=logging.DEBUG); "
        "from bundleserver.frameworks import LoadContext; "
        "from bundleserver.frameworks.prophet import framework as f; "
        "from bundleserver.tensors import NamedTensor; "
        f"p = f.load(pathlib.Path({str(path)!r}), LoadContext()); "
        "p.call('forecast', [NamedTensor('horizon', numpy.array([2]))], {})"
    )

    ran = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)

    assert [] == re.findall("plotly|Importing|cmdstan|Loaded stan|rophet", ran.stdout + ran.stderr)


def test_dates_too_far_away_are_the_callers(forecaster):
    """A date in the library's range whose distance from the history is out of it is refused."""
    with pytest.raises(InvalidInput, match="too far from the model's history"):
        ask(forecaster, tensor("ds", np.array(["1680-02-03"], dtype=object)))


def test_zero_and_one_are_false_and_true(tmp_path):
    """Conditions and regressors that were one or the other take numbers and booleans alike."""
    days = pd.DataFrame({"ds": pd.date_range("2023-06-01", periods=80, freq="D")})
    days["open"] = days["ds"].dt.dayofweek < 6
    days["sale"] = days["ds"].dt.day % 3 == 0
    days["y"] = np.arange(80) / 9 + days["open"] + 2 * days["sale"]
    model = Prophet(uncertainty_samples=0)
    model.add_seasonality("when_open", 7, 2, condition_name="open")
    model.add_regressor("sale")
    forecaster = reload(model.fit(days), tmp_path)
    specs = {spec.name: spec for spec in forecaster.methods["forecast"].inputs}

    answers = []
    for given in ([True, False, True], [1, 0, 1]):
        rows = {
            name: tensor(name, array_from_rows(given, specs[name], "it"))
            for name in ("open", "sale")
        }
        inputs = [tensor("horizon", [3]), *rows.values()]
        answers.append(ask(forecaster, *inputs)["mean"])

    np.testing.assert_array_equal(*answers)
    with pytest.raises(InvalidInput, match="the value 2; it expects BOOL"):
        array_from_rows([2, 0, 1], specs["open"], "it")


def test_the_last_points_of_the_history_are_told_by_date(forecaster, co2):
    """They are those of the fit, in their own scale, whatever their order was."""
    history = forecaster.history(3)

    assert co2["y"].tolist()[-3:] == history.values.tolist()
    assert [date.isoformat() for date in co2["ds"][-3:]] == [*history.dates]
    assert len(co2) == history.total
