"""The written form of the built-in operations: what a step with an ``op`` may say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import Field

from bundleserver.documents.forms import ABSENT, Form, form_schema, must


def _are_labels(values: list[object]) -> bool:
    """Ask whether two labels fit one datatype: INT64 or FP64, BYTES, or BOOL."""
    kinds = {type(value) for value in values}
    fits = all(-(2**63) <= value < 2**63 for value in values if isinstance(value, int))
    return len(values) == 2 and fits and (kinds in ({str}, {bool}) or kinds <= {int, float})


_Weights = Annotated[
    list[Annotated[float, Field(ge=0, description="a weight: a number that is not negative")]],
    Field(min_length=1, description="a list of weights, one per input"),
]
_Labels = Annotated[
    list[object],
    must(_are_labels),
    Field(
        description="a list of two labels, both numbers, both strings or both booleans",
        json_schema_extra={
            "anyOf": [{"items": {"type": kind}} for kind in ("number", "string", "boolean")],
            "minItems": 2,
            "maxItems": 2,
        },
    ),
]


class NoParams(Form):
    """The params of an operation that takes none."""


class ThresholdParams(Form):
    """The params of ``threshold``."""

    above: float = Field(description="a number: values above it get the second label")
    labels: _Labels = Field(default=[1, -1])


class VoteParams(Form):
    """The params of ``vote``; no weights are equal weights."""

    weights: _Weights = ABSENT
    threshold: float = Field(
        default=0.5, ge=0, le=1, description="a share of the votes: a number from 0 to 1"
    )
    votes: Literal["anomaly", "sklearn"] = "anomaly"


class MeanParams(Form):
    """The params of ``mean``; no weights are equal weights."""

    weights: _Weights = ABSENT


class ConcatParams(Form):
    """The params of ``concat``."""

    axis: int = Field(default=1, description="an axis: a whole number")


@dataclass(frozen=True)
class OperationForm:
    """What a step with one built-in operation may say: its params, and how many tensors."""

    params: type[Form]
    inputs: tuple[int, int | None]
    outputs: tuple[int, int | None] = (1, 1)


OPERATION_FORMS: Mapping[str, OperationForm] = MappingProxyType(
    {
        "reconstruction_error": OperationForm(NoParams, inputs=(2, 2)),
        "threshold": OperationForm(ThresholdParams, inputs=(1, 1)),
        "vote": OperationForm(VoteParams, inputs=(1, None), outputs=(1, 2)),
        "mean": OperationForm(MeanParams, inputs=(1, None)),
        "concat": OperationForm(ConcatParams, inputs=(1, None)),
    }
)
"""The closed set of operations, as a manifest may write them."""


def operation_schema(name: str, form: OperationForm) -> dict[str, Any]:
    """Return the part of a step's JSON Schema that holds where its ``op`` has this name."""

    def count(limits: tuple[int, int | None]) -> dict[str, int]:
        keys = zip(("minItems", "maxItems"), limits, strict=True)
        return {key: limit for key, limit in keys if limit is not None}

    params = dict(form_schema(form.params))
    then: dict[str, Any] = {
        "properties": {
            "params": params,
            "inputs": count(form.inputs),
            "outputs": count(form.outputs),
        },
        "required": ["params"] if "required" in params else [],
    }
    return {"if": {"properties": {"op": {"const": name}}, "required": ["op"]}, "then": then}
