"""Between KServe's request and response types and ours, for an untouched ``kserve.ModelServer``."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from bundleserver.errors import InvalidInput, ModelNotFound, NotReady, QueueFull, VersionNotFound
from bundleserver.serving.codecs import v1
from bundleserver.serving.codecs.json_body import read_object
from bundleserver.serving.codecs.tensor_binary import array_from_bytes
from bundleserver.serving.codecs.tensor_form import checked_shape, known_datatype, texts
from bundleserver.serving.codecs.tensor_json import array_from_json, kind_of
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
    """Turn our errors into those that kserve's handlers know; what has no match stays as it is.

    Raises:
        kserve.errors.InvalidInput, ModelNotFound, ModelNotReady: each with our sentence.
    """
    try:
        yield
    except InvalidInput as error:
        raise kserve_errors.InvalidInput(str(error)) from error
    except (ModelNotFound, VersionNotFound) as error:
        not_found = kserve_errors.ModelNotFound(model)
        not_found.reason = str(error)
        raise not_found from error
    except (NotReady, QueueFull) as error:
        not_ready = kserve_errors.ModelNotReady(model)
        # kserve 0.21's gRPC side reads a reason that its own class does not have.
        not_ready.reason = not_ready.error_msg = str(error)
        raise not_ready from error


def decode_instances(model: str, payload: object) -> PredictRequest:
    """Read a V1 body, which kserve has parsed only where the content type says JSON.

    Raises:
        InvalidInput: it is no V1 request.
    """
    if isinstance(payload, bytes):
        payload = read_object(payload)
    if not isinstance(payload, dict):
        raise InvalidInput(f"the request body is {kind_of(payload)}; it should be a JSON object")
    return v1.decode_request(payload, model, None)


def decode_request(model: str, payload: InferRequest) -> PredictRequest:
    """Read a V2 request, REST or gRPC, that kserve has parsed.

    Raises:
        InvalidInput: a tensor's datatype, shape and data do not belong together.
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
    """Write an answer in the form that kserve encodes as the request asks."""
    # kserve 0.21 takes only lists for gRPC, which it makes raw itself, and for REST either.
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
    # kserve has no public way to the raw bytes that does not also turn them into an array.
    raw: bytes | None = given._raw_data
    if raw is not None:
        return array_from_bytes(raw, datatype, shape, name)
    data = given.data
    if isinstance(data, list) and datatype == "BYTES" and set(map(type, data)) == {bytes}:
        return texts(data, shape, name)
    return array_from_json(data, datatype, shape, name)


def _output(name: str, values: Array, as_list: bool) -> InferOutput:
    datatype = datatype_of(values)
    if datatype == "BYTES":
        values = values.astype(str) if values.dtype.kind in "Mm" else values
    values = values.astype(NUMPY_DTYPES[datatype], copy=False)
    data = values.ravel().tolist() if as_list else values
    return InferOutput(name, list(values.shape), datatype, data)
