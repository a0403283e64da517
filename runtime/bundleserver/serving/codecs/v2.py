"""The V2 protocol's bodies, JSON and the binary extension: tensors decoded and encoded."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from itertools import repeat
from typing import NamedTuple

import orjson

from bundleserver.errors import InvalidInput
from bundleserver.serving.codecs import content_types, json_body
from bundleserver.serving.codecs.json_body import PIECE_VALUES
from bundleserver.serving.codecs.json_pieces import LONG_BYTES
from bundleserver.serving.codecs.tensor_binary import Elements, array_from_bytes, bytes_from_array
from bundleserver.serving.codecs.tensor_form import (
    MOST_DIMENSIONS,
    SIZES,
    checked_shape,
    known_datatype,
)
from bundleserver.serving.codecs.tensor_json import array_from_json, came, kind_of, v2_data
from bundleserver.serving.requests import PredictRequest, PredictResponse, RequestedOutput
from bundleserver.tensors import DATATYPES, NUMPY_DTYPES, Array, NamedTensor, datatype_of

HEADER_LENGTH = "inference-header-content-length"
"""The header with the size of a body's JSON part in bytes."""

_INTEGER = frozenset({int})


class Encoded(NamedTuple):
    """A V2 response's body; ``header_length`` is the size of its JSON part if raw bytes follow."""

    body: bytes
    header_length: int | None = None


def decode_request(
    body: bytes,
    model: str,
    version: str | None,
    header_length: str | None = None,
    routing_key: str | None = None,
    most_values: int = 0,
) -> PredictRequest:
    """Decode a V2 request: a JSON object and, if the header has its length, raw bytes after it.

    Args:
        body: the request body.
        model: the model in the path.
        version: the version or label in the path.
        header_length: the header with the size of the JSON part.
        routing_key: the routing key.
        most_values: see ``json_body.decode``.

    Raises:
        InvalidInput, TooManyValues: the body is not a valid request, or too large a document.
    """
    if header_length is not None:
        size = _json_size(header_length, len(body))
        raw = _RawData(memoryview(body)[size:], True, most_values)
        document = json_body.decode_object(memoryview(body)[:size], most_values)
        return decode_document(model, version, routing_key, document, raw)
    if len(body) > LONG_BYTES:
        decode = partial(decode_document, model, version, routing_key)
        return json_body.decode(body, decode, most_values)
    return decode_document(model, version, routing_key, json_body.decode_object(body, most_values))


def decode_document(
    model: str,
    version: str | None,
    routing_key: str | None,
    document: dict[str, object],
    raw: _RawData | None = None,
) -> PredictRequest:
    """Decode the JSON object of a V2 request, and the raw bytes after it, if any.

    Raises:
        InvalidInput: it is not a valid request.
    """
    parameters: dict[str, object] = {}
    if "parameters" in document:
        parameters = json_body.optional_object(document, "parameters", "")
        json_body.optional_bool(parameters, "binary_data_output", "the parameter ")
    tensors = _decode_inputs(document, raw or _NO_RAW_DATA)
    if raw is not None:
        raw.check_used_up()
    outputs = _decode_outputs(document) if "outputs" in document else ()
    request_id = document.get("id")
    if request_id is not None and not isinstance(request_id, str):
        raise InvalidInput(f"'id' is {kind_of(request_id)}; expected a string")
    return PredictRequest(
        model, version, tensors, None, parameters, outputs, request_id, routing_key
    )


def encode_response(response: PredictResponse, request: PredictRequest) -> Encoded:
    """Encode the requested outputs in the request's order, each as requested: JSON or raw.

    Raises:
        InvalidInput: the model does not have a requested output, or bytes requested as JSON are
            not UTF-8.
    """
    binary_by_default = request.parameters.get("binary_data_output") is True
    outputs: list[dict[str, object]] = []
    raw: list[bytes] = []
    for name, binary in request.outputs or zip(response.outputs, repeat(None)):
        values = response.outputs.get(name)
        if values is None:
            known = ", ".join(f"'{output}'" for output in response.outputs)
            raise InvalidInput(
                f"unknown output '{name}'; model '{response.model}' has the outputs {known}"
            )
        described: dict[str, object] = {
            "name": name,
            "shape": values.shape,
            "datatype": DATATYPES.get(values.dtype) or datatype_of(values),
        }
        if binary_by_default if binary is None else binary:
            raw.append(bytes_from_array(values))
            described["parameters"] = {"binary_data_size": len(raw[-1])}
        else:
            data = v2_data(values, name)
            described["data"] = data if len(data) <= PIECE_VALUES else _encoded(data)
        outputs.append(described)
    envelope: dict[str, object] = {
        "model_name": response.model,
        "model_version": response.version,
    }
    if response.id is not None:
        envelope["id"] = response.id
    if response.parameters:
        envelope["parameters"] = response.parameters
    envelope["outputs"] = outputs
    head = json_body.encode(envelope)
    return Encoded(b"".join((head, *raw)), len(head)) if raw else Encoded(head)


def _encoded(data: Array | list[str]) -> orjson.Fragment:
    return orjson.Fragment(json_body.encode_array(len(data), PIECE_VALUES, data.__getitem__))


