"""One request answered by one bundle: validate its inputs once, predict, select the outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from bundleserver.bundle.warming.examples import validate_values
from bundleserver.errors import InvalidInput
from bundleserver.serving.codecs import content_types
from bundleserver.serving.codecs.tensor_json import kind_of, plain_values
from bundleserver.serving.execution.traced import ROWS, note_cache
from bundleserver.serving.requests import PredictRequest, PredictResponse, RequestedOutput
from bundleserver.spans import Span
from bundleserver.tensors import Array, NamedTensor, TensorSpec, describe
from bundleserver.tensors.budget import Budget, current_budget

if TYPE_CHECKING:
    from bundleserver.bundle import Bundle

INSTANCE_PARAMETERS = ("level",)
"""Parameters that an instance of a forecaster's V1 request may have beside its inputs."""

Inputs = Mapping[str, NamedTensor]
"""Validated inputs, by the names of the bundle's signature."""


def predict(
    bundle: Bundle, request: PredictRequest, inputs: Inputs | None = None
) -> PredictResponse:
    """Answer a decoded request.

    Args:
        bundle: the version.
        request: the request.
        inputs: the result of ``validate``, if it was called already.

    Raises:
        InvalidInput: the request is not valid for the bundle.
        NotReady: another model that the bundle calls is not ready.
        PredictionError: the model's own code raised.
    """
    if request.trace is None:
        return _predict(bundle, request, inputs)
    with request.trace.child("predict", **{ROWS: row_count(request)}):
        return _predict(bundle, request, inputs)


def _predict(bundle: Bundle, request: PredictRequest, inputs: Inputs | None) -> PredictResponse:
    bundle = as_asked(bundle, request)
    if request.rows is not None and not bundle.signature.rowwise:
        answers = _answer_instances(bundle, request.rows, request.parameters, request.trace)
        return respond(bundle, request, {}, answers)
    if inputs is None:
        inputs = validate(bundle, request)
    if request.trace is not None:
        note_cache(request.trace, bundle, inputs, request.parameters)
    return respond(bundle, request, bundle.predict(inputs, request.parameters))


def as_asked(bundle: Bundle, request: PredictRequest) -> Bundle:
    """Return a bundle as it makes the outputs that a request asks for.

    Raises:
        InvalidInput: a name is neither an output nor a method of its model.
    """
    if not request.outputs:
        return bundle
    return bundle.answering([wanted.name for wanted in request.outputs])


def validate(bundle: Bundle, request: PredictRequest) -> Inputs:
    """Validate a request, and coerce it to the bundle's names, shapes and datatypes.

    Raises:
        InvalidInput: the request is not valid for the bundle.
    """
    if request.rows is not None:
        return bundle.signature.validate_rows(request.rows, bundle.identity)
    content_type = request.parameters.get("content_type")
    if content_type is not None:
        content_type = content_types.of_request(content_type)
    return bundle.signature.validate_tensors(request.tensors or (), bundle.identity, content_type)


def respond(
    bundle: Bundle,
    request: PredictRequest,
    outputs: Mapping[str, Array],
    answers: list[object] | None = None,
) -> PredictResponse:
    """Make the response: the requested outputs, in the request's order, and its parameters.

    Args:
        bundle: the version.
        request: the request.
        outputs: every output of the bundle.
        answers: one response per instance, for a bundle that is not rowwise.

    Raises:
        InvalidInput: a requested output is unknown.
    """
    if request.outputs:
        outputs = {wanted.name: _output(outputs, wanted, bundle) for wanted in request.outputs}
    parameters = request.parameters
    if "binary_data_output" in parameters:
        # The encoding of the response is not repeated.
        parameters = {k: v for k, v in parameters.items() if k != "binary_data_output"}
    return PredictResponse(
        request.model,
        bundle.version,
        outputs,
        parameters,
        request.id,
        bundle.signature.rowwise,
        answers,
        bundle.signature,
    )


def row_count(request: PredictRequest) -> int:
    """Count a request's rows without validating it; 0 if it has none."""
    if request.rows is not None:
        return len(request.rows)
    tensors = request.tensors
    shape = tensors[0].values.shape if tensors else ()
    return shape[0] if shape else 0


def are_finite(inputs: Inputs) -> bool:
    """Ask whether all values are finite numbers: libraries are slower with others."""
    for tensor in inputs.values():
        kind = tensor.values.dtype.kind
        if kind not in "biuf":
            return False
        # Counted as bytes: numpy's reduction of a small array would take longest here.
        if kind == "f" and np.isfinite(tensor.values).tobytes().count(0):
            return False
    return True


def _output(outputs: Mapping[str, Array], wanted: RequestedOutput, bundle: Bundle) -> Array:
    if wanted.name not in outputs:
        raise InvalidInput(bundle.methods.unknown_output(wanted.name, outputs, bundle.identity))
    return outputs[wanted.name]


def _answer_instances(
    bundle: Bundle,
    rows: Sequence[object],
    parameters: Mapping[str, object],
    trace: Span | None = None,
) -> list[object]:
    """Answer each instance with a separate call: their horizons may differ."""
    if not rows:
        raise InvalidInput(
            f"'instances' is an empty array; {bundle.identity} expects at least one instance"
        )
    budget = current_budget() or Budget()
    answers: list[object] = []
    for index, row in enumerate(rows):
        budget.begin_instance()
        answers.append(_answer_instance(bundle, index, row, parameters, trace))
    return answers


def _answer_instance(
    bundle: Bundle,
    index: int,
    row: object,
    parameters: Mapping[str, object],
    trace: Span | None,
) -> dict[str, object]:
    if not isinstance(row, dict):
        raise InvalidInput(
            f"instances[{index}] is {kind_of(row)}; {bundle.identity} expects an object, "
            + _expected_object(bundle.signature.inputs)
        )
    names = {spec.name for spec in bundle.signature.inputs}
    own = {name: row[name] for name in INSTANCE_PARAMETERS if name in row and name not in names}
    try:
        values = {name: row[name] for name in row if name not in own}
        inputs = validate_values(values, bundle.signature, bundle.identity)
        parameters = {**parameters, **own}
        if trace is not None:
            note_cache(trace, bundle, inputs, parameters)
        outputs = bundle.predict(inputs, parameters)
    except InvalidInput as error:
        raise InvalidInput(f"instances[{index}]: {error}") from error
    return {name: plain_values(values, name) for name, values in outputs.items()}


def _expected_object(inputs: Sequence[TensorSpec]) -> str:
    """Describe an instance of a model without rows: a forecaster's, or one with all inputs."""
    if any(spec.name == "horizon" for spec in inputs):
        return 'as in {"horizon": 24, "level": 0.9}'
    return "with the values of " + ", ".join(map(describe, inputs))
