"""Prophet's mean and interval of any dates, an interval independent of the other dates.

Prophet widens its interval with every date of a frame after the history, not with the time between
them. So its trend is sampled on all dates between the history and the last requested one, at the
step of the history (its mean spacing, if it has no step). A date between two of them has the
uncertainty between theirs.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bundleserver.frameworks.forecasting.contract import FloatArray, no_interval
from bundleserver.frameworks.forecasting.steps import Step, mean_step, steps_through

SEED = 0
"""The seed of the intervals of every call."""

MOST_STEPS = 10_000
"""The most dates that are sampled for one that is far away; they then lie further apart."""

# Prophet draws from numpy's global generator, which all models of the process share.
_RANDOM = Lock()

Forecast = tuple[FloatArray, FloatArray, FloatArray]
"""Mean, lower and upper bounds."""

_Sample = Callable[[pd.DataFrame, int, int], FloatArray]


class Intervals:
    """How one fitted model is asked; ``fill`` is the step of the sampled dates.

    Every call uses a shallow copy with its own interval width. Any thread may call; one call at a
    time samples an interval, across all Prophet models of the process.
    """

    def __init__(self, model: Any, step: Step | None, max_horizon: int) -> None:
        # The interval widens after the last observation, which may be before the last date.
        self._start = model.history["ds"].max()
        self.fill = step or mean_step(pd.DatetimeIndex(model.history["ds"]))
        self._most = max(MOST_STEPS, max_horizon)

    def predict(self, fitted: Any, asked: pd.DataFrame, level: float) -> Forecast:
        """Predict ascending dates ``ds``, with the model's other columns."""
        model = copy.copy(fitted)
        model.interval_width = level
        if not model.uncertainty_samples:
            steps = len(asked)
            return _floats(model.predict(asked)["yhat"]), no_interval(steps), no_interval(steps)
        whole, on_grid = self._fill_gaps(asked)
        rows = np.searchsorted(whole["ds"].to_numpy(), asked["ds"].to_numpy())
        if not on_grid.all():
            model._sample_uncertainty = _between(model._sample_uncertainty, on_grid)
        with _seeded():
            sampled = model.predict(whole).iloc[rows]
        mean = sampled["yhat"]
        if len(whole) > len(asked):
            model.uncertainty_samples = 0
            mean = model.predict(asked)["yhat"]
        return _floats(mean), _floats(sampled["yhat_lower"]), _floats(sampled["yhat_upper"])

    def _fill_gaps(self, asked: pd.DataFrame) -> tuple[pd.DataFrame, npt.NDArray[np.bool_]]:
        """Add the dates to sample; return also which rows are those or not after the history.

        An added row repeats the columns of a requested date beside it; its own result is not used.
        """
        dates = asked["ds"].to_numpy()
        end = asked["ds"].iloc[-1]
        if end <= self._start:
            return asked, np.ones(len(asked), dtype=np.bool_)
        between = steps_through(self.fill, self._start, end, self._most).to_numpy()
        needed = np.union1d(dates, between)
        source = np.minimum(np.searchsorted(dates, needed), len(dates) - 1)
        whole = asked.iloc[source].reset_index(drop=True).assign(ds=needed)
        is_past = needed <= self._start.to_datetime64()
        return whole, is_past | np.isin(needed, between)


def _between(sample: _Sample, on_grid: npt.NDArray[np.bool_]) -> _Sample:
    """Sample the rows on the grid alone; the others have what lies between their neighbours."""

    def sampled(frame: pd.DataFrame, n_samples: int, iteration: int = 0) -> FloatArray:
        grid = sample(frame[on_grid], n_samples, iteration)
        times = frame["t"].to_numpy()
        # There is no uncertainty at the end of the history, whose time is 1.
        known = np.concatenate(([1.0], times[on_grid & (times > 1)]))
        drawn = grid[:, -(len(known) - 1) :]
        drawn = np.concatenate((np.zeros((n_samples, 1)), drawn), axis=1)
        right = np.clip(np.searchsorted(known, times), 1, len(known) - 1)
        weight = np.clip((times - known[right - 1]) / (known[right] - known[right - 1]), 0, 1)
        return np.asarray(drawn[:, right - 1] * (1 - weight) + drawn[:, right] * weight)

    return sampled


@contextmanager
def _seeded() -> Iterator[None]:
    with _RANDOM:
        state = np.random.get_state()
        np.random.seed(SEED)
        try:
            yield
        finally:
            np.random.set_state(state)


def _floats(column: pd.Series[float]) -> FloatArray:
    return np.asarray(column, dtype=np.float64)
