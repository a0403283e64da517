"""Prophet: models as JSON (``prophet.serialize.model_to_json``), or in a pickle or joblib file.

``mean`` is Prophet's ``yhat`` for the requested dates, which may be any, to the bit. ``horizon``
goes on at the step of the history; a history without one refuses it. ``lower`` and ``upper`` are
sampled with a fixed seed, so that all replicas and calls return the same; a model without
``uncertainty_samples`` has none (NaN): see ``intervals``.

Inputs beside the contract's, for every requested date: extra regressors; ``cap`` (and ``floor``, if
fitted with one) of logistic growth; the condition of a conditional seasonality, as BOOL.
"""

from __future__ import annotations

import logging
import pickle
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd

from bundleserver.errors import InvalidInput, LoadError, StoreError
from bundleserver.frameworks import LoadContext, Predictor, pickles
from bundleserver.frameworks.forecasting.contract import (
    ForecastRequest,
    check_names,
    forecast_signature,
)
from bundleserver.frameworks.forecasting.forecaster import CachingForecaster, max_horizon_option
from bundleserver.frameworks.forecasting.history import History
from bundleserver.frameworks.forecasting.steps import infer_step
from bundleserver.frameworks.forecasting.timegrid import (
    OVERFLOWS,
    check_once,
    iso_dates,
    parse_dates,
)
from bundleserver.frameworks.imports.lean import IMPORTING
from bundleserver.frameworks.interface import named_line, reading
from bundleserver.frameworks.prophet import document
from bundleserver.frameworks.prophet.intervals import Intervals
from bundleserver.frameworks.regular_files import open_regular
from bundleserver.frameworks.trust import CodeTrust
from bundleserver.tensors import Array, NamedTensor, TensorSpec

_REFIT = "Prophet needs a refit for new observations; omit 'history'"
_IRREGULAR = "the dates of the model's history have no regular step; send the dates as 'ds' instead"


def load(path: Path, context: LoadContext) -> Predictor:
    """Open a fitted Prophet model.

    Raises:
        LoadError: not a Prophet model, or one that is not fitted.
    """
    where = f"'{path}'"
    max_horizon = max_horizon_option(context.options, where)
    model = _read(path, context.trust)
    if model.history is None or not len(model.params):
        raise LoadError(f"{where} has a Prophet model that is not fitted; fit it, then save it")
    try:
        return Forecaster(model, max_horizon, where)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise LoadError(
            f"{where}: the Prophet model is incomplete: {error!r}; save it again with prophet "
            f"{version('prophet')}"
        ) from error


def save(model: object, directory: Path, stem: str) -> tuple[Path, dict[str, object]]:
    """Write a fitted model as ``stem.json``.

    A model that predicts its own regressors is written as ``stem.pkl``: Prophet's JSON lacks their
    models.

    Raises:
        StoreError: the model is not fitted.
    """
    _import_quietly()
    from prophet.serialize import model_to_json

    fitted: Any = model
    if fitted.history is None:
        raise StoreError(f"component '{stem}' is a Prophet model that is not fitted; fit it first")
    if any(map(_is_predicted, fitted.extra_regressors.values())):
        path = directory / f"{stem}.pkl"
        path.write_bytes(pickle.dumps(model))
    else:
        path = directory / f"{stem}.json"
        path.write_text(model_to_json(fitted), encoding="utf-8")
    return path, {}


