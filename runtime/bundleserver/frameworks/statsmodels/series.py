"""The families of statsmodels' time series results: how each predicts, and its limits."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from typing import Any

import numpy as np
from pandas import RangeIndex

from bundleserver.errors import LoadError
from bundleserver.frameworks.forecasting.contract import FloatArray, no_interval

Columns = tuple[FloatArray, FloatArray, FloatArray]
"""Mean, lower and upper bounds."""

HISTORY_BYTES = 2**29
"""What the library may keep for one request, by ``bytes_per_observation``."""

SEED = 0
"""The seed of simulated intervals, so that all replicas and calls return the same."""


@dataclass(frozen=True)
class Family:
    """The capabilities of one family of results.

    ``predict(results, first, last, exog, alpha)`` returns the positions first to last, both
    included; 0 is the first observation, and ``exog`` has a row for each one after the series.
    """

    predict: Callable[[Any, int, int, FloatArray | None, float], Columns]
    allows_history: bool = False
    allows_missing: bool = False


def family_of(results: object, where: str) -> Family | None:
    """Return the family of time series results; None for those of a regression.

    Raises:
        LoadError: a model that is not fitted, or results of a kind that is not supported.
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
            f"{where} has a {class_name(inner)} that is not fitted; save the result of fit()"
        )
    if isinstance(inner, MLEResults) and inner.model.k_endog == 1:
        return Family(partial(_predict, "exog"), allows_history=True, allows_missing=True)
    if isinstance(inner, AutoRegResults):
        return Family(partial(_predict, "exog_oos"), allows_history=True)
    if isinstance(inner, ETSResults):
        return Family(_predict_ets)
    if isinstance(inner, HoltWintersResults):
        return Family(_predict_holt_winters)
    if isinstance(inner, Results) and not isinstance(inner, TimeSeriesModelResults):
        return None
    raise LoadError(
        f"{where} has a {class_name(inner)}; expected fitted results of one time series (state "
        "space models such as ARIMA, AutoReg, ETSModel, ExponentialSmoothing) or of a regression"
    )


def class_name(results: object) -> str:
    """Return the class of results, inside their wrapper, for a message."""
    cls = type(getattr(results, "_results", results))
    return f"'{cls.__module__}.{cls.__qualname__}'"


def installed() -> str:
    """Name the installed versions, for the message on a file that may come from others."""
    names = ("statsmodels", "patsy", "pandas")
    return ", ".join(f"{name} {version(name)}" for name in names)


def bytes_per_observation(model: Any) -> int:
    """Estimate how many bytes ``apply`` keeps for each observation; it is a little more than that.

    A state space model keeps, from its filter and its smoother, a dozen matrices of states by
    states and as many vectors; measured with 3 to 49 states.
    """
    states = int(getattr(model, "k_states", 0))
    return 100 * states * states + 200 * states + 200


def longest_history(model: Any) -> int:
    """Return how many observations a history has at most: not fewer than the training series."""
    return max(len(model.endog), HISTORY_BYTES // bytes_per_observation(model))


def longest_horizon(model: Any) -> int:
    """Return how many steps need no more memory than a history may; not less than the series.

    Of a step fewer matrices are kept than of an observation.
    """
    return max(len(model.endog), 5 * HISTORY_BYTES // (2 * bytes_per_observation(model)))


def regressor_names(model: Any) -> Sequence[object]:
    """Return the names of a time series model's regressors, in the model's order."""
    exog = getattr(model, "exog", None)
    count = getattr(model, "k_exog", None)
    if exog is None or count == 0:
        return ()
    # Names of trends and lags come before those of the regressors.
    return list(model.exog_names)[-(count or exog.shape[1]) :]


def drop_labels(model: Any) -> None:
    """Replace labels that are not regular dates by step numbers.

    statsmodels raises when it forecasts past labels that it cannot continue (dates without a
    frequency; in AutoReg a range that does not start at 0), and in ETSModel past no labels at all.
    """
    if model._index_dates:
        return
    model._index = RangeIndex(len(model.endog))
    model._index_generated = False
    model._index_none = False
    if hasattr(model, "use_pandas"):
        model.use_pandas = True


def _predict(
    name: str, results: Any, first: int, last: int, exog: FloatArray | None, alpha: float
) -> Columns:
    """Predict with the regressors as the keyword ``name``."""
    prediction = results.get_prediction(first, last, **{name: exog})
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
    parameters = inspect.signature(results.simulate).parameters
    return {"rng" if "rng" in parameters else "random_state": np.random.RandomState(SEED)}


def _columns(mean: object, bounds: object) -> Columns:
    both = np.asarray(bounds, dtype=np.float64)
    return np.asarray(mean, dtype=np.float64), both[:, 0], both[:, 1]
