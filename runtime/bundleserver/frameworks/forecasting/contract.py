"""The contract that every forecaster shares: what a request may ask, and its signature.

A forecaster matches its inputs **by name**, not by position, because most of them are optional:

===============  ==============  =========================================================
input            tensor          meaning
===============  ==============  =========================================================
``horizon``      INT64 ``[1]``   how many steps after the series; or else
``ds``           BYTES ``[h]``   the dates asked, ISO 8601, in any order, each one once
``history``      FP64 ``[n]``    optional: new observations that replace the training series
any regressor    FP64 ``[h]``    one value for each step or date asked
===============  ==============  =========================================================

The parameter ``level`` is the probability between ``lower`` and ``upper`` (0.95). ``history_start``
is the date of the first value of ``history`` (the first date of the training series).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from bundleserver.errors import InvalidInput, LoadError
from bundleserver.tensors import Array, NamedTensor, TensorSpec, datatype_of
from bundleserver.tensors.signature import Signature

FloatArray = npt.NDArray[np.float64]

DEFAULT_LEVEL = 0.95
_HORIZON = TensorSpec("horizon", "INT64", (1,), optional=True)
_DS = TensorSpec("ds", "BYTES", (-1,), optional=True)
_HISTORY = TensorSpec("history", "FP64", (-1,), optional=True)
_OWN_INPUTS = (_HORIZON, _DS, _HISTORY)


@dataclass(frozen=True)
class ForecastRequest:
    """What one request asks, checked: exactly one of ``horizon`` and ``ds`` is there.

    ``regressors`` has one array ``[h]`` per regressor, in the order in which they were declared.
    """

    horizon: int | None
    ds: tuple[str, ...] | None
    history: FloatArray | None
    history_start: str | None
    regressors: Mapping[str, Array]
    level: float

    @property
    def steps(self) -> int:
        """How many values the answer has."""
        return self.horizon if self.horizon is not None else len(self.ds or ())


def forecast_signature(
    regressors: Sequence[TensorSpec] = (),
    *,
    timed: bool,
    refused: Mapping[str, str] = MappingProxyType({}),
) -> Signature:
    """Describe a forecaster: its inputs, and the outputs ``mean``, ``lower``, ``upper`` (``ds``).

    Args:
        regressors: what else the model needs, each FP64 or BOOL ``[h]``.
        timed: whether the model has a time index and so names the dates that it answers.
        refused: which of ``ds`` and ``history`` the model cannot take, each with the reason.
    """
    floats = tuple(TensorSpec(name, "FP64", (-1,)) for name in ("mean", "lower", "upper"))
    dates = (TensorSpec("ds", "BYTES", (-1,)),) if timed else ()
    own = tuple(spec for spec in _OWN_INPUTS if spec.name not in refused)
    return Signature((*own, *regressors), (*floats, *dates), rowwise=False, refused=refused)


def check_names(regressors: Sequence[TensorSpec], where: str) -> None:
    """Refuse a model whose regressors a request could not tell from each other or the rest.

    Raises:
        LoadError: names the regressor.
    """
    taken = {spec.name for spec in _OWN_INPUTS}
    for spec in regressors:
        if spec.name in taken:
            raise LoadError(
                f"{where}: the model has a regressor named '{spec.name}', a name that a forecast "
                "request already uses; fit it with another name"
            )
        taken.add(spec.name)


def read_request(
    inputs: Sequence[NamedTensor],
    parameters: Mapping[str, object],
    signature: Signature,
    max_horizon: int,
) -> ForecastRequest:
    """Check everything about a request that can be said without the model.

    Nothing of the size of the answer is allocated before the size is checked.

    Raises:
        InvalidInput: says what came and what is taken.
    """
    given = _by_name(inputs, signature)
    own = {spec.name for spec in _OWN_INPUTS}
    regressors = [spec for spec in signature.inputs if spec.name not in own]
    if ("horizon" in given) == ("ds" in given):
        came = "both" if "ds" in given else "neither"
        raise InvalidInput(
            f"a forecast takes either 'horizon' (how many steps) or 'ds' (which dates); {came} came"
        )
    horizon = parse_horizon(given["horizon"], max_horizon) if "horizon" in given else None
    ds = parse_dates(given["ds"], max_horizon) if "ds" in given else None
    history = parse_history(given["history"]) if "history" in given else None
    steps = horizon if horizon is not None else len(ds or ())
    return ForecastRequest(
        horizon=horizon,
        ds=ds,
        history=history,
        history_start=_parse_history_start(parameters, history is not None),
        regressors=_parse_regressors(given, regressors, steps),
        level=parse_level(parameters),
    )


def parse_horizon(values: Array, max_horizon: int) -> int:
    """Read a whole number of steps from ``[1]`` (or a scalar).

    Raises:
        InvalidInput: another shape or datatype, or not in 1 to ``max_horizon``.
    """
    if values.shape not in ((), (1,)):
        raise InvalidInput(f"input 'horizon' has shape {list(values.shape)}; a forecast takes [1]")
    if values.dtype.kind not in "iu":
        raise InvalidInput(
            f"input 'horizon' has datatype {datatype_of(values)}; a forecast takes INT64"
        )
    horizon = int(values.reshape(()))
    if not 1 <= horizon <= max_horizon:
        raise InvalidInput(
            f"input 'horizon' is {horizon}; a forecast takes 1 to {max_horizon} steps"
        )
    return horizon


def parse_dates(values: Array, max_horizon: int) -> tuple[str, ...]:
    """Read the texts of ``ds``; what they mean is for the model's time grid to say.

    Raises:
        InvalidInput: another shape or datatype, no date, or more than ``max_horizon``.
    """
    if values.ndim != 1:
        raise InvalidInput(f"input 'ds' has shape {list(values.shape)}; a forecast takes [-1]")
    if not 1 <= len(values) <= max_horizon:
        raise InvalidInput(
            f"input 'ds' has {len(values)} dates; a forecast takes 1 to {max_horizon} of them"
        )
    texts = values.tolist()
    for text in texts:
        if not isinstance(text, str):
            raise InvalidInput(
                f"input 'ds' has the value {shorten(text)}; a forecast takes text in ISO 8601"
            )
    return tuple(texts)


def parse_history(values: Array) -> FloatArray:
    """Read one series of observations; NaN is a missing one (not every model takes that).

    Raises:
        InvalidInput: another shape or datatype, no observation at all, or an infinite one.
    """
    if values.ndim != 1:
        raise InvalidInput(
            f"input 'history' has shape {list(values.shape)}; a forecast of one series takes [-1]"
        )
    series = _floats("history", values)
    if not len(series) or np.isnan(series).all():
        raise InvalidInput("input 'history' has no observation; a forecast takes at least one")
    if np.isinf(series).any():
        raise InvalidInput("input 'history' has an infinite value; a forecast takes finite ones")
    return series


def parse_level(parameters: Mapping[str, object]) -> float:
    """Read the parameter ``level``: the probability that the interval is meant to hold.

    Raises:
        InvalidInput: not a number, or not between 0 and 1.
    """
    level = parameters.get("level", DEFAULT_LEVEL)
    if isinstance(level, (int, float)) and 0 < level < 1:
        return float(level)
    raise InvalidInput(
        f"parameter 'level' is {shorten(level)}; it should be a number between 0 and 1, as 0.95 is"
    )


def no_interval(steps: int) -> FloatArray:
    """Give the bounds of a model that has none: NaN, which is ``null`` in a JSON answer."""
    return np.full(steps, math.nan)


def shorten(value: object) -> str:
    """Quote a value of a request for a message, at most 60 characters of it."""
    text = f"'{value}'" if isinstance(value, str) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _by_name(inputs: Sequence[NamedTensor], signature: Signature) -> dict[str, Array]:
    names = {spec.name for spec in signature.inputs}
    given: dict[str, Array] = {}
    for tensor in inputs:
        if tensor.name in signature.refused:
            why = signature.refused[tensor.name]
            raise InvalidInput(f"input '{tensor.name}' cannot be taken: {why}")
        if tensor.name not in names:
            listed = ", ".join(f"'{spec.name}'" for spec in signature.inputs)
            raise InvalidInput(f"input {shorten(tensor.name)} is unknown; the model takes {listed}")
        if tensor.name in given:
            raise InvalidInput(f"input '{tensor.name}' came twice; the model takes it once")
        given[tensor.name] = tensor.values
    return given


def _parse_history_start(parameters: Mapping[str, object], has_history: bool) -> str | None:
    start = parameters.get("history_start")
    if start is None:
        return None
    if not isinstance(start, str):
        raise InvalidInput(
            f"parameter 'history_start' is {shorten(start)}; it should be a date in ISO 8601"
        )
    if not has_history:
        raise InvalidInput("parameter 'history_start' came without the input 'history'; send both")
    return start


def _parse_regressors(
    given: Mapping[str, Array], specs: Sequence[TensorSpec], steps: int
) -> dict[str, Array]:
    missing = [f"'{spec.name}'" for spec in specs if spec.name not in given]
    if missing:
        raise InvalidInput(
            f"input {', '.join(missing)} is missing; the model was fitted with it and takes "
            f"one value for each of the {steps} steps"
        )
    return {spec.name: _parse_regressor(spec, given[spec.name], steps) for spec in specs}


def _parse_regressor(spec: TensorSpec, values: Array, steps: int) -> Array:
    if values.shape != (steps,):
        raise InvalidInput(
            f"input '{spec.name}' has shape {list(values.shape)}; this forecast has {steps} steps "
            f"and takes [{steps}]"
        )
    if spec.datatype == "BOOL":
        if values.dtype.kind != "b":
            raise InvalidInput(
                f"input '{spec.name}' has datatype {datatype_of(values)}; the model takes BOOL"
            )
        return values
    numbers = _floats(spec.name, values)
    if not np.isfinite(numbers).all():
        raise InvalidInput(
            f"input '{spec.name}' has a NaN or infinite value; the model takes finite ones"
        )
    return numbers


def _floats(name: str, values: Array) -> FloatArray:
    if values.dtype.kind not in "iuf":
        raise InvalidInput(
            f"input '{name}' has datatype {datatype_of(values)}; the model takes FP64"
        )
    return values.astype(np.float64)
