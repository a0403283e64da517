"""The contract of all forecasters: their inputs, parameters and outputs.

A forecaster matches its inputs **by name**, not by position, because most of them are optional:

===============  ==============  =========================================================
input            tensor          meaning
===============  ==============  =========================================================
``horizon``      INT64 ``[1]``   how many steps after the series; or else
``ds``           BYTES ``[h]``   the dates to forecast, ISO 8601, in any order, without repeats
``history``      FP64 ``[n]``    optional: new observations that replace the training series
any regressor    FP64 ``[h]``    one value for each step or date
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

from bundleserver.documents.forms import quoted
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
    """A validated request with exactly one of ``horizon`` and ``ds``.

    ``regressors`` has one array ``[h]`` per regressor, in the order of their declaration.
    """

    horizon: int | None
    ds: tuple[str, ...] | None
    history: FloatArray | None
    history_start: str | None
    regressors: Mapping[str, Array]
    level: float

    @property
    def steps(self) -> int:
        """The length of each output."""
        return self.horizon if self.horizon is not None else len(self.ds or ())


def forecast_signature(
    regressors: Sequence[TensorSpec] = (),
    *,
    timed: bool,
    refused: Mapping[str, str] = MappingProxyType({}),
) -> Signature:
    """Return a forecaster's inputs, and the outputs ``mean``, ``lower``, ``upper`` (``ds``).

    Args:
        regressors: the model's other inputs, each FP64 or BOOL ``[h]``.
        timed: whether the model has a time index and so returns dates.
        refused: which of the contract's inputs the model does not support, each with the reason.
    """
    floats = tuple(TensorSpec(name, "FP64", (-1,)) for name in ("mean", "lower", "upper"))
    dates = (TensorSpec("ds", "BYTES", (-1,)),) if timed else ()
    own = tuple(spec for spec in _OWN_INPUTS if spec.name not in refused)
    return Signature((*own, *regressors), (*floats, *dates), rowwise=False, refused=refused)


def check_names(regressors: Sequence[TensorSpec], where: str) -> None:
    """Reject a model whose regressors have duplicate names or those of the contract's inputs.

    Raises:
        LoadError: names the regressor.
    """
    taken = {spec.name for spec in _OWN_INPUTS}
    for spec in regressors:
        if spec.name in taken:
            raise LoadError(
                f"{where}: the name of regressor '{spec.name}' is already used by another input; "
                "fit the model with another name"
            )
        taken.add(spec.name)


def parse_request(
    inputs: Sequence[NamedTensor],
    parameters: Mapping[str, object],
    signature: Signature,
    max_horizon: int,
) -> ForecastRequest:
    """Validate a request as far as the model is not needed.

    Nothing of the size of the answer is allocated before the size is checked.

    Raises:
        InvalidInput: an input or a parameter is not valid.
    """
    given = _by_name(inputs, signature)
    own = {spec.name for spec in _OWN_INPUTS}
    regressors = [spec for spec in signature.inputs if spec.name not in own]
    if ("horizon" in given) == ("ds" in given):
        raise _not_one("both" if "ds" in given else "neither", signature.refused)
    horizon = _parse_horizon(given["horizon"], max_horizon) if "horizon" in given else None
    ds = _parse_dates(given["ds"], max_horizon) if "ds" in given else None
    history = _parse_history(given["history"]) if "history" in given else None
    steps = horizon if horizon is not None else len(ds or ())
    return ForecastRequest(
        horizon=horizon,
        ds=ds,
        history=history,
        history_start=_parse_history_start(parameters, history is not None),
        regressors=_parse_regressors(given, regressors, steps),
        level=parse_level(parameters),
    )


def _not_one(got: str, refused: Mapping[str, str]) -> InvalidInput:
    for name, other in (("horizon", "ds"), ("ds", "horizon")):
        if name in refused:
            return InvalidInput(f"missing input '{other}'; a forecast of this model expects it")
    return InvalidInput(
        f"a forecast expects either 'horizon' (how many steps) or 'ds' (which dates), got {got}"
    )


def _parse_horizon(values: Array, max_horizon: int) -> int:
    """Parse an integer of shape ``[1]`` or ``[]``, from 1 to ``max_horizon``."""
    if values.shape not in ((), (1,)):
        raise InvalidInput(
            f"input 'horizon' has shape {list(values.shape)}; a forecast expects [1]"
        )
    if values.dtype.kind not in "iu":
        raise InvalidInput(
            f"input 'horizon' has datatype {datatype_of(values)}; a forecast expects INT64"
        )
    horizon = int(values.reshape(()))
    if not 1 <= horizon <= max_horizon:
        raise InvalidInput(
            f"input 'horizon' is {horizon}; a forecast expects 1 to {max_horizon} steps"
        )
    return horizon


def _parse_dates(values: Array, max_horizon: int) -> tuple[str, ...]:
    """Parse the strings of ``ds``, 1 to ``max_horizon``; the time grid parses the dates."""
    if values.ndim != 1:
        raise InvalidInput(f"input 'ds' has shape {list(values.shape)}; a forecast expects [-1]")
    if not 1 <= len(values) <= max_horizon:
        raise InvalidInput(
            f"input 'ds' has {len(values)} dates; a forecast expects 1 to {max_horizon} of them"
        )
    dates = tuple(values.tolist())
    for date in dates:
        if not isinstance(date, str):
            raise InvalidInput(
                f"input 'ds' has the value {shorten(date)}; expected a string in ISO 8601"
            )
    return dates


def _parse_history(values: Array) -> FloatArray:
    """Parse one series of observations; NaN is a missing one, which not every model supports."""
    if values.ndim != 1:
        raise InvalidInput(
            f"input 'history' has shape {list(values.shape)}; a forecast of one series expects [-1]"
        )
    series = _floats("history", values)
    if not len(series) or np.isnan(series).all():
        raise InvalidInput("input 'history' has no observation; expected at least one")
    if np.isinf(series).any():
        raise InvalidInput("input 'history' has an infinite value; expected finite ones")
    return series


def parse_level(parameters: Mapping[str, object]) -> float:
    """Parse the parameter ``level``: the probability of the interval, between 0 and 1.

    Raises:
        InvalidInput: it is not such a number.
    """
    level = parameters.get("level", DEFAULT_LEVEL)
    if isinstance(level, (int, float)) and 0 < level < 1:
        return float(level)
    raise InvalidInput(
        f"parameter 'level' is {shorten(level)}; expected a number between 0 and 1, e.g. 0.95"
    )


def no_interval(steps: int) -> FloatArray:
    """Return the bounds for a model without an interval: NaN, which is ``null`` in JSON."""
    return np.full(steps, math.nan)


def shorten(value: object) -> str:
    """Format a value of a request for a message, in at most 60 characters."""
    text = f"'{value}'" if isinstance(value, str) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _by_name(inputs: Sequence[NamedTensor], signature: Signature) -> dict[str, Array]:
    names = {spec.name for spec in signature.inputs}
    given: dict[str, Array] = {}
    for tensor in inputs:
        if tensor.name in signature.refused:
            reason = signature.refused[tensor.name]
            raise InvalidInput(f"input '{tensor.name}' is not supported: {reason}")
        if tensor.name not in names:
            expected = quoted(spec.name for spec in signature.inputs)
            raise InvalidInput(
                f"unknown input {shorten(tensor.name)}; the model expects {expected}"
            )
        if tensor.name in given:
            raise InvalidInput(f"duplicate input '{tensor.name}'; the model expects it once")
        given[tensor.name] = tensor.values
    return given


def _parse_history_start(parameters: Mapping[str, object], has_history: bool) -> str | None:
    start = parameters.get("history_start")
    if start is None:
        return None
    if not isinstance(start, str):
        raise InvalidInput(
            f"parameter 'history_start' is {shorten(start)}; expected an ISO 8601 date"
        )
    if not has_history:
        raise InvalidInput("parameter 'history_start' requires the input 'history'; send both")
    return start


def _parse_regressors(
    given: Mapping[str, Array], specs: Sequence[TensorSpec], steps: int
) -> dict[str, Array]:
    missing = [spec.name for spec in specs if spec.name not in given]
    if missing:
        raise InvalidInput(
            f"missing input {quoted(missing)}; the model was fitted with it and expects one value "
            f"for each of the {steps} steps"
        )
    return {spec.name: _parse_regressor(spec, given[spec.name], steps) for spec in specs}


def _parse_regressor(spec: TensorSpec, values: Array, steps: int) -> Array:
    if values.shape != (steps,):
        raise InvalidInput(
            f"input '{spec.name}' has shape {list(values.shape)}; this forecast of {steps} steps "
            f"expects [{steps}]"
        )
    if spec.datatype == "BOOL":
        if values.dtype.kind != "b":
            raise InvalidInput(
                f"input '{spec.name}' has datatype {datatype_of(values)}; the model expects BOOL"
            )
        return values
    numbers = _floats(spec.name, values)
    if not np.isfinite(numbers).all():
        raise InvalidInput(
            f"input '{spec.name}' has a NaN or infinite value; the model expects finite numbers"
        )
    return numbers


def _floats(name: str, values: Array) -> FloatArray:
    if values.dtype.kind not in "iuf":
        raise InvalidInput(
            f"input '{name}' has datatype {datatype_of(values)}; the model expects FP64"
        )
    return values.astype(np.float64)
