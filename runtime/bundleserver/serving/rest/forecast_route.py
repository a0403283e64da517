"""KServe's ``/v1/timeseries/forecast``: series in, forecasts out.

A model with the input ``history`` gets each series as its history. One without (Prophet) forecasts
the dates after the series, or after its own history if the series has no start; a model that cannot
go on by itself, since its history has no step, requires the start. Frequencies are
compared with the step that the model was fitted with, if KServe has a name for it. A quantile q is
a bound of the central interval of level |2q - 1|, and 0.5 is the mean: both are true for forecasts
that are symmetric around their mean.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bundleserver.errors import BundleServerError, InvalidInput
from bundleserver.serving.codecs.time_steps import Frequency
from bundleserver.serving.execution.limits import Limits
from bundleserver.serving.metadata import ready_version
from bundleserver.serving.models import ServingManager
from bundleserver.serving.requests import PredictRequest, PredictResponse
from bundleserver.serving.rest.forecast_request import ForecastRequest, Series, level_of
from bundleserver.tensors.signature import Signature

if TYPE_CHECKING:
    from bundleserver.manager import VersionStatus

MOST_STEPS = 100_000
"""The maximum horizon of a model that does not declare its own."""

_UNUSED = (
    "the model does not support a new history without a refit; the values of the series were not "
    "used"
)


@dataclass(frozen=True)
class ForecastPlan:
    """One request for all series at all levels, series by series."""

    asked: ForecastRequest
    request: PredictRequest
    uses_series: bool


def plan_forecast(
    asked: ForecastRequest, manager: ServingManager, max_answer_values: int = 0
) -> ForecastPlan:
    """Convert the request to the forecaster's inputs, for the default version.

    Raises:
        AnswerTooLarge: the forecasts would have too many values; no date is made for them.
        ModelNotFound, NotReady: no version is ready.
        InvalidInput: the model is not a forecaster, or its step or horizon differs.
    """
    version = ready_version(manager, asked.model, None)
    signature = version.signature
    if signature is None or not is_forecaster(signature):
        raise InvalidInput(
            f"model '{asked.model}' version '{version.version}' is not a forecaster; "
            "use /v1/models or /v2/models"
        )
    _check_step_and_horizon(asked, version)
    steps = len(asked.series) * len(asked.levels) * asked.horizon
    Limits(max_answer_values).check(steps * len(signature.outputs))
    uses_series = _takes(signature, "history")
    if not _takes(signature, "horizon"):
        _check_starts(asked, signature)
    rows: list[object] = [
        instance if level is None else {**instance, "level": level}
        for instance in (_instance(series, asked.horizon, uses_series) for series in asked.series)
        for level in asked.levels
    ]
    request = PredictRequest(asked.model, version.version, rows=rows)
    return ForecastPlan(asked, request, uses_series)


def describe_forecast(plan: ForecastPlan, response: PredictResponse) -> dict[str, object]:
    """Encode the results as KServe's forecast response, with one output per series."""
    answers = response.answers
    if answers is None or len(answers) != len(plan.request.rows or ()):
        raise ValueError(f"model '{response.model}' did not forecast every series at every level")
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
    takes_steps = _takes(signature, "horizon") or _takes(signature, "ds")
    return not signature.rowwise and gives_mean and takes_steps


def forecasters(manager: ServingManager) -> list[str]:
    """Return the names of the forecasters that are ready."""
    return [model for model in manager.models() if _is_ready_forecaster(manager, model)]


def _is_ready_forecaster(manager: ServingManager, model: str) -> bool:
    try:
        signature = ready_version(manager, model, None).signature
    except BundleServerError:
        return False
    return signature is not None and is_forecaster(signature)


def _check_step_and_horizon(asked: ForecastRequest, version: VersionStatus) -> None:
    """Validate a request against the model's step and maximum horizon."""
    model = f"model '{asked.model}' version '{version.version}'"
    facts = _facts(version.metadata)
    most = facts.get("max_horizon", MOST_STEPS)
    if isinstance(most, int) and asked.horizon > most:
        raise InvalidInput(
            f"options.horizon is {asked.horizon}; {model} supports 1 to {most} steps"
        )
    step = facts.get("step")
    own = Frequency.of_step(step) if isinstance(step, str) else None
    for position, series in enumerate(asked.series):
        if own is not None and series.frequency.length != own.length:
            raise InvalidInput(
                f"inputs[{position}].frequency is '{series.frequency.name}'; {model} expects "
                f"'{own.name}', as it was fitted with the step '{step}'"
            )


def _check_starts(asked: ForecastRequest, signature: Signature) -> None:
    for position, series in enumerate(asked.series):
        if series.start is None:
            reason = signature.refused.get("horizon", "the model takes no 'horizon'")
            raise InvalidInput(
                f"inputs[{position}].start_timestamp is missing, and {reason.partition(';')[0]}; "
                "send when the series starts"
            )


def _facts(metadata: Mapping[str, object]) -> Mapping[str, object]:
    """Return the metadata of the one forecaster among a bundle's components."""
    components = metadata.get("components")
    entries = components.values() if isinstance(components, Mapping) else ()
    found = [entry for entry in entries if isinstance(entry, Mapping) and "max_horizon" in entry]
    return found[0] if len(found) == 1 else {}


def _takes(signature: Signature, name: str) -> bool:
    return any(spec.name == name for spec in signature.inputs)


def _instance(series: Series, horizon: int, uses_series: bool) -> dict[str, object]:
    if uses_series:
        return {"horizon": horizon, "history": series.values}
    end = series.end
    if end is None:
        return {"horizon": horizon}
    return {"ds": [end.after(series.frequency, step).plain for step in range(horizon)]}


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
            f"quantile {q} requires the output '{bound}', which the model does not have"
        )
    return answer[bound]


def _start_of(series: Series, answer: Mapping[str, object]) -> object:
    """Return when the forecast starts: after the series, else at the model's own first date."""
    if series.end is not None:
        return str(series.end)
    dates = answer.get("ds")
    return dates[0] if isinstance(dates, list) and dates else None


def _columns(answer: object) -> dict[str, object]:
    if not isinstance(answer, dict) or "mean" not in answer:
        raise ValueError("a forecaster's response has no 'mean'")
    return {
        name: values.tolist() if hasattr(values, "tolist") else values
        for name, values in answer.items()
    }
