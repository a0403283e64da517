"""KServe's time series route."""

import pytest

from bundleserver.errors import InvalidInput
from bundleserver.serving.codecs.time_steps import Frequency, Moment
from bundleserver.tensors import TensorSpec
from bundleserver.tensors.signature import Signature
from tests.serving.rest_fakes import BROKEN_FORECASTER, FakeModel, FakeVersion, Rest

OUTPUTS = tuple(TensorSpec(name, "FP64", (-1,)) for name in ("mean", "lower", "upper"))
HORIZON = TensorSpec("horizon", "INT64", (1,), optional=True)
DATES = TensorSpec("ds", "BYTES", (-1,), optional=True)
HISTORY = TensorSpec("history", "FP64", (-1,), optional=True)

ARIMA = FakeModel(
    "arima",
    (FakeVersion("1", signature=Signature((HORIZON, DATES, HISTORY), OUTPUTS, rowwise=False)),),
)
PROPHET = FakeModel(
    "prophet", (FakeVersion("1", signature=Signature((HORIZON, DATES), OUTPUTS, rowwise=False)),)
)
BY_MONTH = {"components": {"model": {"framework": "statsmodels", "max_horizon": 10, "step": "MS"}}}
MONTHLY = FakeModel(
    "monthly",
    (
        FakeVersion(
            "v7",
            metadata=BY_MONTH,
            signature=Signature((HORIZON, DATES, HISTORY), OUTPUTS, rowwise=False),
        ),
    ),
    default="v7",
)
WITHOUT_STEP = FakeModel(
    "moments",
    (
        FakeVersion(
            "1",
            signature=Signature(
                (DATES,), OUTPUTS, rowwise=False, refused={"horizon": "it has no step; send 'ds'"}
            ),
        ),
    ),
)
MEAN_ONLY = FakeModel(
    "plain", (FakeVersion("1", signature=Signature((HORIZON, DATES), OUTPUTS[:1], rowwise=False)),)
)
SERIES = {
    "type": "univariate_time_series",
    "name": "cpu",
    "series": [1, 2.0, 3],
    "frequency": "day",
    "start_timestamp": "2025-01-30T00:00:00Z",
}
PATH = "/v1/timeseries/forecast"


@pytest.fixture
def rest():
    """Serve two forecasters, a model that is none, and one that is not ready."""
    return Rest(ARIMA, PROPHET, FakeModel("sums"), BROKEN_FORECASTER)


def body(model: str = "arima", **changes: object) -> dict[str, object]:
    """Ask for two steps of one series, with members changed or (...) left out."""
    options = {"horizon": 2, **changes.pop("options", {})}
    series = {k: v for k, v in {**SERIES, **changes}.items() if v is not ...}
    return {"model": model, "inputs": [series], "options": options}


def content(answer) -> dict[str, object]:
    """Take the first series' forecast out of a good answer."""
    assert 200 == answer.status_code, answer.text
    return answer.json()["outputs"][0]["content"][0]


def test_a_model_without_a_step_forecasts_the_dates_after_a_series():
    """A model that takes dates only is a forecaster, and needs to know when the series starts."""
    rest = Rest(WITHOUT_STEP)

    answer = rest.ask("POST", PATH, json=body("moments"))
    refusal = rest.ask("POST", PATH, json=body("moments", start_timestamp=...))

    assert "2025-02-02T00:00:00Z" == content(answer)["start_timestamp"]
    assert 400 == refusal.status_code
    assert "inputs[0].start_timestamp is missing, and it has no step" in refusal.json()["error"]
    assert ["moments"] == rest.ask("GET", "/v1/timeseries/models").json()


def test_the_answer_follows_kserves_types(rest):
    """KServe's own types accept the answer, which names its version."""
    from bundleserver.serving.kserve.sdk import hidden_arguments

    with hidden_arguments():
        from kserve.protocol.rest.timeseries.types import ForecastResponse

    answer = rest.ask("POST", PATH, json=body(options={"quantiles": [0.1, 0.5, 0.9]}))

    parsed = ForecastResponse.model_validate(answer.json())
    assert ("arima", "completed") == (parsed.model, parsed.status.value)
    assert "1" == answer.headers["x-model-version"]
    assert "time_series_forecast" == parsed.outputs[0].type
    assert "2025-02-02T00:00:00Z" == parsed.outputs[0].content[0].start_timestamp


def test_a_model_with_history_is_given_the_series(rest):
    """The series is the history that the forecast starts from."""
    found = content(rest.ask("POST", PATH, json=body()))

    assert [2.0, 2.0] == found["mean_forecast"]
    assert ("cpu", "day", None) == (found["name"], found["frequency"], found["quantiles"])
    assert [{"horizon": 2, "history": [1, 2.0, 3]}] == rest.bundles.requests[0].rows
    assert "1" == rest.bundles.requests[0].version


