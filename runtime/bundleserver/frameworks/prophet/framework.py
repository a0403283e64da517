"""Prophet: models as JSON (``prophet.serialize.model_to_json``), or in a pickle or joblib file.

``mean`` is Prophet's ``yhat`` for the dates asked, to the bit. ``lower`` and ``upper`` come from
random sampling: here from a fixed seed, so that every replica and every repeat answers the same; a
model without ``uncertainty_samples`` has none (NaN). Prophet widens its interval with every date of
the frame that it is given, not with the time between them. So dates that leave gaps after the
history are sampled along all dates between: an interval does not depend on what else is asked.

Inputs beside the contract's, for every date asked: extra regressors; ``cap`` (and ``floor``, where
it was fitted with one) of logistic growth; the condition of a conditional seasonality, as BOOL.
"""

from __future__ import annotations

import copy
import json
import logging
import pickle
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from bundleserver.errors import InvalidInput, LoadError, StoreError
from bundleserver.frameworks import LoadContext, Predictor, pickles
from bundleserver.frameworks.forecasting.contract import (
    FloatArray,
    ForecastRequest,
    check_names,
    forecast_signature,
    no_interval,
)
from bundleserver.frameworks.forecasting.forecaster import CachingForecaster, max_horizon_option
from bundleserver.tensors import Array, TensorSpec

if TYPE_CHECKING:
    import pandas as pd

SEED = 0
"""Where the random intervals of every call start."""

# Prophet draws from numpy's global generator, which all models of the process share.
_RANDOM = Lock()


def load(path: Path, context: LoadContext) -> Predictor:
    """Open a fitted Prophet model.

    Raises:
        LoadError: no Prophet model, or one that was never fitted.
    """
    where = f"'{path}'"
    max_horizon = max_horizon_option(context.options, where)
    model = _read(path)
    if model.history is None or not len(model.params):
        raise LoadError(
            f"{where} holds a Prophet model that was never fitted; fit it, then save it"
        )
    try:
        return Forecaster(model, max_horizon, where)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise LoadError(
            f"{where}: the Prophet model is incomplete: {error!r}; save it again"
        ) from error


def save(model: object, directory: Path, stem: str) -> tuple[Path, dict[str, object]]:
    """Write a fitted model as ``stem.json``.

    A model that predicts its own regressors is written as ``stem.pkl``: Prophet's JSON leaves
    their models out.

    Raises:
        StoreError: the model was never fitted.
    """
    _import_quietly()
    from prophet.serialize import model_to_json

    fitted: Any = model
    if fitted.history is None:
        raise StoreError(
            f"component '{stem}' is a Prophet model that was never fitted; fit it first"
        )
    if any(_predicts_itself(properties) for properties in fitted.extra_regressors.values()):
        path = directory / f"{stem}.pkl"
        path.write_bytes(pickle.dumps(model))
    else:
        path = directory / f"{stem}.json"
        path.write_text(model_to_json(fitted), encoding="utf-8")
    return path, {}


