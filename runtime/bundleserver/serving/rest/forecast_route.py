"""KServe's ``/v1/timeseries/forecast``: series in, forecasts out.

A model with the input ``history`` takes each series as its history. One without (Prophet) forecasts
the dates that follow the series, or those that follow its own history where the series has no
start. Frequencies are compared with the step that the model was fitted in, where KServe has a name
for it. A quantile q is a bound of the central interval of level |2q - 1|, and 0.5 the mean itself:
both hold for forecasts that are symmetric around their mean.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bundleserver.errors import BundleServerError, InvalidInput
from bundleserver.serving.codecs.time_steps import Frequency
from bundleserver.serving.metadata import ready_version
from bundleserver.serving.models import ServingManager
from bundleserver.serving.requests import PredictRequest, PredictResponse
from bundleserver.serving.rest.forecast_request import ForecastRequest, Series, level_of
from bundleserver.tensors.signature import Signature

if TYPE_CHECKING:
    from bundleserver.manager import VersionStatus

MOST_STEPS = 100_000
"""The longest forecast of a model that does not say its own."""

_UNUSED = (
    "the model cannot take a new history without being fitted again; the values of the series were "
    "not used"
)


@dataclass(frozen=True)
class ForecastPlan:
    """The one request that answers all series at all levels, series by series."""

    asked: ForecastRequest
    request: PredictRequest
    uses_series: bool


def plan_forecast(asked: ForecastRequest, manager: ServingManager) -> ForecastPlan:
    """Turn the request into the forecaster's own terms, for the version that answers by default.

    Raises:
        ModelNotFound, NotReady: no version answers.
        InvalidInput: the model is no forecaster, or its steps are others.
    """
    version = ready_version(manager, asked.model, None)
    signature = version.signature
    if signature is None or not is_forecaster(signature):
        raise InvalidInput(
            f"model '{asked.model}' version '{version.version}' is not a forecaster; "
            "ask it by /v1/models or /v2/models"
        )
    _check_fit(asked, version)
    uses_series = _takes(signature, "history")
    rows: list[object] = [
        _instance(series, asked.horizon, level, uses_series)
        for series in asked.series
        for level in asked.levels
    ]
    request = PredictRequest(asked.model, version.version, rows=rows)
    return ForecastPlan(asked, request, uses_series)


def describe_forecast(plan: ForecastPlan, response: PredictResponse) -> dict[str, object]:
    """Say the answers as KServe's forecast response does, one output for each series."""
    answers = response.answers
    if answers is None or len(answers) != len(plan.request.rows or ()):
        raise ValueError(f"model '{response.model}' did not answer every series at every level")
    step = len(plan.asked.levels)
    outputs = []
    for position, series in enumerate(plan.asked.series):
        own = answers[position * step : (position + 1) * step]
        outputs.append(_output(series, plan.asked, [_columns(answer) for answer in own]))
    note = {} if plan.uses_series else {"note": _UNUSED}
    used = {"model_version": response.version, "series_used": plan.uses_series}
    return {
        "id": str(uuid.uuid4()),
        "created_at": int(time.time()),
        "status": "completed",
        "error": None,
        "model": response.model,
        "outputs": outputs,
        "usage": None,
        "metadata": {**plan.asked.metadata, **used, **note},
    }


def is_forecaster(signature: Signature) -> bool:
    """Ask whether a model follows the forecast contract."""
    gives_mean = any(spec.name == "mean" for spec in signature.outputs)
    return not signature.rowwise and gives_mean and _takes(signature, "horizon")


def forecasters(manager: ServingManager) -> list[str]:
    """Name the models that answer forecasts now."""
    return [model for model in manager.models() if _is_ready_forecaster(manager, model)]


def _is_ready_forecaster(manager: ServingManager, model: str) -> bool:
    try:
        signature = ready_version(manager, model, None).signature
    except BundleServerError:
        return False
    return signature is not None and is_forecaster(signature)


def _check_fit(asked: ForecastRequest, version: VersionStatus) -> None:
    """Hold a request to the step and the longest horizon that the model itself has."""
    model = f"model '{asked.model}' version '{version.version}'"
    facts = _facts(version.metadata)
    most = facts.get("max_horizon", MOST_STEPS)
    if isinstance(most, int) and asked.horizon > most:
        raise InvalidInput(f"options.horizon is {asked.horizon}; {model} takes 1 to {most} steps")
    step = facts.get("step")
    own = Frequency.of_step(step) if isinstance(step, str) else None
    for position, series in enumerate(asked.series):
        if own is not None and series.frequency.length != own.length:
            raise InvalidInput(
                f"inputs[{position}].frequency is '{series.frequency.name}'; {model} was fitted in "
                f"steps of '{step}', which is '{own.name}'"
            )


def _facts(metadata: Mapping[str, object]) -> Mapping[str, object]:
    """Find what the one forecaster among a bundle's components says of itself."""
    components = metadata.get("components")
    entries = components.values() if isinstance(components, Mapping) else ()
    found = [entry for entry in entries if isinstance(entry, Mapping) and "max_horizon" in entry]
    return found[0] if len(found) == 1 else {}


def _takes(signature: Signature, name: str) -> bool:
    return any(spec.name == name for spec in signature.inputs)


def _instance(
    series: Series, horizon: int, level: float | None, uses_series: bool
) -> dict[str, object]:
    instance: dict[str, object] = {} if level is None else {"level": level}
    if uses_series:
        return {"horizon": horizon, "history": series.values, **instance}
    end = series.end
    if end is None:
        return {"horizon": horizon, **instance}
    dates = [end.after(series.frequency, step).plain for step in range(horizon)]
    return {"ds": dates, **instance}


def _output(
    series: Series, asked: ForecastRequest, answers: list[dict[str, object]]
) -> dict[str, object]:
    by_level = dict(zip(asked.levels, answers, strict=True))
    content: dict[str, object] = {
        "type": "univariate_time_series",
        "name": series.name,
        "mean_forecast": answers[0]["mean"],
        "frequency": series.frequency.name,
        "start_timestamp": _start_of(series, answers[0]),
        "quantiles": {str(q): _quantile(q, by_level, answers[0]) for q in asked.quantiles} or None,
    }
    return {
        "type": "time_series_forecast",
        "id": str(uuid.uuid4()),
        "status": "completed",
        "content": [content],
        "error": None,
    }


def _quantile(
    q: float, by_level: Mapping[float | None, dict[str, object]], first: Mapping[str, object]
) -> object:
    if q == 0.5:
        return first["mean"]
    bound = "lower" if q < 0.5 else "upper"
    answer = by_level[level_of(q)]
    if bound not in answer:
        raise InvalidInput(
            f"quantile {q} needs the output '{bound}', which the model does not give"
        )
    return answer[bound]


def _start_of(series: Series, answer: Mapping[str, object]) -> object:
    """Say when the forecast starts: after the series, else where the model's own dates start."""
    if series.end is not None:
        return str(series.end)
    dates = answer.get("ds")
    return dates[0] if isinstance(dates, list) and dates else None


def _columns(answer: object) -> dict[str, object]:
    if not isinstance(answer, dict) or "mean" not in answer:
        raise ValueError("a forecaster's answer has no 'mean'")
    return {
        name: values.tolist() if hasattr(values, "tolist") else values
        for name, values in answer.items()
    }