def test_quantiles_are_bounds_of_central_intervals(rest):
    """0.1 and 0.9 bound the level 0.8, 0.5 is the mean, and each level is asked for once."""
    quantiles = [0.1, 0.5, 0.9, 0.975]

    found = content(rest.ask("POST", PATH, json=body(options={"quantiles": quantiles})))[
        "quantiles"
    ]

    assert [0.8, 0.95] == [row["level"] for row in rest.bundles.requests[0].rows]
    assert ["0.1", "0.5", "0.9", "0.975"] == list(found)
    assert pytest.approx([1.2, 2.0, 2.8, 2.95]) == [found[str(q)][0] for q in quantiles]


def test_each_series_has_its_own_output(rest):
    """Outputs come in the order of the inputs, all levels of a series together."""
    document = body(options={"quantiles": [0.9, 0.6]})
    document["inputs"].append({**SERIES, "name": "memory", "series": [10]})

    outputs = rest.ask("POST", PATH, json=document).json()["outputs"]

    found = [output["content"][0] for output in outputs]
    assert [("cpu", 2.0), ("memory", 10.0)] == [(f["name"], f["mean_forecast"][0]) for f in found]
    assert pytest.approx([10.8, 10.2]) == [q[0] for q in found[1]["quantiles"].values()]


def test_a_model_without_history_forecasts_the_dates_that_follow(rest):
    """Prophet is asked for the dates after the series, and the answer says what was not used."""
    answer = rest.ask("POST", PATH, json={**body("prophet"), "metadata": {"run": 7}})

    assert [{"ds": ["2025-02-02T00:00:00", "2025-02-03T00:00:00"]}] == rest.bundles.requests[0].rows
    assert "2025-02-02T00:00:00Z" == content(answer)["start_timestamp"]
    metadata = answer.json()["metadata"]
    assert (7, False) == (metadata["run"], metadata["series_used"])
    assert "were not used" in metadata["note"]


def test_a_series_without_a_start_follows_the_models_own_history(rest):
    """Without a start the model's horizon is asked for, and its first date is the start."""
    answer = rest.ask("POST", PATH, json=body("prophet", start_timestamp=...))

    assert [{"horizon": 2}] == rest.bundles.requests[0].rows
    assert "2020-01-01T00:00:00" == content(answer)["start_timestamp"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model": "sums"}, "model 'sums' version '1' is not a forecaster"),
        ({"model": ""}, "model is empty; expected a string"),
        ({"inputs": []}, "'inputs' is empty"),
        ({"inputs": {}}, "'inputs' is an object"),
        ({"inputs": [3]}, "inputs[0] is the number 3"),
        ({"inputs": None}, "'inputs' is null"),
        ({"options": None}, "'options' is null"),
        ({"options": {}}, "options.horizon is missing"),
        ({"options": {"horizon": 0}}, "options.horizon is the number 0"),
        ({"options": {"horizon": 1.0}}, "options.horizon is the number 1.0"),
        ({"options": {"horizon": True}}, "options.horizon is true"),
        ({"options": {"horizon": 10**12}}, "model 'arima' version '1' supports 1 to 100000 steps"),
        ({"options": {"horizon": 1, "quantiles": 0.5}}, "options.quantiles is the number 0.5"),
        ({"options": {"horizon": 1, "quantiles": [1]}}, "options.quantiles has the number 1"),
        (
            {"options": {"horizon": 1, "quantiles": [1.5]}},
            "the number 1.5; expected numbers between",
        ),
        ({"options": {"horizon": 1, "quantiles": ["x"]}}, "has the string 'x'"),
        ({"options": {"horizon": 1, "quantiles": [0.5] * 100}}, "has 100 values"),
        ({"metadata": []}, "'metadata' is an array"),
    ],
)
def test_a_request_that_breaks_a_rule_is_400(rest, changes, said):
    """Every broken rule of the request is refused by a sentence that names what came."""
    answer = rest.ask("POST", PATH, json={**body(), **changes})

    assert 400 == answer.status_code
    assert said in answer.json()["error"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"type": "multivariate_time_series"},
            "inputs[0].type is the string 'multivariate_time_ser",
        ),
        ({"type": ...}, "inputs[0].type is missing"),
        (
            {"series": [[1, 2], [3, 4]]},
            "inputs[0].series[0] is an array; expected a number or null",
        ),
        ({"series": []}, "inputs[0].series is empty"),
        ({"series": ...}, "inputs[0].series is missing"),
        ({"series": [1, "2"]}, "inputs[0].series[1] is the string '2'"),
        ({"series": [True]}, "inputs[0].series[0] is true"),
        ({"name": ...}, "inputs[0].name is missing"),
        ({"frequency": "daily"}, "is the string 'daily'; expected one of"),
        ({"frequency": "hours"}, "did you mean 'hour'?"),
        ({"frequency": ["day"]}, "inputs[0].frequency is an array"),
        ({"start_timestamp": "yesterday"}, "inputs[0].start_timestamp is the string 'yesterday'"),
        ({"start_timestamp": 5}, "inputs[0].start_timestamp is the number 5"),
        ({"start_timestamp": "9999-12-31", "frequency": "year"}, "past year 9999"),
    ],
)
def test_a_series_that_breaks_a_rule_is_400(rest, changes, said):
    """Every broken rule of a series is refused by a sentence that names what came."""
    answer = rest.ask("POST", PATH, json=body(**changes))

    assert 400 == answer.status_code
    assert said in answer.json()["error"]


