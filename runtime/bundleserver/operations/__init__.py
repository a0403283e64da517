"""The built-in operations of a manifest's steps: a small closed set over numpy arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, cast

import numpy as np

from bundleserver.documents.forms import Form, form_problems, form_schema
from bundleserver.documents.strict_json import Place, json_path
from bundleserver.errors import BundleError, InvalidInput
from bundleserver.operations import voting
from bundleserver.operations.params import (
    ConcatParams,
    MeanParams,
    NoParams,
    ThresholdParams,
    VoteParams,
    dtype_of_labels,
    problem_with_weights,
)
from bundleserver.tensors import Array, NamedTensor, TensorSpec, datatype_of
from bundleserver.tensors.call_traits import CallTraits
from bundleserver.tensors.meaning import Meaning

_Limits = tuple[int, int | None]


@dataclass(frozen=True)
class Operation:
    """One operation; the docstring of ``run`` describes its inputs and outputs.

    Attributes:
        name: what a step's ``op`` says.
        params: the form of a step's ``params``.
        inputs: the minimum and maximum number of its inputs; None is any number.
        outputs: its outputs as far as known before it runs; a step has one or more of them.
        run: computes the outputs by position from the inputs by position and the params' form.
            Raises InvalidInput for shapes, datatypes or values that are not valid.
        is_batchable: asks whether a row's result never depends on other rows, to the bit.
        meaning: says what its params make of values, if they do.
    """

    name: str
    params: type[Form]
    inputs: _Limits
    outputs: tuple[TensorSpec, ...]
    run: Callable[[Sequence[NamedTensor], Any], Sequence[Array]]
    is_batchable: Callable[[Any], bool] = lambda params: False
    meaning: Callable[[Any], Meaning | None] = lambda params: None

    def problems(
        self, step: Place, params: object, inputs: int | None, outputs: int | None
    ) -> Iterator[tuple[Place, str]]:
        """Find the problems of a step; an argument that is None is not checked.

        Args:
            step: the step's place in its document.
            params: the step's params.
            inputs: the number of its inputs.
            outputs: the number of its outputs.
        """
        for key, count, limits in (
            ("inputs", inputs, self.inputs),
            ("outputs", outputs, (1, len(self.outputs))),
        ):
            if count is not None and (problem := _problem_with_count(count, limits)):
                yield (*step, key), problem
        if params is None:
            return
        found = form_problems(self.params, params, (*step, "params"))
        yield from ((place, problem.what) for place, problem in found.items())
        weights = params.get("weights") if isinstance(params, Mapping) and not found else None
        if weights is not None and (problem := problem_with_weights(weights, inputs)):
            yield (*step, "params", "weights"), problem

    def read(self, step: Place, params: Mapping[str, object], inputs: int, outputs: int) -> Form:
        """Parse a step's params.

        Raises:
            BundleError: lists the problems of the step.
        """
        found = [*self.problems(step, dict(params), inputs, outputs)]
        if found:
            listed = "; ".join(f"{json_path(place)} {what}" for place, what in found)
            raise BundleError(f"operation '{self.name}': {listed}")
        return self.params.model_validate(dict(params))

    def meaning_of(self, params: Mapping[str, object]) -> Meaning | None:
        """Return what a step's valid params make of values; None where they make nothing of it."""
        return self.meaning(self.params.model_validate(dict(params)))

    def call_traits(self, params: Form) -> CallTraits:
        """Return a step's call traits; the order of a sum may depend on the number of rows."""
        return CallTraits(predictable=True, batchable=self.is_batchable(params))

    def schema(self) -> dict[str, Any]:
        """Return the part of a step's JSON Schema for this ``op``."""
        params = dict(form_schema(self.params))
        then: dict[str, Any] = {
            "properties": {
                "params": params,
                "inputs": _count_schema(self.inputs),
                "outputs": _count_schema((1, len(self.outputs))),
            },
            "required": ["params"] if "required" in params else [],
        }
        return {
            "if": {"properties": {"op": {"const": self.name}}, "required": ["op"]},
            "then": then,
        }


def _problem_with_count(count: int, limits: _Limits) -> str | None:
    fewest, most = limits
    if fewest <= count and (most is None or count <= most):
        return None
    least = f"{fewest} or {most}" if most else f"{fewest} or more"
    return f"has {count} names; expected {fewest if most == fewest else least}"


def _count_schema(limits: _Limits) -> dict[str, int]:
    keys = zip(("minItems", "maxItems"), limits, strict=True)
    return {key: limit for key, limit in keys if limit is not None}


def reconstruction_error(inputs: Sequence[NamedTensor], params: NoParams) -> Sequence[Array]:
    """Compute reconstruction errors: two tensors ``[n, …]`` of one shape → FP64 ``[n]``.

    The mean of the squared differences over all axes but the first, in double precision.
    """
    first, second = (_numbers(tensor) for tensor in inputs)
    _check_same_shape(inputs)
    if first.ndim == 0 or 0 in first.shape[1:]:
        raise InvalidInput(
            f"input '{inputs[0].name}' has shape {list(first.shape)}; a reconstruction error "
            "expects rows with values, [n, …]"
        )
    with np.errstate(over="ignore", invalid="ignore"):
        squares = np.square(first - second)
        return [squares.mean(axis=tuple(range(1, squares.ndim)))]


