"""statsmodels: saved results of a fitted time series (a forecaster) or of a regression.

Files are ``results.save(path)``, pickle or joblib dumps. Time series: state space models (ARIMA,
SARIMAX, UnobservedComponents and others of one series), AutoReg, ETSModel, and the Holt-Winters
family, which has no interval: its ``lower`` and ``upper`` are NaN. Forecasts have the bits of the
library's own ``get_prediction`` over the same range.

``history`` replaces the training series (the library's ``apply``, parameters fixed): state space
models, where NaN is a missing observation, and AutoReg. It starts where the training series does
unless the parameter ``history_start`` is given; ``horizon`` and ``ds`` then follow it. Of the
regressors only the values after the series are used: in-sample answers use the training values.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from threading import RLock
from typing import Any

import numpy as np

from bundleserver.errors import HistoryTooLong, InvalidInput, LoadError, StoreError
from bundleserver.frameworks import LoadContext, Predictor, pickles
from bundleserver.frameworks.forecasting.contract import (
    FloatArray,
    ForecastRequest,
    check_names,
    forecast_signature,
)
from bundleserver.frameworks.forecasting.forecaster import (
    DEFAULT_MAX_HORIZON,
    CachingForecaster,
    int_option,
    max_horizon_option,
)
from bundleserver.frameworks.forecasting.history import History
from bundleserver.frameworks.forecasting.timegrid import Positions, TimeGrid, iso_dates
from bundleserver.frameworks.interface import first_line
from bundleserver.frameworks.statsmodels.regression import RegressionPredictor
from bundleserver.frameworks.statsmodels.series import (
    Family,
    bytes_per_observation,
    class_name,
    drop_labels,
    family_of,
    installed,
    longest_history,
    longest_horizon,
    regressor_names,
)
from bundleserver.tensors import Array, NamedTensor, TensorSpec


def load(path: Path, context: LoadContext) -> Predictor:
    """Open saved results, as a forecaster or as a regression.

    Raises:
        LoadError: not results, a kind that is not supported, or results that cannot forecast.
    """
    where = f"'{path}'"
    results: Any = pickles.load(path, context.trust)
    family = family_of(results, where)
    if family is None:
        return RegressionPredictor(results, where)
    if results.model.endog is None:
        raise LoadError(
            f"{where} has a {class_name(results)} whose series was removed, and a forecast starts "
            "from it; save the results without remove_data"
        )
    longest = min(DEFAULT_MAX_HORIZON, longest_horizon(results.model))
    max_horizon = max_horizon_option(context.options, where, ("max_history",), longest)
    max_history = int_option(
        context.options, "max_history", longest_history(results.model), 0, where
    )
    try:
        forecaster = Forecaster(results, family, max_horizon, where, max_history)
        forecaster.check()
    except LoadError:
        raise
    except Exception as error:
        raise LoadError(
            f"{where} has a {class_name(results)} that cannot forecast: {first_line(error)}; save "
            f"the complete results of fit(), with {installed()}"
        ) from error
    return forecaster


def save(model: object, directory: Path, stem: str) -> tuple[Path, dict[str, object]]:
    """Write fitted results with the library's own ``save``, as ``stem.pkl``.

    Raises:
        StoreError: the results cannot be served.
    """
    try:
        family_of(model, f"component '{stem}'")
    except LoadError as error:
        raise StoreError(str(error)) from error
    results: Any = model
    path = directory / f"{stem}.pkl"
    results.save(str(path))
    return path, {}


class Forecaster(CachingForecaster):
    """Fitted results of one time series.

    statsmodels changes the model while it predicts (parameters, extended matrices, prediction
    dates), so a lock allows one call at a time.
    """

    def __init__(
        self, results: Any, family: Family, max_horizon: int, where: str, max_history: int = 0
    ) -> None:
        """Wrap results; a history has so many observations at most, 0: any number.

        Raises:
            LoadError: the names of its regressors cannot be inputs.
        """
        self._max_history = max_history
        drop_labels(results.model)
        self._family = family
        self._class = class_name(results)
        self._lock = RLock()
        self._grid = TimeGrid.from_index(results.model._index)
        names = regressor_names(results.model)
        self._regressors = tuple(TensorSpec(str(name), "FP64", (-1,)) for name in names)
        check_names(self._regressors, where)
        signature = forecast_signature(
            self._regressors, timed=self._grid is not None, refused=dict(self._refused())
        )
        step = None if self._grid is None else self._grid.step.freqstr
        # Every family predicts step by step, so that its first steps do not depend on later ones.
        super().__init__(results, signature, max_horizon, step, prefixes=True)

    def check(self) -> None:
        """Forecast one step, with zeros for the regressors.

        Raises:
            Exception: the library cannot forecast with these results.
        """
        length = len(self._model.model.endog)
        exog = np.zeros((1, len(self._regressors))) if self._regressors else None
        self._family.predict(self._model, length, length, exog, 0.05)

    def samples(self, method: str, rows: int) -> Sequence[Sequence[NamedTensor]]:
        """Return the inputs of the step after the series, with the last values of regressors."""
        horizon = NamedTensor("horizon", np.ones(1, dtype=np.int64))
        if not self._regressors:
            return [[horizon]]
        exog = np.asarray(self._model.model.data.orig_exog, dtype=np.float64)
        specs = self._regressors
        # Columns of trends may come before those of the regressors.
        last = exog.reshape(len(exog), -1)[-1, -len(specs) :]
        return [[horizon, *(NamedTensor(s.name, last[i : i + 1]) for i, s in enumerate(specs))]]

    def history(self, points: int) -> History | None:
        """Return the last points of the training series."""
        dates = None if self._grid is None else self._grid.past
        return History.last(self._model.model.endog, dates, points)

    def _forecast(self, request: ForecastRequest) -> Sequence[Array]:
        if request.history is None:
            return self._answer(self._model, self._grid, request)
        if 0 < self._max_history < len(request.history):
            # Nothing can stop the library once it has begun.
            each = bytes_per_observation(self._model.model)
            raise HistoryTooLong(len(request.history), self._max_history, each)
        grid = self._grid_of(request.history, request.history_start)
        with self._lock:
            # One at a time, since each may need a lot of memory until it is answered.
            return self._answer(self._apply(request.history, grid), grid, request)

    def _refused(self) -> Iterator[tuple[str, str]]:
        """Yield the contract's inputs that this model does not support, with the reason."""
        if self._grid is None:
            yield (
                "ds",
                "the model was fitted without dates, or with dates that have no regular frequency; "
                "send 'horizon' instead",
            )
        if self._regressors:
            yield (
                "history",
                "the model has regressors, whose past values cannot be sent; omit 'history'",
            )
        elif not self._family.allows_history:
            yield (
                "history",
                f"{self._class} does not apply to a new series without a refit; omit 'history'",
            )

    def _answer(
        self, results: Any, grid: TimeGrid | None, request: ForecastRequest
    ) -> Sequence[Array]:
        length = len(results.model.endog)
        dates, positions = self._steps(grid, length, request)
        exog = self._future_regressors(request, positions, length)
        first, last = min(int(positions.min()), length), int(positions.max())
        # 1 - 0.95 is not 0.05 in binary; the bits of the bounds depend on it.
        alpha = float(1 - Decimal(repr(request.level)))
        with self._lock:
            columns = self._family.predict(results, first, last, exog, alpha)
        return [*(column[positions - first] for column in columns), *dates]

    def _steps(
        self, grid: TimeGrid | None, length: int, request: ForecastRequest
    ) -> tuple[list[Array], Positions]:
        if request.ds is None or grid is None:
            dates = [] if grid is None else [iso_dates(grid.after(request.steps))]
            return dates, np.arange(length, length + request.steps)
        asked, positions = grid.locate(request.ds, self._max_horizon)
        return [iso_dates(asked)], positions

    def _future_regressors(
        self, request: ForecastRequest, positions: Positions, length: int
    ) -> FloatArray | None:
        future = np.flatnonzero(positions >= length)
        if not self._regressors or not len(future):
            return None
        rows = future[np.argsort(positions[future])]
        if positions[rows[-1]] - length + 1 != len(rows):
            raise InvalidInput(
                "input 'ds' lacks dates between the end of the series and the last date; the model "
                "has regressors and needs their values on every date between"
            )
        columns = np.array([request.regressors[spec.name][rows] for spec in self._regressors])
        # The array layout as in a direct call; the last bit of a product depends on it.
        named = hasattr(self._model.model.data.orig_exog, "columns")
        return columns.T if named else np.ascontiguousarray(columns.T)

    def _grid_of(self, history: FloatArray, start: str | None) -> TimeGrid | None:
        if np.isnan(history).any() and not self._family.allows_missing:
            raise InvalidInput(
                f"input 'history' has NaN; {self._class} does not support missing observations"
            )
        if self._grid is not None:
            return self._grid.starting(start, len(history))
        if start is not None:
            raise InvalidInput("parameter 'history_start' requires a model with a time index")
        return None

    def _apply(self, history: FloatArray, grid: TimeGrid | None) -> Any:
        try:
            return self._model.apply(history if grid is None else grid.label(history))
        except ValueError as error:
            # AutoReg puts a preamble first and the cause last.
            cause = ValueError(error.args[-1] if error.args else error)
            raise InvalidInput(
                f"input 'history' has {len(history)} observations, which the model rejects: "
                f"{first_line(cause)}"
            ) from error