@pytest.mark.parametrize("frequency", ["M", "month"])
def test_a_series_in_the_models_own_step_is_forecast(frequency):
    """The model's own step and its longest horizon are taken."""
    asked = body("monthly", frequency=frequency, options={"horizon": 10})

    assert 10 == len(content(Rest(MONTHLY).ask("POST", PATH, json=asked))["mean_forecast"])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"frequency": "D"},
            "inputs[0].frequency is 'D'; model 'monthly' version 'v7' expects 'M', as "
            "it was fitted with the step 'MS'",
        ),
        (
            {"frequency": "M", "options": {"horizon": 11}},
            "options.horizon is 11; model 'monthly' version 'v7' supports 1 to 10 steps",
        ),
    ],
)
def test_what_the_model_was_not_fitted_for_is_400(changes, said):
    """A series of another step, or more steps than it gives, would be answered wrongly."""
    rest = Rest(MONTHLY)

    answer = rest.ask("POST", PATH, json=body("monthly", **changes))

    assert (400, said) == (answer.status_code, answer.json()["error"])
    assert [] == rest.bundles.requests


@pytest.mark.parametrize(
    ("step", "name"),
    [
        ("D", "D"),
        ("B", "D"),
        ("24h", "D"),
        ("60min", "H"),
        ("h", "H"),
        ("60T", "H"),
        ("s", "S"),
        ("7D", "W"),
        ("W-SUN", "W"),
        ("MS", "M"),
        ("BME", "M"),
        ("M-15", "M"),
        ("3M-31", "Q"),
        ("QS-OCT", "Q"),
        ("3MS", "Q"),
        ("YE-DEC", "Y"),
        ("15min", None),
        ("ms", None),
        ("SME-15", None),
        ("2W", None),
        ("", None),
    ],
)
def test_the_steps_of_pandas_have_kserves_names(step, name):
    """What KServe has no name for has none; nothing is compared with it then."""
    expected = None if name is None else Frequency(name)

    assert expected == Frequency.of_step(step)


def test_a_quantile_needs_the_bounds_of_an_interval():
    """A model that gives its mean only has no quantiles but 0.5."""
    rest = Rest(MEAN_ONLY)
    rest.bundles.only = ("mean",)

    answer = rest.ask("POST", PATH, json=body("plain", options={"quantiles": [0.9]}))

    assert 400 == answer.status_code
    assert "quantile 0.9 requires the output 'upper'" in answer.json()["error"]


@pytest.mark.parametrize(("model", "status"), [("nix", 404), ("broken", 503)])
def test_an_unknown_or_unready_model_is_as_everywhere(rest, model, status):
    """The route keeps the error table of all routes."""
    answer = rest.ask("POST", PATH, json=body(model))

    assert status == answer.status_code
    assert ["error"] == list(answer.json())


def test_the_list_holds_the_forecasters_that_answer(rest):
    """Models that do not forecast, or not now, are not listed."""
    assert ["arima", "prophet"] == rest.ask("GET", "/v1/timeseries/models").json()


@pytest.mark.parametrize(
    ("start", "frequency", "steps", "expected"),
    [
        ("2025-01-30T00:00:00Z", "S", 90, "2025-01-30T00:01:30Z"),
        ("2025-01-30T00:00:00", "minute", 61, "2025-01-30T01:01:00"),
        ("2025-01-30T00:00:00+02:00", "H", 25, "2025-01-31T01:00:00+02:00"),
        ("2024-02-28", "D", 2, "2024-03-01T00:00:00"),
        ("2025-01-30", "week", 1, "2025-02-06T00:00:00"),
        ("2025-01-31", "M", 1, "2025-02-28T00:00:00"),
        ("2025-11-30", "Q", 1, "2026-02-28T00:00:00"),
        ("2024-02-29", "year", 1, "2025-02-28T00:00:00"),
        ("2025-12-01", "month", 1, "2026-01-01T00:00:00"),
    ],
)
def test_steps_follow_the_calendar(start, frequency, steps, expected):
    """Months keep their day where they have it, and an offset or Z is kept."""
    moment = Moment.parse(start, "start").after(Frequency.parse(frequency, "frequency"), steps)

    assert expected == str(moment)


def test_a_models_dates_are_plain_utc():
    """Forecasters' indexes know no offset."""
    assert "2025-01-29T22:00:00" == Moment.parse("2025-01-30T00:00:00+02:00", "start").plain


def test_the_calendars_end_is_the_callers():
    """A date that no calendar holds is refused, not a failure of the server."""
    with pytest.raises(InvalidInput, match="past year 9999"):
        Moment.parse("9999-12-01", "start").after(Frequency.parse("M", "frequency"), 1)