def threshold(inputs: Sequence[NamedTensor], params: ThresholdParams) -> Sequence[Array]:
    """Label values: any shape → the same shape, the second label where a value is above ``above``.

    ``labels`` (default ``[1, -1]``) are two integers (INT64), numbers (FP64), booleans (BOOL) or
    strings (BYTES). Above is strictly above; NaN is not above.
    """
    values = _numbers(inputs[0])
    choice = np.array(params.labels, dtype=dtype_of_labels(params.labels))
    return [np.asarray(choice[(values > params.above).astype(np.intp)], dtype=choice.dtype)]


def vote(inputs: Sequence[NamedTensor], params: VoteParams) -> Sequence[Array]:
    """Combine votes ``[n]``, one tensor per member → label INT64 ``[n]`` and score FP64 ``[n]``.

    ``weights``: equal by default; ``threshold``: 0.5; ``votes``, for the label too:
    ``anomaly`` (1 is an anomaly, 0 normal) or ``sklearn`` (-1 is an anomaly, 1 normal).
    """
    weights = params.weights or (1,) * len(inputs)
    return voting.combine(inputs, weights, params.threshold, voting.ENCODINGS[params.votes])


def mean(inputs: Sequence[NamedTensor], params: MeanParams) -> Sequence[Array]:
    """Average tensors of one shape → FP64 of that shape; ``weights``: equal by default."""
    arrays = [_numbers(tensor) for tensor in inputs]
    _check_same_shape(inputs)
    return [np.asarray(np.average(np.stack(arrays), axis=0, weights=params.weights))]


def concat(inputs: Sequence[NamedTensor], params: ConcatParams) -> Sequence[Array]:
    """Concatenate tensors along ``axis`` (default 1; -1 is the last) → one tensor.

    All other axes must be equal. Numbers are converted to a common datatype if no value changes;
    strings are only concatenated with strings.
    """
    axis = params.axis
    shapes = [tensor.values.shape for tensor in inputs]
    if any(not -len(shape) <= axis < len(shape) for shape in shapes):
        raise InvalidInput(f"{_listed(inputs)} cannot be concatenated: axis {axis} is out of range")
    others = {tuple(np.delete(shape, axis)) for shape in shapes}
    if len(others) > 1:
        raise InvalidInput(
            f"{_listed(inputs)} cannot be concatenated along axis {axis}: other dimensions differ"
        )
    return [np.concatenate(_in_one_datatype(inputs), axis=axis)]


def _numbers(tensor: NamedTensor) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    if tensor.values.dtype.kind not in "biuf":
        raise InvalidInput(
            f"input '{tensor.name}' has datatype {datatype_of(tensor.values)}; expected numbers"
        )
    return tensor.values.astype(np.float64)


def _check_same_shape(inputs: Sequence[NamedTensor]) -> None:
    if len({tensor.values.shape for tensor in inputs}) > 1:
        raise InvalidInput(f"{_listed(inputs)} differ in shape; expected one shape")


def _listed(inputs: Sequence[NamedTensor]) -> str:
    return "inputs " + ", ".join(
        f"'{tensor.name}' {list(tensor.values.shape)}" for tensor in inputs
    )


def _in_one_datatype(inputs: Sequence[NamedTensor]) -> list[Array]:
    strings = [tensor.values.dtype.kind not in "biuf" for tensor in inputs]
    if all(strings):
        return [tensor.values.astype(object) for tensor in inputs]
    if any(strings):
        raise InvalidInput(f"{_listed(inputs)} mix strings and numbers; expected one kind")
    target = np.result_type(*(tensor.values.dtype for tensor in inputs))
    for tensor in inputs:
        if not _is_exact(tensor.values, target):
            raise InvalidInput(
                f"input '{tensor.name}' has {datatype_of(tensor.values)} values that cannot be "
                f"converted to {datatype_of(np.empty(0, target))} exactly"
            )
    return [tensor.values.astype(target) for tensor in inputs]


def _is_exact(values: Array, target: np.dtype[np.generic]) -> bool:
    """Ask whether integers are exact as floats; all other promotions of numpy are lossless."""
    if values.dtype.kind not in "iu" or target.kind != "f" or not values.size:
        return True
    largest: int = 2 ** (int(np.finfo(cast("np.dtype[np.float64]", target)).nmant) + 1)
    return -largest <= int(values.min()) and int(values.max()) <= largest


OPERATIONS: Mapping[str, Operation] = MappingProxyType(
    {
        operation.name: operation
        for operation in (
            Operation(
                name="reconstruction_error",
                params=NoParams,
                inputs=(2, 2),
                outputs=(TensorSpec("error", "FP64", (-1,)),),
                run=reconstruction_error,
            ),
            Operation(
                name="threshold",
                params=ThresholdParams,
                inputs=(1, 1),
                outputs=(TensorSpec("label"),),
                run=threshold,
                is_batchable=lambda params: True,
                meaning=lambda params: Meaning(
                    f"{params.labels[1]!r} above the threshold and {params.labels[0]!r} below"
                ),
            ),
            Operation(
                name="vote",
                params=VoteParams,
                inputs=(1, None),
                outputs=(TensorSpec("label", "INT64", (-1,)), TensorSpec("score", "FP64", (-1,))),
                run=vote,
                meaning=lambda params: voting.ENCODINGS[params.votes].meaning,
            ),
            Operation(
                name="mean",
                params=MeanParams,
                inputs=(1, None),
                outputs=(TensorSpec("mean", "FP64"),),
                run=mean,
            ),
            Operation(
                name="concat",
                params=ConcatParams,
                inputs=(1, None),
                outputs=(TensorSpec("joined"),),
                run=concat,
                is_batchable=lambda params: params.axis in (-1, 1),
            ),
        )
    }
)
"""The closed set, by the name that a step's ``op`` gives."""
