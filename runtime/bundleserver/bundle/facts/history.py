"""The series that a bundle's forecaster was fitted on."""

from __future__ import annotations

from collections.abc import Mapping

from bundleserver.bundle.steps import Plan
from bundleserver.frameworks import Predictor
from bundleserver.frameworks.forecasting.history import HasHistory, History


def history_of(predictors: Mapping[str, Predictor], plan: Plan, points: int) -> History | None:
    """Return the last points of the series behind a bundle's forecasts, in their scale.

    None where the bundle is not a forecaster, where its series is not known, and where other steps
    than the forecaster make its output ``mean``, which then has another scale.
    """
    if plan.signature.rowwise or not plan.written:
        return None
    makers = [step for step in plan.written if not step.outputs or "mean" in step.outputs]
    predictor = predictors.get(makers[-1].component or "") if makers else None
    return predictor.history(points) if isinstance(predictor, HasHistory) else None