class Forecaster(CachingForecaster):
    """A fitted Prophet model.

    Every call works on a shallow copy with its own interval width. Any thread may call; calls that
    sample an interval take turns across all Prophet models of the process.
    """

    def __init__(self, model: Any, max_horizon: int, where: str) -> None:
        import pandas as pd

        from bundleserver.frameworks.forecasting.timegrid import TimeGrid

        self._model = model
        self._grid = TimeGrid.from_dates(pd.DatetimeIndex(model.history_dates))
        self._fitted_until = model.history["ds"].max()
        self._columns = _columns(model)
        check_names(self._columns, where)
        refit = "Prophet needs a refit for new observations; ask without 'history'"
        signature = forecast_signature(self._columns, timed=True, refused={"history": refit})
        # Another horizon draws other random numbers, so no forecast begins as a longer one does.
        super().__init__(signature, max_horizon, self._grid.step.freqstr, prefixes=False)

    def close(self) -> None:
        """Let go of the model and of what was forecast with it."""
        super().close()
        self._model = None

    def _forecast(self, request: ForecastRequest) -> Sequence[Array]:
        from bundleserver.frameworks.forecasting.timegrid import iso_dates

        self._check_capacity(request)
        dates = self._dates(request)
        order = np.argsort(dates)
        asked = self._frame(dates[order], request.regressors, order)
        place = np.argsort(order)
        return [
            *(column[place] for column in self._predict(asked, request.level)),
            iso_dates(dates),
        ]

    def _dates(self, request: ForecastRequest) -> pd.DatetimeIndex:
        if request.ds is None:
            return self._grid.after(request.steps)
        return self._grid.locate(request.ds, self._max_horizon)[0]

    def _check_capacity(self, request: ForecastRequest) -> None:
        if "cap" not in request.regressors:
            return
        minmax = getattr(self._model, "scaling", "absmax") == "minmax"
        default = self._model.y_min if minmax else 0.0
        floor = request.regressors.get("floor", np.asarray(default))
        if (request.regressors["cap"] <= floor).any():
            raise InvalidInput(
                "input 'cap' is not above the model's floor on every date; send one that is"
            )

    def _frame(
        self, dates: pd.DatetimeIndex, columns: Mapping[str, Array], rows: Array
    ) -> pd.DataFrame:
        import pandas as pd

        return pd.DataFrame(
            {"ds": dates, **{name: values[rows] for name, values in columns.items()}}
        )

    def _predict(
        self, asked: pd.DataFrame, level: float
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        model = copy.copy(self._model)
        model.interval_width = level
        if not model.uncertainty_samples:
            steps = len(asked)
            return _floats(model.predict(asked)["yhat"]), no_interval(steps), no_interval(steps)
        whole, rows = self._fill_gaps(asked)
        with _seeded():
            sampled = model.predict(whole).iloc[rows]
        mean = sampled["yhat"]
        if len(whole) > len(asked):
            model.uncertainty_samples = 0
            mean = model.predict(asked)["yhat"]
        return _floats(mean), _floats(sampled["yhat_lower"]), _floats(sampled["yhat_upper"])

    def _fill_gaps(self, asked: pd.DataFrame) -> tuple[pd.DataFrame, Array]:
        """Add the dates between the history and the last date asked, and say which rows were asked.

        An added row repeats the columns of the date asked after it; its own answer is not used. The
        interval starts to widen after the last observation, which dates without one may follow.
        """
        dates = asked["ds"].to_numpy()
        reachable = self._grid.through(asked["ds"].iloc[-1])
        between = reachable[(reachable > self._fitted_until) & (reachable <= asked["ds"].iloc[-1])]
        needed = np.union1d(dates, between.to_numpy())
        source = np.searchsorted(dates, needed)
        whole = asked.iloc[source].reset_index(drop=True).assign(ds=needed)
        return whole, np.searchsorted(needed, dates)


def _read(path: Path) -> Any:
    _import_quietly()
    from prophet import Prophet
    from prophet.serialize import model_from_dict

    content = _content(path)
    if isinstance(content, Prophet):
        return content
    try:
        # model_to_json gives a text; written with json.dump, it is a text within a text.
        while isinstance(content, str):
            content = json.loads(content)
        return model_from_dict(cast(Any, content))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise LoadError(
            f"'{path}' holds no Prophet model as prophet.serialize.model_to_json writes it: "
            f"{error!r}; save it again with that function"
        ) from error


def _content(path: Path) -> object:
    """Read a file by its first character: the text of a JSON, else what a pickle holds."""
    try:
        with path.open("rb") as file:
            is_json = file.read(64).lstrip()[:1] in (b"{", b'"')
        if is_json:
            return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise LoadError(f"'{path}' cannot be read: {error}") from error
    return pickles.load(path)


def _import_quietly() -> None:
    """Import Prophet without its messages on plotting, which a server does not do."""
    logging.getLogger("prophet.plot").setLevel(logging.CRITICAL)
    logging.getLogger("cmdstanpy").setLevel(logging.WARNING)
    import prophet

    logging.getLogger(prophet.__name__).setLevel(logging.WARNING)


def _columns(model: Any) -> tuple[TensorSpec, ...]:
    """Declare what else the model needs for every date: capacity, regressors, conditions.

    A regressor that the model predicts itself is none: Prophet would overwrite what is sent.
    """
    capacity = (
        ("cap", "floor")[: 1 + bool(model.logistic_floor)] if model.growth == "logistic" else ()
    )
    seasons = (season["condition_name"] for season in model.seasonalities.values())
    conditions = dict.fromkeys(name for name in seasons if name is not None)
    return (
        *(TensorSpec(name, "FP64", (-1,)) for name in capacity),
        *(
            TensorSpec(name, "FP64", (-1,))
            for name, properties in model.extra_regressors.items()
            if not _predicts_itself(properties)
        ),
        *(TensorSpec(name, "BOOL", (-1,)) for name in conditions),
    )


def _predicts_itself(properties: Mapping[str, object]) -> bool:
    return properties.get("predictor_spec") is not None and properties.get("predictor") is not None


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