class Forecaster(CachingForecaster):
    """A fitted Prophet model.

    Every call uses a shallow copy with its own interval width. Any thread may call; one call at a
    time samples an interval, across all Prophet models of the process.
    """

    def __init__(self, model: Any, max_horizon: int, where: str) -> None:
        dates = pd.DatetimeIndex(model.history_dates)
        self._last = dates.max()
        self._step = infer_step(dates)
        self._intervals = Intervals(model, self._step, max_horizon)
        self._columns = _columns(model)
        check_names(self._columns, where)
        refused = {"history": _REFIT, **({} if self._step else {"horizon": _IRREGULAR})}
        signature = forecast_signature(self._columns, timed=True, refused=refused)
        # Another horizon draws other random numbers, so a forecast is not a prefix of a longer one.
        name = None if self._step is None else self._step.name
        super().__init__(model, signature, max_horizon, name, prefixes=False)

    def samples(self, method: str, rows: int) -> Sequence[Sequence[NamedTensor]]:
        """Return the inputs of the step after the history, with the last values of the history."""
        history = self._model.history
        tensors = [NamedTensor("horizon", np.ones(1, dtype=np.int64))]
        if self._step is None:
            after = self._intervals.fill.after(self._last, 1)
            tensors = [NamedTensor("ds", iso_dates(after))]
        for spec in self._columns:
            regressor = self._model.extra_regressors.get(spec.name, {"mu": 0.0, "std": 1.0})
            value = history[spec.name].iloc[-1] * regressor["std"] + regressor["mu"]
            values = [True] if spec.datatype == "BOOL" else [float(value)]
            tensors.append(NamedTensor(spec.name, np.array(values)))
        return [tensors]

    def history(self, points: int) -> History | None:
        """Return the last points of the history, in the order of their dates."""
        known = self._model.history[["ds", "y"]].sort_values("ds")
        return History.last(known["y"], pd.DatetimeIndex(known["ds"]), points)

    def _forecast(self, request: ForecastRequest) -> Sequence[Array]:
        self._check_capacity(request)
        dates = self._dates(request)
        order = np.argsort(dates)
        columns = {name: values[order] for name, values in request.regressors.items()}
        asked = pd.DataFrame({"ds": dates[order], **columns})
        place = np.argsort(order)
        try:
            predicted = self._intervals.predict(self._model, asked, request.level)
        except OVERFLOWS as error:
            raise InvalidInput(
                f"the dates from '{asked['ds'].min().isoformat()}' to "
                f"'{asked['ds'].max().isoformat()}' are too far from the model's history, which "
                f"ends at '{self._last.isoformat()}'; request dates within 290 years of it"
            ) from error
        return [*(column[place] for column in predicted), iso_dates(dates)]

    def _dates(self, request: ForecastRequest) -> pd.DatetimeIndex:
        if request.ds is None and self._step is not None:
            return self._step.after(self._last, request.steps)
        asked = parse_dates("input 'ds'", request.ds or (), None)
        check_once(asked)
        return asked

    def _check_capacity(self, request: ForecastRequest) -> None:
        if "cap" not in request.regressors:
            return
        minmax = getattr(self._model, "scaling", "absmax") == "minmax"
        default = self._model.y_min if minmax else 0.0
        floor = request.regressors.get("floor", np.asarray(default))
        if (request.regressors["cap"] <= floor).any():
            raise InvalidInput("input 'cap' must be above the model's floor on every date")


def _read(path: Path, trust: CodeTrust) -> Any:
    _import_quietly()
    from prophet import Prophet
    from prophet.serialize import model_from_dict

    content = _content(path, trust)
    if isinstance(content, Prophet):
        return content
    try:
        content = document.parse(cast(str, content))
        model = model_from_dict(cast(Any, content))
        document.check_model(model)
    except document.Unreasonable as error:
        raise LoadError(f"'{path}' is not opened: {error}") from error
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise LoadError(
            f"'{path}' is not a valid Prophet model: {named_line(error)}"
            f"{document.of_writer(content)}; save it again with "
            f"prophet.serialize.model_to_json of prophet {version('prophet')}"
        ) from error
    return model


def _content(path: Path, trust: CodeTrust) -> object:
    """Read a JSON file as a string, recognised by its first character, else open a pickle."""
    with reading(path), open_regular(path) as file:
        if file.peek(64)[:64].lstrip()[:1] not in (b"{", b'"'):
            return pickles.load(path, trust)
        data = file.read(document.MOST_BYTES + 1)
    if len(data) > document.MOST_BYTES:
        raise LoadError(
            f"'{path}' has more than the {document.MOST_BYTES} bytes of Prophet's JSON; save the "
            "model as a pickle"
        )
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise LoadError(f"'{path}' cannot be read: {error}") from error


def _import_quietly() -> None:
    """Import Prophet without its messages on plotting, which a server does not need."""
    logging.getLogger("prophet.plot").setLevel(logging.CRITICAL)
    logging.getLogger("cmdstanpy").setLevel(logging.WARNING)
    with IMPORTING:
        # A model that another thread makes meanwhile would get half of its backend.
        import cmdstanpy  # noqa: F401
        import prophet

    logging.getLogger(prophet.__name__).setLevel(logging.WARNING)


def _columns(model: Any) -> tuple[TensorSpec, ...]:
    """Declare the model's other inputs for every date: capacity, regressors, conditions.

    A regressor that the model predicts itself is not one: Prophet would overwrite it.
    """
    capacity = ("cap", "floor") if model.logistic_floor else ("cap",)
    seasons = (season["condition_name"] for season in model.seasonalities.values())
    conditions = dict.fromkeys(name for name in seasons if name is not None)
    numbers = [*(capacity if model.growth == "logistic" else ())]
    numbers += [
        n for n, regressor in model.extra_regressors.items() if not _is_predicted(regressor)
    ]
    return (
        *(TensorSpec(n, "FP64", (-1,), is_flag=_is_flag(model, n)) for n in numbers),
        *(TensorSpec(name, "BOOL", (-1,), is_flag=True) for name in conditions),
    )


def _is_flag(model: Any, name: str) -> bool:
    """Ask whether a regressor was 0 or 1, or false or true, in all of the history."""
    regressor = model.extra_regressors.get(name)
    if regressor is None:
        return False
    values = model.history[name].astype(float) * regressor["std"] + regressor["mu"]
    return bool(values.round(9).isin((0, 1)).all())


def _is_predicted(regressor: Mapping[str, object]) -> bool:
    return regressor.get("predictor_spec") is not None and regressor.get("predictor") is not None
