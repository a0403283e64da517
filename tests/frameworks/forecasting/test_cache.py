from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from prophet import Prophet
from statsmodels.tsa.api import AutoReg, ExponentialSmoothing
from statsmodels.tsa.arima.model import ARIMA
from statsmodels.tsa.exponential_smoothing.ets import ETSModel

from bundleserver.bundle.plan import make_plan
from bundleserver.bundle.steps import Plan
from bundleserver.errors import InvalidInput
from bundleserver.frameworks import LoadContext
from bundleserver.frameworks.forecasting.cache import ForecastCache
from bundleserver.frameworks.forecasting.contract import ForecastRequest
from bundleserver.frameworks.prophet import framework as prophet_framework
from bundleserver.frameworks.statsmodels import framework
from bundleserver.manifest import Component, Manifest
from bundleserver.tensors import NamedTensor

COMPONENT = Component("model", "statsmodels", path="model.pkl")
WAIT_SECONDS = 30
SERIES = pd.Series(
    100 + np.arange(72.0) + 10 * np.sin(np.arange(72)),
    index=pd.date_range("2019-01-01", periods=72, freq="MS"),
) + np.random.default_rng(0).normal(size=72)

FAMILIES = {
    "ARIMA": lambda y: ARIMA(y, order=(2, 1, 1)).fit(),
    "seasonal": lambda y: sm.tsa.SARIMAX(
        y, order=(1, 1, 0), seasonal_order=(1, 0, 0, 12), trend="c"
    ).fit(disp=0),
    "components": lambda y: sm.tsa.UnobservedComponents(y, "local linear trend").fit(disp=0),
    "AutoReg": lambda y: AutoReg(y, lags=3, trend="ct").fit(),
    "ETS": lambda y: ETSModel(y, error="add", trend="add").fit(disp=0),
    "ETS, simulated": lambda y: ETSModel(y, error="mul", trend="add").fit(disp=0),
    "Holt-Winters": lambda y: ExponentialSmoothing(y, trend="add").fit(),
}


def request(horizon=3, level=0.95, **given):
    """Make a checked request."""
    fields = {"ds": None, "history": None, "history_start": None, "regressors": {}}
    return ForecastRequest(**{"horizon": horizon, "level": level, **fields, **given})


def steps(count, start=0.0):
    """Make a computation that answers so many steps, and a list that counts its calls."""
    calls = []

    def compute():
        calls.append(count)
        return [start + np.arange(float(count))]

    return compute, calls


def tensor(name, values):
    """Make one input as a request brings it."""
    return NamedTensor(name, np.array(values))


def reload(results, directory):
    """Save results and open them as the server does."""
    path, options = framework.save(results, directory, "model")
    return framework.load(path, LoadContext(options))


def asked(predictor, horizon, *more, **parameters):
    """Ask for a forecast; give its bytes, dates as text."""
    answer = predictor.call("forecast", [tensor("horizon", [horizon]), *more], parameters)
    return [column.tolist() if column.dtype == object else column.tobytes() for column in answer]


def test_the_same_request_is_computed_once():
    """A repeat is answered from the cache."""
    cache, (compute, calls) = ForecastCache(prefixes=False), steps(3)
    answers = [cache.answer(request(), compute) for _ in range(3)]

    assert [[[0.0, 1.0, 2.0]]] * 3 == [[a.tolist() for a in answer] for answer in answers]
    assert [3] == calls


