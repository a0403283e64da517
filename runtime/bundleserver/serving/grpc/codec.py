"""gRPC's infer messages decoded and encoded: typed or raw contents, the same checks as REST."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
from google.protobuf.message import Message

from bundleserver.errors import InvalidInput
from bundleserver.serving.codecs import content_types
from bundleserver.serving.codecs.tensor_binary import Elements, array_from_bytes, bytes_from_array
from bundleserver.serving.codecs.tensor_form import (
    checked_shape,
    elements_of,
    known_datatype,
    strings,
)
from bundleserver.serving.codecs.tensor_json import out_of_range, shaped
from bundleserver.serving.grpc.open_inference import InferParameter, ModelInferResponse
from bundleserver.serving.requests import PredictRequest, PredictResponse, RequestedOutput
from bundleserver.tensors import NUMPY_DTYPES, Array, NamedTensor, datatype_of

CONTENTS: Mapping[str, str] = MappingProxyType(
    {
        "BOOL": "bool_contents",
        "INT8": "int_contents",
        "INT16": "int_contents",
        "INT32": "int_contents",
        "INT64": "int64_contents",
        "UINT8": "uint_contents",
        "UINT16": "uint_contents",
        "UINT32": "uint_contents",
        "UINT64": "uint64_contents",
        "FP32": "fp32_contents",
        "FP64": "fp64_contents",
        "BYTES": "bytes_contents",
    }
)
"""The field of typed contents of each datatype; FP16 has none and is always raw."""

_PIECE_VALUES = 2**14
"""Numbers that are converted at a time."""

_UNSUPPORTED = ("shared_memory_region", "classification")
"""Tensor parameters of Triton that would change where data are or what they mean."""


def decode_request(
    message: Message, routing_key: str | None = None, most_values: int = 0
) -> PredictRequest:
    """Decode a ``ModelInferRequest``; the routing key comes from the metadata.

    Raises:
        InvalidInput: the message is not a valid request.
        TooManyValues: its raw contents have more elements.
    """
    elements = Elements(most_values)
    raw = message.raw_input_contents
    if raw and len(raw) != len(message.inputs):
        raise InvalidInput(
            f"the request has {len(message.inputs)} inputs and {len(raw)} raw_input_contents; "
            "expected one for each input"
        )
    tensors: dict[str, NamedTensor] = {}
    for position, tensor in enumerate(message.inputs):
        name = _name(tensor.name, f"inputs[{position}]")
        if name in tensors:
            raise InvalidInput(f"duplicate input '{name}'; names must be unique")
        tensors[name] = NamedTensor(name, _values(tensor, raw[position] if raw else None, elements))
    return PredictRequest(
        message.model_name,
        message.model_version or None,
        tensors=tuple(tensors.values()),
        parameters=decode_parameters(message.parameters, "the request"),
        outputs=_decode_outputs(message),
        id=message.id or None,
        routing_key=routing_key,
    )


def wants_raw(message: Message) -> bool:
    """Ask whether the response has raw contents, as Triton's: unless the request's are typed."""
    return bool(message.raw_input_contents) or not message.inputs


def encode_response(response: PredictResponse, raw: bool) -> Message:
    """Encode a response, all outputs raw or all typed; with FP16, which has no type, all raw."""
    datatypes = {name: datatype_of(values) for name, values in response.outputs.items()}
    raw = raw or "FP16" in datatypes.values()
    message = ModelInferResponse(
        model_name=response.model, model_version=response.version, id=response.id or ""
    )
    encode_parameters(response.parameters, message.parameters)
    for name, values in response.outputs.items():
        output = message.outputs.add(name=name, datatype=datatypes[name], shape=values.shape)
        if raw:
            message.raw_output_contents.append(bytes_from_array(values))
            continue
        output.contents.SetInParent()
        is_bytes = datatypes[name] == "BYTES"
        field = getattr(output.contents, CONTENTS[datatypes[name]])
        field.extend(elements_of(values) if is_bytes else np.ravel(values).tolist())
    return message


def decode_parameters(parameters: Mapping[str, Message], where: str) -> dict[str, object]:
    """Decode parameters into plain values.

    Raises:
        InvalidInput: a parameter has no value of a known kind.
    """
    decoded: dict[str, object] = {}
    for name, parameter in parameters.items():
        kind = parameter.WhichOneof("parameter_choice")
        if kind is None:
            raise InvalidInput(f"{where} has the parameter '{name}' without a value")
        decoded[name] = getattr(parameter, kind)
    return decoded


def encode_parameters(values: Mapping[str, object], parameters: Mapping[str, Message]) -> None:
    """Encode plain values as a message's parameters; kinds unknown to the protocol as strings."""
    for name, value in values.items():
        parameters[name].CopyFrom(_parameter(value))


