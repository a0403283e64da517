"""One request answered by one bundle: validate its inputs once, predict, select the outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from bundleserver.errors import InvalidInput
from bundleserver.serving.codecs.tensor_json import kind_of, plain_values
from bundleserver.serving.requests import PredictRequest, PredictResponse, RequestedOutput
from bundleserver.tensors import Array, NamedTensor, TensorSpec, array_from_rows

if TYPE_CHECKING:
    from bundleserver.bundle import Bundle

INSTANCE_PARAMETERS = ("level",)
"""What an instance of a forecaster's V1 request may hold beside its inputs."""

Inputs = Mapping[str, NamedTensor]
"""Validated inputs, by the names that the bundle knows."""


def predict(
    bundle: Bundle, request: PredictRequest, inputs: Inputs | None = None
) -> PredictResponse:
    """Answer a decoded request.

    Args:
        bundle: who answers.
        request: what was asked.
        inputs: what ``validate`` made of the request, where that is known already.

    Raises:
        InvalidInput: the request does not fit the bundle.
        NotReady: a member model does not answer now.
        PredictionError: the model's own code raised.
    """
    if request.rows is not None and not bundle.signature.rowwise:
        answers = _answer_instances(bundle, request.rows, request.parameters)
        return respond(bundle, request, {}, answers)
    if inputs is None:
        inputs = validate(bundle, request)
    return respond(bundle, request, bundle.predict(inputs, request.parameters))


def validate(bundle: Bundle, request: PredictRequest) -> Inputs:
    """Validate what came, and give it the names, shapes and datatypes that the bundle knows.

    Raises:
        InvalidInput: the request does not fit the bundle.
    """
    if request.rows is not None:
        return bundle.signature.bind_rows(request.rows, bundle.identity)
    content_type = request.parameters.get("content_type")
    if content_type is not None and not isinstance(content_type, str):
        raise InvalidInput(
            f"parameter 'content_type' is {content_type!r}; expected a string such as 'pd'"
        )
    return bundle.signature.bind_tensors(request.tensors or (), bundle.identity, content_type)


def respond(
    bundle: Bundle,
    request: PredictRequest,
    outputs: Mapping[str, Array],
    answers: list[object] | None = None,
) -> PredictResponse:
    """Make the response: the outputs that the request names, in its order, and its parameters.

    Args:
        bundle: who answers.
        request: what was asked.
        outputs: every output of the bundle.
        answers: an answer for each instance, of a bundle that answers them one by one.

    Raises:
        InvalidInput: the request names an output that the bundle does not have.
    """
    if request.outputs:
        outputs = {wanted.name: _output(outputs, wanted, bundle) for wanted in request.outputs}
    parameters = request.parameters
    if "binary_data_output" in parameters:
        # How the answer is encoded is not repeated.
        parameters = {k: v for k, v in parameters.items() if k != "binary_data_output"}
    return PredictResponse(
        request.model,
        bundle.version,
        outputs,
        parameters,
        request.id,
        bundle.signature.rowwise,
        answers,
    )


def row_count(request: PredictRequest) -> int:
    """Count a request's rows without looking at its values; 0 where it has none."""
    if request.rows is not None:
        return len(request.rows)
    tensors = request.tensors
    shape = tensors[0].values.shape if tensors else ()
    return shape[0] if shape else 0


def are_finite(inputs: Inputs) -> bool:
    """Ask whether all values are finite numbers: libraries treat others in slower ways."""
    for tensor in inputs.values():
        kind = tensor.values.dtype.kind
        if kind not in "biuf":
            return False
        # Counted as bytes: reducing a small array takes longer than everything else here.
        if kind == "f" and np.isfinite(tensor.values).tobytes().count(0):
            return False
    return True


def _output(outputs: Mapping[str, Array], wanted: RequestedOutput, bundle: Bundle) -> Array:
    if wanted.name not in outputs:
        known = ", ".join(f"'{name}'" for name in outputs)
        raise InvalidInput(f"unknown output '{wanted.name}'; {bundle.identity} has {known}")
    return outputs[wanted.name]


def _answer_instances(
    bundle: Bundle, rows: Sequence[object], parameters: Mapping[str, object]
) -> list[object]:
    """Answer each instance by a call of its own: their horizons may differ."""
    if not rows:
        raise InvalidInput(f"'instances' is an empty array; {bundle.identity} takes at least one")
    return [_answer_instance(bundle, index, row, parameters) for index, row in enumerate(rows)]


def _answer_instance(
    bundle: Bundle, index: int, row: object, parameters: Mapping[str, object]
) -> dict[str, object]:
    if not isinstance(row, dict):
        raise InvalidInput(
            f"instances[{index}] is {kind_of(row)}; {bundle.identity} takes an object, "
            'as in {"horizon": 24, "level": 0.9}'
        )
    specs = {spec.name: spec for spec in bundle.signature.inputs}
    own = {name: row[name] for name in INSTANCE_PARAMETERS if name in row and name not in specs}
    try:
        tensors = [
            _tensor(specs.get(name, TensorSpec(name)), value, bundle.identity)
            for name, value in row.items()
            if name not in own
        ]
        inputs = bundle.signature.bind_tensors(tensors, bundle.identity)
        outputs = bundle.predict(inputs, {**parameters, **own})
    except InvalidInput as error:
        raise InvalidInput(f"instances[{index}]: {error}") from error
    return {name: plain_values(values, name) for name, values in outputs.items()}


def _tensor(spec: TensorSpec, value: object, taker: str) -> NamedTensor:
    """Make a tensor of one JSON value; a plain value is a list of one."""
    values = value if isinstance(value, list) else [value]
    return NamedTensor(spec.name, array_from_rows(values, spec, taker))
