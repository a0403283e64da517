"""Requests whose forecasts are cached, which a lookup answers inline."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bundleserver.errors import InvalidInput
from bundleserver.serving.execution.predict import Inputs, validate
from bundleserver.serving.requests import PredictRequest

if TYPE_CHECKING:
    from bundleserver.bundle import Bundle
    from bundleserver.bundle.steps import Recall

_FEW_VALUES = 64
"""Maximum values of a cheap cache lookup: a horizon, some dates, a short history."""


def is_short(request: PredictRequest) -> bool:
    """Ask whether looking a request up costs little."""
    values = sum(tensor.values.size for tensor in request.tensors or ())
    return request.rows is None and values <= _FEW_VALUES


def inputs_of_cached(is_cached: Recall, bundle: Bundle, request: PredictRequest) -> Inputs | None:
    """Validate a request whose forecast is cached; None for others, and for invalid ones."""
    try:
        inputs = validate(bundle, request)
        return inputs if is_cached(inputs, request.parameters) else None
    except InvalidInput:
        return None  # raised again in the thread pool