class _RawData:
    """The bytes after the JSON part, consumed in the order of the inputs."""

    def __init__(self, data: memoryview, announced: bool, most_values: int = 0) -> None:
        self._data, self._announced, self._start = data, announced, 0
        self.elements = Elements(most_values)

    def take(self, size: object, name: str) -> memoryview:
        if isinstance(size, bool) or not isinstance(size, int) or size < 0:
            raise InvalidInput(
                f"input '{name}': binary_data_size is {kind_of(size)}; expected an integer of at "
                "least 0"
            )
        if not self._announced:
            raise InvalidInput(
                f"input '{name}' has binary_data_size, but the header "
                "'Inference-Header-Content-Length' with the size of the JSON part is missing"
            )
        left = len(self._data) - self._start
        if size > left:
            raise InvalidInput(
                f"input '{name}': binary_data_size is {size}; expected at most {left}, the rest of "
                "the body"
            )
        self._start += size
        return self._data[self._start - size : self._start]

    def check_used_up(self) -> None:
        left = len(self._data) - self._start
        if left:
            raise InvalidInput(
                f"{left} bytes are left after the inputs; 'Inference-Header-Content-Length' and "
                "each binary_data_size must add up to the size of the body"
            )


_NO_RAW_DATA = _RawData(memoryview(b""), False)


def _json_size(header_length: str, body_size: int) -> int:
    text = header_length.strip()
    # More digits are never the size of a body, and Python refuses some of them.
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise InvalidInput(
            f"the header 'Inference-Header-Content-Length' is '{text[:40]}'; expected the size of "
            "the JSON part in bytes"
        )
    size = int(text)
    if size > body_size:
        raise InvalidInput(
            f"the header 'Inference-Header-Content-Length' is {size}; expected at most "
            f"{body_size}, the size of the body"
        )
    return size


def _decode_inputs(document: Mapping[str, object], raw: _RawData) -> tuple[NamedTensor, ...]:
    inputs = document.get("inputs")
    if not isinstance(inputs, list):
        keys = ", ".join(f"'{key}'" for key in list(document)[:10]) or "none"
        what = f"is {kind_of(inputs)}" if "inputs" in document else f"is missing (keys: {keys})"
        raise InvalidInput(f"'inputs' {what}; expected an array of tensors")
    tensors: dict[str, NamedTensor] = {}
    for position, item in enumerate(inputs):
        tensor = _decode_input(item, position, raw)
        if tensor.name in tensors:
            raise InvalidInput(f"duplicate input '{tensor.name}'; names must be unique")
        tensors[tensor.name] = tensor
    return tuple(tensors.values())


def _decode_input(item: object, position: int, raw: _RawData) -> NamedTensor:
    if not isinstance(item, dict):
        raise InvalidInput(
            f"inputs[{position}] is {kind_of(item)}; expected an object with name, shape, "
            "datatype, data"
        )
    name, datatype, shape = item.get("name"), item.get("datatype"), item.get("shape")
    if not (
        isinstance(name, str)
        and name
        and isinstance(datatype, str)
        and isinstance(shape, list)
        and _INTEGER.issuperset(map(type, shape))
    ):
        raise _invalid_input(item, f"inputs[{position}]")
    if datatype not in NUMPY_DTYPES:
        datatype = known_datatype(datatype, name)
    if len(shape) > MOST_DIMENSIONS or min(shape, default=0) < 0:
        checked_shape(shape, name)
    parameters: Mapping[str, object] = {}
    if "parameters" in item:
        parameters = json_body.optional_object(item, "parameters", f"input '{name}': ")
    has_data = item.get("data") is not None
    if "binary_data_size" not in parameters:
        if not has_data:
            raise InvalidInput(
                f"input '{name}': 'data' {came(item, 'data')}; expected an array of {datatype} "
                "values"
            )
        values = array_from_json(item["data"], datatype, tuple(shape), name)
        if "content_type" in parameters:
            values = content_types.converted(values, parameters["content_type"], name)
        return NamedTensor(name, values)
    if has_data:
        raise InvalidInput(
            f"input '{name}' has both 'data' and binary_data_size; expected one of them"
        )
    content = raw.take(parameters["binary_data_size"], name)
    values = array_from_bytes(content, datatype, tuple(shape), name, raw.elements)
    return NamedTensor(name, content_types.converted(values, parameters.get("content_type"), name))


def _decode_name(item: Mapping[str, object], where: str) -> str:
    name = item.get("name")
    if isinstance(name, str) and name:
        return name
    raise InvalidInput(f"{where}.name {came(item, 'name')}; expected a string")


def _invalid_input(item: Mapping[str, object], where: str) -> InvalidInput:
    """Make the error for an input whose name, datatype or shape is of the wrong kind."""
    name, shape = _decode_name(item, where), item.get("shape")
    if not isinstance(item.get("datatype"), str):
        known = ", ".join(NUMPY_DTYPES)
        problem = f"'datatype' {came(item, 'datatype')}; expected one of {known}"
    elif not isinstance(shape, list):
        problem = f"'shape' {came(item, 'shape')}; expected an array of integers"
    else:
        odd = next(size for size in shape if type(size) is not int)
        return InvalidInput(f"input '{name}' has {kind_of(odd)} in its shape; {SIZES}")
    return InvalidInput(f"input '{name}': {problem}")


def _decode_outputs(document: Mapping[str, object]) -> tuple[RequestedOutput, ...]:
    outputs = document.get("outputs")
    if outputs is None:
        return ()
    if not isinstance(outputs, list):
        raise InvalidInput(
            f"'outputs' is {kind_of(outputs)}; expected an array of objects with a name"
        )
    asked: dict[str, RequestedOutput] = {}
    for position, item in enumerate(outputs):
        where = f"outputs[{position}]"
        if not isinstance(item, dict):
            raise InvalidInput(f"{where} is {kind_of(item)}; expected an object with a name")
        name = _decode_name(item, where)
        if name in asked:
            raise InvalidInput(f"duplicate output '{name}'; names must be unique")
        parameters = json_body.optional_object(item, "parameters", f"output '{name}': ")
        binary = json_body.optional_bool(parameters, "binary_data", f"output '{name}': ")
        asked[name] = RequestedOutput(name, binary)
    return tuple(asked.values())
