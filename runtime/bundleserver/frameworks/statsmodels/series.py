"""The families of statsmodels' time series results, each with its way to predict and its limits."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bundleserver.errors import LoadError
from bundleserver.frameworks.forecasting.contract import FloatArray, no_interval

Columns = tuple[FloatArray, FloatArray, FloatArray]
"""Mean, lower and upper bounds."""

SEED = 0
"""Where simulated intervals start, so that every replica and every repeat answers the same."""


@dataclass(frozen=True)
class Family:
    """What one family of results can do.

    ``predict(results, first, last, exog, alpha)`` answers the positions first to last, both
    included; 0 is the first observation, and ``exog`` has a row for each one after the series.
    """

    predict: Callable[[Any, int, int, FloatArray | None, float], Columns]
    takes_history: bool = False
    takes_missing: bool = False


def family_of(results: object, where: str) -> Family | None:
    """Tell the family of time series results; None for those of a regression.

    Raises:
        LoadError: a model that was never fitted, or results of a kind that is not served.
    """
    from statsmodels.base.model import Model, Results
    from statsmodels.tsa.ar_model import AutoRegResults
    from statsmodels.tsa.base.tsa_model import TimeSeriesModelResults
    from statsmodels.tsa.exponential_smoothing.ets import ETSResults
    from statsmodels.tsa.holtwinters import HoltWintersResults
    from statsmodels.tsa.statespace.mlemodel import MLEResults

    inner = getattr(results, "_results", results)
    if isinstance(inner, Model):
        raise LoadError(
            f"{where} holds a {class_name(inner)} that was never fitted; save what fit() returns"
        )
    if isinstance(inner, MLEResults) and inner.model.k_endog == 1:
        return Family(_predict_state_space, takes_history=True, takes_missing=True)
    if isinstance(inner, AutoRegResults):
        return Family(_predict_auto_reg, takes_history=True)
    if isinstance(inner, ETSResults):
        return Family(_predict_ets)
    if isinstance(inner, HoltWintersResults):
        return Family(_predict_holt_winters)
    if isinstance(inner, Results) and not isinstance(inner, TimeSeriesModelResults):
        return None
    raise LoadError(
        f"{where} holds a {class_name(inner)}; served are fitted results of one time series (state "
        "space models such as ARIMA, AutoReg, ETSModel, ExponentialSmoothing) and of regressions"
    )


def class_name(results: object) -> str:
    """Name the class of results, inside their wrapper, for a message."""
    cls = type(getattr(results, "_results", results))
    return f"'{cls.__module__}.{cls.__qualname__}'"


def regressor_names(model: Any) -> Sequence[object]:
    """Name the regressors of a time series model, in the order in which it takes them."""
    exog = getattr(model, "exog", None)
    count = getattr(model, "k_exog", None)
    if exog is None or count == 0:
        return ()
    # Names of trends and lags come before those of the regressors.
    return list(model.exog_names)[-(count or exog.shape[1]) :]


def forget_labels(model: Any) -> None:
    """Replace labels that are no regular dates by step numbers, so that statsmodels can go on.

    It raises when it forecasts past labels that it cannot continue (dates without a frequency; in
    AutoReg a range that does not start at 0), and in ETSModel past no labels at all.
    """
    if model._index_dates:
        return
    from pandas import RangeIndex

    model._index = RangeIndex(len(model.endog))
    model._index_generated = False
    model._index_none = False
    if hasattr(model, "use_pandas"):
        model.use_pandas = True


def _predict_state_space(
    results: Any, first: int, last: int, exog: FloatArray | None, alpha: float
) -> Columns:
    prediction = results.get_prediction(first, last, exog=exog)
    return _columns(prediction.predicted_mean, prediction.conf_int(alpha=alpha))


def _predict_auto_reg(
    results: Any, first: int, last: int, exog: FloatArray | None, alpha: float
) -> Columns:
    prediction = results.get_prediction(first, last, exog_oos=exog)
    return _columns(prediction.predicted_mean, prediction.conf_int(alpha=alpha))


def _predict_ets(
    results: Any, first: int, last: int, exog: FloatArray | None, alpha: float
) -> Columns:
    if "M" not in results.model.short_name:
        prediction = results.get_prediction(first, last)
        return _columns(prediction.predicted_mean, prediction.pred_int(alpha=alpha))
    # Multiplicative: statsmodels simulates the interval, but not reliably inside the sample.
    mean = np.asarray(results.predict(first, last), dtype=np.float64)
    bounds = np.full((len(mean), 2), np.nan)
    after = len(results.model.endog)
    if last >= after:
        prediction = results.get_prediction(max(first, after), last, **_seeded(results))
        simulated = np.asarray(prediction.pred_int(alpha=alpha))
        bounds[len(mean) - len(simulated) :] = simulated
    return _columns(mean, bounds)


def _predict_holt_winters(
    results: Any, first: int, last: int, exog: FloatArray | None, alpha: float
) -> Columns:
    mean = np.asarray(results.predict(first, last), dtype=np.float64)
    return mean, no_interval(len(mean)), no_interval(len(mean))


def _seeded(results: Any) -> dict[str, object]:
    # statsmodels 0.15 renamed random_state.
    takes = inspect.signature(results.simulate).parameters
    return {"rng" if "rng" in takes else "random_state": np.random.RandomState(SEED)}


def _columns(mean: object, bounds: object) -> Columns:
    both = np.asarray(bounds, dtype=np.float64)
    return np.asarray(mean, dtype=np.float64), both[:, 0], both[:, 1]
