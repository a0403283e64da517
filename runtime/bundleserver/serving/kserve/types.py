"""Between KServe's request and response types and ours, for an untouched ``kserve.ModelServer``."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from bundleserver.errors import BundleServerError, InvalidInput
from bundleserver.serving.codecs import v1
from bundleserver.serving.codecs.json_body import decode_object
from bundleserver.serving.codecs.tensor_binary import array_from_bytes
from bundleserver.serving.codecs.tensor_form import checked_shape, known_datatype, strings
from bundleserver.serving.codecs.tensor_json import array_from_json, kind_of
from bundleserver.serving.errors import answer_for
from bundleserver.serving.kserve.sdk import (
    InferInput,
    InferOutput,
    InferRequest,
    InferResponse,
    kserve_errors,
    to_http_parameters,
)
from bundleserver.serving.requests import PredictRequest, PredictResponse, RequestedOutput
from bundleserver.tensors import NUMPY_DTYPES, Array, NamedTensor, datatype_of


@contextmanager
def raising_kserve_errors(model: str) -> Iterator[None]:
    """Convert our errors to kserve's; those without an equivalent stay as they are.

    Raises:
        kserve.errors.InvalidInput, ModelNotFound, ModelNotReady: each with our message.
    """
    try:
        yield
    except BundleServerError as error:
        answer = answer_for(error)
        if answer.status in (503, 504):
            not_ready = kserve_errors.ModelNotReady(model)
            # kserve 0.21's gRPC server uses a reason that its class does not have.
            not_ready.reason = not_ready.error_msg = answer.message
            raise not_ready from error
        if answer.status == 404:
            not_found = kserve_errors.ModelNotFound(model)
            not_found.reason = answer.message
            raise not_found from error
        if answer.status < 500:
            raise kserve_errors.InvalidInput(answer.message) from error
        raise


def decode_instances(model: str, payload: object) -> PredictRequest:
    """Decode a V1 body, which kserve has decoded only if the content type is JSON.

    Raises:
        InvalidInput: it is not a valid V1 request.
    """
    if isinstance(payload, bytes):
        payload = decode_object(payload)
    if not isinstance(payload, dict):
        raise InvalidInput(f"the request body is {kind_of(payload)}; expected a JSON object")
    return v1.decode_request(payload, model, None)


def decode_request(model: str, payload: InferRequest) -> PredictRequest:
    """Convert a V2 request, REST or gRPC, that kserve has decoded.

    Raises:
        InvalidInput: a tensor's datatype, shape and data do not match.
    """
    return PredictRequest(
        model,
        payload.model_version or None,
        tensors=tuple(NamedTensor(given.name, _values(given)) for given in payload.inputs),
        parameters=to_http_parameters(payload.parameters or {}),
        outputs=tuple(RequestedOutput(asked.name) for asked in payload.request_outputs or ()),
        id=payload.id or None,
    )


def encode_response(response: PredictResponse, payload: InferRequest) -> InferResponse:
    """Convert a response, which kserve encodes as requested."""
    # kserve 0.21 accepts only lists for gRPC, which it encodes as raw itself.
    as_list = payload.from_grpc
    return InferResponse(
        response_id=response.id or str(uuid.uuid4()),
        model_name=response.model,
        model_version=response.version,
        infer_outputs=[_output(name, array, as_list) for name, array in response.outputs.items()],
        parameters=dict(response.parameters) or None,
        use_binary_outputs=payload.use_binary_outputs,
        requested_outputs=payload.request_outputs,
    )


def _values(given: InferInput) -> Array:
    name = given.name
    datatype = known_datatype(given.datatype, name)
    shape = checked_shape(given.shape, name)
    # kserve has no public access to the raw bytes without converting them to an array.
    raw: bytes | None = given._raw_data
    if raw is not None:
        return array_from_bytes(raw, datatype, shape, name)
    data = given.data
    if isinstance(data, list) and datatype == "BYTES" and set(map(type, data)) == {bytes}:
        return strings(data, shape, name)
    return array_from_json(data, datatype, shape, name)


def _output(name: str, values: Array, as_list: bool) -> InferOutput:
    datatype = datatype_of(values)
    if values.dtype.kind in "Mm":
        values = values.astype(str)
    values = values.astype(NUMPY_DTYPES[datatype], copy=False)
    data = values.ravel().tolist() if as_list else values
    return InferOutput(name, list(values.shape), datatype, data)
