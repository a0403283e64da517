"""The params of the built-in operations, and the validation of their values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated

import numpy as np
from pydantic import Field

from bundleserver.documents.forms import ABSENT, Form, must
from bundleserver.operations.voting import ENCODINGS, THRESHOLD

_DTYPES: Mapping[type, type] = {str: object, bool: np.bool_, int: np.int64, float: np.float64}


def dtype_of_labels(labels: Sequence[object]) -> type | None:
    """Return the common dtype of two labels; None when there is none."""
    kinds = {type(label) for label in labels}
    numbers = [label for label in labels if isinstance(label, (int, float))]
    fits = all(map(_fits, numbers))
    if len(labels) != 2 or not fits:
        return None
    if kinds == {int, float}:
        return np.float64
    return _DTYPES.get(kinds.pop()) if len(kinds) == 1 else None


def _fits(number: float) -> bool:
    return -(2**63) <= number < 2**63 if isinstance(number, int) else math.isfinite(number)


def problem_with_weights(weights: Sequence[float], count: int | None = None) -> str | None:
    """Say why weights are not valid for ``count`` inputs (None: any number); None if they are."""
    if count is not None and len(weights) != count:
        return f"has {len(weights)} weights; expected {count}, one per input"
    total = sum(map(float, weights))
    return None if 0 < total < math.inf else f"adds up to {total}; expected a finite sum above 0"


Weights = Annotated[
    list[Annotated[float, Field(ge=0, description="a weight: a non-negative number")]],
    Field(min_length=1, description="an array of weights, one per input"),
]
Share = Annotated[
    float, Field(ge=0, le=1, description="a share of the votes: a number from 0 to 1")
]
_Labels = Annotated[
    list[object],
    must(lambda labels: dtype_of_labels(labels) is not None),
    Field(
        description="an array of two labels, both numbers, both strings or both booleans",
        json_schema_extra={
            "anyOf": [{"items": {"type": kind}} for kind in ("number", "string", "boolean")],
            "minItems": 2,
            "maxItems": 2,
        },
    ),
]


class NoParams(Form):
    """The params of an operation without params."""


class ThresholdParams(Form):
    """The params of ``threshold``."""

    above: float = Field(description="a number: values above it get the second label")
    labels: _Labels = Field(default=[1, -1])


class VoteParams(Form):
    """The params of ``vote``; no weights are equal weights."""

    weights: Weights = ABSENT
    threshold: Share = THRESHOLD
    votes: Annotated[str, must(lambda name: name in ENCODINGS)] = Field(
        default="anomaly", json_schema_extra={"enum": list(ENCODINGS)}
    )


class MeanParams(Form):
    """The params of ``mean``; no weights are equal weights."""

    weights: Weights = ABSENT


class ConcatParams(Form):
    """The params of ``concat``."""

    axis: int = Field(default=1, description="an axis: an integer")
