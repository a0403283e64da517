"""The forms and histories of real bundles, and what is told where there is none."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression
from statsmodels.tsa.arima.model import ARIMA

from bundleserver.bundle.opening import open_bundle
from bundleserver.errors import NotReady
from bundleserver.frameworks.forecasting.history import MOST_POINTS
from bundleserver.serving.page.form_data import FormData
from bundleserver.store import BundleStore
from tests.serving.fakes import FakeManager, FakeModel, FakeVersion, Gate

POINTS = 1200


class OneBundle(FakeManager):
    """Lends one open bundle, whoever asks."""

    def __init__(self, bundle):
        signature, metadata = bundle.probe.signature, bundle.metadata()
        version = FakeVersion("1", signature=signature, metadata=metadata, loaded_at=1.0)
        super().__init__(FakeModel("m", (version,)))
        self.bundle, self.lent = bundle, 0

    def acquire(self, model, version=None):
        self.lent += 1
        return nullcontext(self.bundle)


def saved(tmp_path, model, **more):
    """Save a model, and open it as the server does."""
    BundleStore(tmp_path).save("m", model, **more)
    return OneBundle(open_bundle(tmp_path / "m" / "v1", model="m"))


def series():
    """Return a long monthly series with a gap."""
    months = pd.date_range("1900-01-01", periods=POINTS, freq="MS")
    values = np.sin(np.arange(POINTS) / 6 * np.pi)
    values[-2] = np.nan
    return pd.Series(values, index=months)


@pytest.fixture(scope="module")
def forecaster(tmp_path_factory):
    """Give an ARIMA of more points than are shown."""
    return saved(tmp_path_factory.mktemp("store"), ARIMA(series(), order=(1, 0, 0)).fit())


def test_a_form_has_the_recorded_example_and_is_made_once(tmp_path):
    """What the manifest recorded stands in the fields; the next reader gets the same form."""
    table = pd.DataFrame({"a": [0.123456789, 2.0, 3.0], "b": [1.0, 0.0, 1.0]})
    model = LinearRegression().fit(table, table["a"])
    manager = saved(tmp_path, model, examples=table[:1])
    data = FormData(manager)

    async def twice():
        return [await data.form("m", None) for _ in range(2)]

    first, second = asyncio.run(twice())
    assert (("0.123456789", "1"),) == first.rows[0]
    assert ["a", "b"] == [field.name for field in first.inputs[0].fields]
    assert first is second
    assert 1 == manager.lent


def test_a_forecasters_form_knows_its_facts(forecaster):
    """Horizon, step and parameters are those of the model."""
    form = asyncio.run(FormData(forecaster).form("m", None))

    assert {"max_horizon": 10_000, "step": "MS"} == form.forecast
    assert ("level", "history_start") == form.parameters
    assert "12" == form.rows[0][0][0]


@pytest.mark.parametrize(("points", "shown"), [(3, 3), (10**9, MOST_POINTS)])
def test_a_history_is_the_end_of_the_series(forecaster, points, shown):
    """It is bounded whatever is asked for; a missing observation is null."""
    told = asyncio.run(FormData(forecaster).history("m", None, points))
    whole = series()

    assert [shown, POINTS] == [len(told["values"]), told["total"]]
    assert [whole.iloc[-3], None, whole.iloc[-1]] == told["values"][-3:]
    assert whole.index[-shown].isoformat() == told["ds"][0]
    assert told["ds"] == sorted(told["ds"])


def test_a_model_without_a_history_says_so(tmp_path):
    """The reason stands in the place of the points."""
    model = LinearRegression().fit(np.eye(3), [1, 2, 3])
    told = asyncio.run(FormData(saved(tmp_path, model)).history("m", None, 5))

    assert "does not keep" in told["reason"]
    assert "values" not in told


def test_what_a_model_raises_leaves_a_form_without_example():
    """A form needs the signature alone; an example is a favour."""
    form = asyncio.run(FormData(FakeManager(FakeModel("m"))).form("m", None))

    assert ("features", ()) == (form.inputs[0].name, form.rows)


def test_a_slow_example_is_not_waited_for():
    """The page goes on without it, and the next reader gets it."""
    gate = Gate(lambda inputs, parameters: {})

    class Slow(FakeManager):
        def acquire(self, model, version=None):
            gate({}, {})
            return super().acquire(model, version)

    data = FormData(Slow(FakeModel("m")))

    async def impatient():
        with pytest.raises(NotReady, match="takes long"):
            await data.form("m", None, 0.01)
        gate.opened.set()
        return await data.form("m", None)

    assert "1" == asyncio.run(impatient()).version


def test_a_form_of_what_is_not_ready_is_refused():
    """Its reason is the one that requests get."""
    manager = FakeManager(FakeModel("m", (), default=None, reason="nothing is there"))

    with pytest.raises(NotReady, match="nothing is there"):
        asyncio.run(FormData(manager).form("m", None))
