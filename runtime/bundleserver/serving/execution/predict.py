"""One request answered by one bundle: bind, predict, select. Runs in a worker thread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from bundleserver.errors import InvalidInput
from bundleserver.serving.codecs.tensor_json import kind_of, plain_values
from bundleserver.serving.requests import PredictRequest, PredictResponse, RequestedOutput
from bundleserver.tensors import Array, NamedTensor, TensorSpec, array_from_rows

if TYPE_CHECKING:
    from bundleserver.bundle import Bundle

INSTANCE_PARAMETERS = ("level",)
"""What an instance of a forecaster's V1 request may hold beside its inputs."""


def predict(
    bundle: Bundle, request: PredictRequest, bound: Mapping[str, NamedTensor] | None = None
) -> PredictResponse:
    """Answer a decoded request; the answer repeats its parameters, but not how it is to be encoded.

    Args:
        bundle: who answers.
        request: what was asked.
        bound: what ``bind`` made of the request, where that is known already.

    Raises:
        InvalidInput: the request does not fit the bundle.
        NotReady: a member model does not answer now.
        PredictionError: the model's own code raised.
    """
    if request.rows is not None and not bundle.signature.rowwise:
        answers = _answer_instances(bundle, request.rows, request.parameters)
        return respond(bundle, request, {}, answers)
    inputs = bind(bundle, request) if bound is None else bound
    return respond(bundle, request, bundle.predict(inputs, request.parameters))


def bind(bundle: Bundle, request: PredictRequest) -> Mapping[str, NamedTensor]:
    """Give what came the names, shapes and datatypes that the bundle knows.

    Raises:
        InvalidInput: the request does not fit the bundle.
    """
    if request.rows is not None:
        return bundle.signature.bind_rows(request.rows, bundle.identity)
    content_type = request.parameters.get("content_type")
    if content_type is not None and not isinstance(content_type, str):
        raise InvalidInput(
            f"parameter 'content_type' is {content_type!r}; expected text such as 'pd'"
        )
    return bundle.signature.bind_tensors(request.tensors or (), bundle.identity, content_type)


def respond(
    bundle: Bundle,
    request: PredictRequest,
    outputs: Mapping[str, Array],
    answers: list[object] | None = None,
) -> PredictResponse:
    """Make the answer of what the bundle gave: the outputs that the request names, in its order.

    Args:
        bundle: who answers.
        request: what was asked.
        outputs: every output of the bundle.
        answers: an answer for each instance, of a bundle that answers them one by one.

    Raises:
        InvalidInput: the request names an output that the bundle does not give.
    """
    if request.outputs:
        outputs = {wanted.name: _output(outputs, wanted, bundle) for wanted in request.outputs}
    parameters = request.parameters
    if "binary_data_output" in parameters:
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


def _output(outputs: Mapping[str, Array], wanted: RequestedOutput, bundle: Bundle) -> Array:
    if wanted.name not in outputs:
        given = ", ".join(f"'{name}'" for name in outputs)
        raise InvalidInput(f"unknown output '{wanted.name}'; {bundle.identity} gives {given}")
    return outputs[wanted.name]


def _answer_instances(
    bundle: Bundle, rows: Sequence[object], parameters: Mapping[str, object]
) -> list[object]:
    """Answer each instance by a call of its own: their horizons may differ."""
    if not rows:
        raise InvalidInput(f"'instances' is an empty list; {bundle.identity} takes at least one")
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
        bound = bundle.signature.bind_tensors(tensors, bundle.identity)
        outputs = bundle.predict(bound, {**parameters, **own})
    except InvalidInput as error:
        raise InvalidInput(f"instances[{index}]: {error}") from error
    return {name: plain_values(values, name) for name, values in outputs.items()}


def _tensor(spec: TensorSpec, value: object, taker: str) -> NamedTensor:
    """Make a tensor of one JSON value; a plain value is a list of one."""
    values = value if isinstance(value, list) else [value]
    return NamedTensor(spec.name, array_from_rows(values, spec, taker))
