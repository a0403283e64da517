"""The series that a bundle's forecaster was fitted on, through steps and nested bundles."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression
from statsmodels.tsa.arima.model import ARIMA
from statsmodels.tsa.holtwinters import ExponentialSmoothing

from bundleserver.bundle.opening import open_bundle
from bundleserver.store import BundleStore

VALUES = 10 + np.sin(np.arange(60))


def opened(tmp_path, model):
    """Save a model, and open it."""
    BundleStore(tmp_path).save("m", model)
    return open_bundle(tmp_path / "m" / "v1", model="m")


@pytest.mark.parametrize(
    "fit",
    [
        lambda values: ARIMA(values, order=(1, 0, 0)).fit(),
        lambda values: ExponentialSmoothing(values, trend="add").fit(),
    ],
    ids=["ARIMA", "Holt-Winters"],
)
def test_a_forecaster_tells_its_last_points(tmp_path, fit):
    """A series without dates has values alone."""
    history = opened(tmp_path, fit(VALUES)).history(4)

    assert VALUES[-4:].tolist() == history.values.tolist()
    assert ((), 60) == (history.dates, history.total)


def test_dates_are_those_of_the_model(tmp_path):
    """Each point has its date in ISO 8601."""
    hours = pd.date_range("2025-03-01", periods=60, freq="h")
    history = opened(tmp_path, ARIMA(pd.Series(VALUES, index=hours)).fit()).history(2)

    assert ("2025-03-03T10:00:00", "2025-03-03T11:00:00") == history.dates


def test_other_models_have_none(tmp_path):
    """A regression has no series."""
    assert opened(tmp_path, LinearRegression().fit(np.eye(2), [1, 2])).history(5) is None


def test_nobody_can_change_the_model_by_its_history(tmp_path):
    """The points are copies."""
    bundle = opened(tmp_path, ARIMA(VALUES, order=(1, 0, 0)).fit())
    bundle.history(3).values[:] = 0

    assert VALUES[-3:].tolist() == bundle.history(3).values.tolist()
