"""Requests in one form for REST and gRPC, so that one table of requests asks both."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import grpc
import numpy as np

from bundleserver.serving.grpc.open_inference import InferParameter
from tests.serving.grpc_client import Client, connected, tensor

CONTENTS = {
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

REST_STATUS = {
    "OK": 200,
    "INVALID_ARGUMENT": 400,
    "NOT_FOUND": 404,
    "INTERNAL": 500,
    "UNAVAILABLE": 503,
}
"""The REST status that stands beside each gRPC status in the contract's table."""


def v2_input(name: str, datatype: str, shape: list[int], data: list[object]) -> dict[str, object]:
    """Make one input of a V2 request."""
    return {"name": name, "datatype": datatype, "shape": shape, "data": data}


@dataclass(frozen=True)
class Said:
    """A gRPC answer: its status, what it says of an error, and its outputs as plain values."""

    code: str
    details: str = ""
    version: str = ""
    id: str = ""
    outputs: Mapping[str, list[object]] = field(default_factory=dict)


def ask_grpc(
    address: str, model: str, *inputs: Mapping[str, object], version: str = "", **more: object
) -> Said:
    """Send the inputs of a V2 request over gRPC, typed; keywords are the request's fields."""
    with connected(address) as client:
        return ask(client, model, inputs, version, **more)


def ask(
    client: Client,
    model: str,
    inputs: Sequence[Mapping[str, object]],
    version: str = "",
    parameters: Mapping[str, object] | None = None,
    **more: object,
) -> Said:
    """Ask over an open connection."""
    tensors = [_message(given) for given in inputs]
    if parameters:
        more["parameters"] = {name: _parameter(value) for name, value in parameters.items()}
    try:
        answer = client.infer(*tensors, model=model, model_version=version, **more)
    except grpc.RpcError as error:
        return Said(error.code().name, error.details())
    outputs = {output.name: _values(output) for output in answer.outputs}
    return Said("OK", "", answer.model_version, answer.id, outputs)


def raw_bytes(data: Sequence[str]) -> bytes:
    """Write texts as the binary extension does."""
    encoded = [text.encode() for text in data]
    return b"".join(struct.pack("<I", len(text)) + text for text in encoded)


def _message(given: Mapping[str, object]) -> object:
    datatype, data = str(given["datatype"]), given.get("data")
    if data is None or datatype not in CONTENTS:
        return tensor(given["name"], datatype, given["shape"])
    flat = np.array(data, dtype=object).ravel().tolist()
    values = [value.encode() if isinstance(value, str) else value for value in flat]
    return tensor(given["name"], datatype, given["shape"], **{CONTENTS[datatype]: values})


def _parameter(value: object) -> object:
    kinds = {bool: "bool_param", int: "int64_param", float: "double_param", str: "string_param"}
    return InferParameter(**{kinds[type(value)]: value})


def _values(output: object) -> list[object]:
    values = list(getattr(output.contents, CONTENTS[output.datatype]))
    return [value.decode() if isinstance(value, bytes) else value for value in values]