def test_a_memo_tells_what_it_has():
    """What is on its way, has failed, or is longer than what is there, is not there."""
    cache, (compute, _), failed = ForecastCache(prefixes=True), steps(3), request(level=0.5)
    seen = []

    def watched():
        seen.append(cache.has(request()))
        return compute()

    assert not cache.has(request())
    cache.answer(request(), watched)
    with pytest.raises(ZeroDivisionError):
        cache.answer(failed, lambda: 1 // 0)

    assert [False] == seen
    assert [True, True, False] == [cache.has(request(horizon)) for horizon in (2, 3, 4)]
    assert not cache.has(failed)
    cache.clear()
    assert not cache.has(request())


def test_a_forecaster_tells_what_it_remembers(tmp_path):
    """By everything that a request says; what it refuses, it refuses here too."""
    predictor = reload(FAMILIES["ARIMA"](SERIES), tmp_path)
    asked(predictor, 4, level=0.9)

    def cached(horizon, **parameters):
        return predictor.is_cached("forecast", [tensor("horizon", [horizon])], parameters)

    assert cached(4, level=0.9)
    assert cached(3, level=0.9)
    assert not cached(5, level=0.9)
    assert not cached(4, level=0.8)
    with pytest.raises(InvalidInput, match="horizon"):
        cached(0)


def test_a_bundle_remembers_where_a_forecaster_stands_alone(tmp_path):
    """Several steps, and models of other kinds, answer anew each time."""
    forecaster = reload(FAMILIES["ARIMA"](SERIES), tmp_path)
    (alone,) = make_plan(Manifest("m", {"model": COMPONENT}), {"model": forecaster}).steps
    recall = Plan((alone,), alone.signature).recall()
    asked(forecaster, 3)

    assert recall is not None
    assert recall({"horizon": tensor("horizon", [3])}, {})
    assert not recall({"horizon": tensor("horizon", [4])}, {})
    assert Plan((alone, alone), alone.signature).recall() is None
    assert Plan((replace(alone, is_cached=None),), alone.signature).recall() is None


@pytest.mark.parametrize(
    "other",
    [
        {"level": 0.9},
        {"horizon": 4},
        {"history": np.array([1.0, 2.0])},
        {"history": np.array([1.0, 2.0]), "history_start": "2020-01-01"},
        {"regressors": {"price": np.array([1.0, 2.0, 3.0])}},
        {"horizon": None, "ds": ("2020-01-01", "2020-02-01", "2020-03-01")},
        {"horizon": None, "ds": ("2020-01-01,2020-02-01", "", "2020-03-01")},
    ],
)
def test_every_part_of_a_request_counts(other):
    """Requests that differ in anything do not share an answer."""
    cache, (first, _), (second, calls) = ForecastCache(prefixes=True), steps(3), steps(3, 10.0)
    for given in (
        {},
        {"history": np.array([1.0, 2.5])},
        {"regressors": {"price": np.array([1.0, 2.0, 3.5])}},
        {"horizon": None, "ds": ("2020-01-01", "2020-02-01", "2020-04-01")},
    ):
        cache.answer(request(**given), first)

    assert 10.0 == cache.answer(request(**other), second)[0][0]
    assert [3] == calls


def test_a_shorter_horizon_is_the_beginning_of_a_longer_one():
    """With prefixes only a longer horizon than any before is computed."""
    cache, (long, long_calls), (short, short_calls) = (
        ForecastCache(prefixes=True),
        steps(9),
        steps(4),
    )
    cache.answer(request(4), short)
    cache.answer(request(9), long)

    assert [0.0, 1.0, 2.0] == cache.answer(request(3), short)[0].tolist()
    assert [9] == long_calls
    assert [4] == short_calls


@pytest.mark.parametrize(
    "given", [{"horizon": None, "ds": ("a", "b")}, {"regressors": {"price": np.arange(2.0)}}]
)
def test_dates_and_regressors_have_no_prefixes(given):
    """What names its steps is answered for exactly these steps."""
    cache, (compute, calls) = ForecastCache(prefixes=True), steps(2)
    longer = {
        "ds": ("a", "b", "c") if "ds" in given else None,
        "regressors": {"price": np.arange(3.0)} if "regressors" in given else {},
    }
    cache.answer(request(None if "ds" in given else 3, **longer), steps(3)[0])
    cache.answer(request(**{"horizon": 2, **given}), compute)

    assert [2] == calls


def test_callers_cannot_write_into_the_cache():
    """Neither the answer nor the array that was computed leads to what is remembered."""
    cache, computed = ForecastCache(prefixes=True), np.arange(3.0)
    answer = cache.answer(request(), lambda: [computed])
    computed[:] = 7

    with pytest.raises(ValueError, match="read-only"):
        answer[0][0] = 9
    with pytest.raises(ValueError, match="read-only"):
        cache.answer(request(2), steps(2)[0])[0][0] = 9
    assert [0.0, 1.0, 2.0] == cache.answer(request(), steps(3)[0])[0].tolist()


def test_the_answer_not_asked_for_longest_goes_first():
    """The number of answers is bounded; asking for one keeps it."""
    cache, (compute, calls) = ForecastCache(prefixes=False, max_entries=2), steps(1)
    for level in (0.1, 0.2, 0.1, 0.3, 0.1):
        cache.answer(request(level=level), compute)

    assert 3 == len(calls)
    cache.answer(request(level=0.2), compute)
    assert 4 == len(calls)


def test_the_bytes_of_all_answers_are_bounded():
    """Answers, the texts in them too, go when together they take too much."""
    cache, calls = ForecastCache(prefixes=False, max_bytes=10_000), []

    def compute():
        calls.append(1)
        return [np.array([f"{i:01000d}" for i in range(6)], dtype=object)]

    for level in (0.1, 0.1, 0.2, 0.1):
        cache.answer(request(level=level), compute)

    assert 3 == len(calls)


def test_an_answer_over_the_limit_is_given_and_not_kept():
    """One answer that is larger than the cache does not stay, and drives no other out."""
    cache, (large, large_calls) = ForecastCache(prefixes=True, max_bytes=100), steps(50)
    small, small_calls = steps(5)
    for _ in range(2):
        assert 50 == len(cache.answer(request(50, level=0.5), large)[0])
        assert 5 == len(cache.answer(request(5), small)[0])

    assert [50, 50] == large_calls
    assert [5] == small_calls


def test_what_raises_is_not_remembered():
    """After a failure the same request is computed again."""
    cache = ForecastCache(prefixes=True)

    def fail():
        raise InvalidInput("no")

    with pytest.raises(InvalidInput):
        cache.answer(request(), fail)
    assert [0.0] == cache.answer(request(1), steps(1)[0])[0].tolist()


def test_threads_that_ask_at_once_compute_once():
    """While one thread computes, others that ask the same, or a part of it, wait for it."""
    cache, started, release, calls = (
        ForecastCache(prefixes=True),
        threading.Event(),
        threading.Event(),
        [],
    )

    def slow():
        calls.append(1)
        started.set()
        assert release.wait(WAIT_SECONDS)
        return [np.arange(9.0)]

    with ThreadPoolExecutor(5) as pool:
        first = pool.submit(cache.answer, request(9), slow)
        assert started.wait(WAIT_SECONDS)
        others = [pool.submit(cache.answer, request(n), slow) for n in (9, 9, 4, 1)]
        other_key = cache.answer(request(2, level=0.5), steps(2)[0])
        release.set()
        lengths = [len(each.result(WAIT_SECONDS)[0]) for each in (first, *others)]

    assert [9, 9, 9, 4, 1] == lengths
    assert [1] == calls
    assert 2 == len(other_key[0])


def test_who_waits_for_a_failure_computes_itself():
    """A thread whose predecessor failed gets its own answer or its own error."""
    cache, started, release = ForecastCache(prefixes=True), threading.Event(), threading.Event()

    def fail():
        started.set()
        assert release.wait(WAIT_SECONDS)
        raise InvalidInput("no")

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(cache.answer, request(), fail)
        assert started.wait(WAIT_SECONDS)
        second = pool.submit(cache.answer, request(), steps(3)[0])
        release.set()

        assert 3 == len(second.result(WAIT_SECONDS)[0])
        assert isinstance(first.exception(WAIT_SECONDS), InvalidInput)


def test_a_cleared_memo_keeps_nothing_that_comes_later():
    """An answer that arrives after the cache was cleared is given to its caller only."""
    cache, (compute, calls) = ForecastCache(prefixes=True), steps(3)

    def clearing():
        cache.clear()
        return compute()

    cache.answer(request(), clearing)
    cache.answer(request(), compute)
    cache.clear()
    cache.answer(request(), compute)

    assert 3 == len(calls)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("dated", [True, False])
def test_every_family_begins_alike_however_far_it_goes(name, dated, tmp_path):
    """A shorter horizon is a longer one's beginning to the bit, whichever is asked for first."""
    series = SERIES if dated else SERIES.to_numpy()
    results = FAMILIES[name](series)
    longest = reload(results, tmp_path)
    asked(longest, 60)
    for horizon in (1, 2, 7, 24, 59):
        fresh = asked(reload(results, tmp_path), horizon)

        assert fresh == asked(longest, horizon)


@pytest.mark.parametrize("name", ["ARIMA", "components", "AutoReg"])
def test_a_history_has_its_own_answers(name, tmp_path):
    """What is forecast after other observations is remembered for these alone."""
    results = FAMILIES[name](SERIES)
    predictor, fresh = reload(results, tmp_path), reload(results, tmp_path)
    history = tensor("history", SERIES.to_numpy()[:40] + 5)
    asked(predictor, 12)
    asked(predictor, 12, tensor("history", SERIES.to_numpy()[:40] + 4))
    asked(predictor, 12, history)

    assert asked(fresh, 5, history) == asked(predictor, 5, history)
    assert asked(reload(results, tmp_path), 12) == asked(predictor, 12)


@pytest.fixture(scope="module")
def days():
    """Fit Prophet on days."""
    frame = pd.DataFrame({"ds": pd.date_range("2024-01-01", periods=80), "y": np.arange(80.0)})
    frame["y"] += np.random.default_rng(0).normal(size=80)
    return Prophet(uncertainty_samples=100).fit(frame)


def test_prophet_answers_each_horizon_as_if_it_were_the_first(days, tmp_path):
    """What was asked before never shows in an interval; a repeat gives the same bits."""
    path, options = prophet_framework.save(days, tmp_path, "model")
    predictor = prophet_framework.load(path, LoadContext(options))
    asked(predictor, 14)
    fresh = prophet_framework.load(path, LoadContext(options))

    assert asked(fresh, 3) == asked(predictor, 3)
    assert asked(fresh, 3) == asked(predictor, 3)
    assert asked(predictor, 3) != asked(predictor, 3, level=0.5)


@pytest.mark.parametrize("kind", ["ARIMA", "Prophet"])
def test_the_memo_dies_with_its_predictor(kind, days, tmp_path):
    """A closed forecaster holds no answer any more."""
    if kind == "ARIMA":
        predictor = reload(FAMILIES["ARIMA"](SERIES), tmp_path)
    else:
        path, options = prophet_framework.save(days, tmp_path, "model")
        predictor = prophet_framework.load(path, LoadContext(options))
    asked(predictor, 3)
    predictor.close()

    with pytest.raises((AttributeError, TypeError)):
        asked(predictor, 3)