def _parameter(value: object) -> Message:
    if isinstance(value, bool):
        return InferParameter(bool_param=value)
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return InferParameter(int64_param=value)
    if isinstance(value, int) and 0 <= value < 2**64:
        return InferParameter(uint64_param=value)
    if isinstance(value, float):
        return InferParameter(double_param=value)
    return InferParameter(string_param=str(value))


def _name(name: str, where: str) -> str:
    if not name:
        raise InvalidInput(f"{where}.name is missing; expected a string")
    return name


def _values(tensor: Message, raw: bytes | None, elements: Elements) -> Array:
    name = tensor.name
    _refuse_unsupported(tensor.parameters, f"input '{name}'")
    values = _plain_values(tensor, raw, elements)
    if "content_type" in tensor.parameters:
        parameters = decode_parameters(tensor.parameters, f"input '{name}'")
        values = content_types.converted(values, parameters["content_type"], name)
    return values


def _plain_values(tensor: Message, raw: bytes | None, elements: Elements) -> Array:
    name = tensor.name
    datatype = known_datatype(tensor.datatype, name)
    shape = checked_shape(tensor.shape, name)
    filled = [field.name for field, _ in tensor.contents.ListFields()]
    if raw is None:
        return _typed_values(tensor.contents, filled, datatype, shape, name)
    if filled:
        raise InvalidInput(
            f"input '{name}' has both contents and raw_input_contents; expected one of them"
        )
    return array_from_bytes(raw, datatype, shape, name, elements)


def _typed_values(
    contents: Message, filled: list[str], datatype: str, shape: tuple[int, ...], name: str
) -> Array:
    if datatype not in CONTENTS:
        raise InvalidInput(
            f"input '{name}' has no typed contents for {datatype}; use raw_input_contents"
        )
    field = CONTENTS[datatype]
    wrong = [other for other in filled if other != field]
    if wrong:
        raise InvalidInput(
            f"input '{name}' has its values in {wrong[0]}; expected {field} for {datatype}"
        )
    listed = getattr(contents, field)
    if datatype == "BYTES":
        return strings(listed, shape, name)
    return shaped(_numbers(listed, datatype, name), shape, name)


def _numbers(listed: Sequence[float], datatype: str, name: str) -> Array:
    target = NUMPY_DTYPES[datatype]
    if target.kind not in "iu":
        return _array(listed, target)
    wide = _array(listed, np.dtype(np.uint64 if datatype == "UINT64" else np.int64))
    limits = np.iinfo(datatype.lower())
    outside = (wide < limits.min) | (wide > limits.max)
    if outside.any():
        raise out_of_range(name, wide[outside][0], datatype)
    return wide.astype(target, copy=False)


def _array(listed: Sequence[float], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Convert numbers, in pieces so that other threads run in between."""
    if len(listed) <= _PIECE_VALUES:
        return np.fromiter(listed, dtype, len(listed))
    values = np.empty(len(listed), dtype)
    for start in range(0, len(listed), _PIECE_VALUES):
        piece = listed[start : start + _PIECE_VALUES]
        values[start : start + len(piece)] = np.fromiter(piece, dtype, len(piece))
    return values


def _decode_outputs(message: Message) -> tuple[RequestedOutput, ...]:
    asked: dict[str, RequestedOutput] = {}
    for position, output in enumerate(message.outputs):
        name = _name(output.name, f"outputs[{position}]")
        if name in asked:
            raise InvalidInput(f"duplicate output '{name}'; names must be unique")
        _refuse_unsupported(output.parameters, f"output '{name}'")
        asked[name] = RequestedOutput(name)
    return tuple(asked.values())


def _refuse_unsupported(parameters: Mapping[str, Message], where: str) -> None:
    for parameter in _UNSUPPORTED:
        if parameter in parameters:
            raise InvalidInput(f"{where} has the parameter '{parameter}', which is not supported")
