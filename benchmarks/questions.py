"""Questions as bytes, and answers as arrays, in each protocol."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

import numpy as np
import orjson
from models import COLUMNS, HORIZON, SEQUENCE_STEPS, draw_rows

# kserve's own messages cannot be imported beside these, and importing kserve reads sys.argv.
from tritonclient.grpc import service_pb2 as messages
from workloads import Protocol, Workload

HEADER_LENGTH = "Inference-Header-Content-Length"


@dataclass(frozen=True)
class Question:
    """One request, ready to be sent; ``path`` is empty for gRPC."""

    path: str
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


def question(workload: Workload, seed: int = 0) -> Question:
    """Return what a workload asks; another seed asks about other rows."""
    rows = asked_rows(workload, seed)
    if workload.protocol is Protocol.V1:
        body = orjson.dumps({"instances": rows.tolist()})
        return Question(f"/v1/models/{workload.model}:predict", body, _headers("json"))
    if workload.protocol is Protocol.GRPC:
        return Question("", _grpc_message(workload.model, rows))
    if workload.protocol is Protocol.BINARY:
        return _binary_question(workload.model, rows)
    document = {"inputs": [_tensor(workload.model, rows, data=rows.ravel().tolist())]}
    return Question(f"/v2/models/{workload.model}/infer", orjson.dumps(document), _headers("json"))


def asked_rows(workload: Workload, seed: int = 0) -> np.ndarray:
    """Return the values that a workload asks about."""
    if workload.model in ("arima", "prophet"):
        return np.array([HORIZON], np.int64)
    if workload.model == "lstm":
        rows = draw_rows(workload.rows, SEQUENCE_STEPS * COLUMNS, seed).astype(np.float32)
        return rows.reshape(-1, SEQUENCE_STEPS, COLUMNS)
    rows = draw_rows(workload.rows, workload.columns, seed)
    return rows.astype(np.float32) if workload.model == "onnx" else rows


def answer_values(protocol: Protocol, body: bytes, header_length: str | None) -> np.ndarray:
    """Return the values of an answer's first output."""
    if protocol is Protocol.GRPC:
        answer = messages.ModelInferResponse.FromString(body)
        return _from_grpc(answer)
    if protocol is Protocol.V1:
        return np.asarray(orjson.loads(body)["predictions"])
    size = int(header_length) if header_length else len(body)
    output = orjson.loads(body[:size])["outputs"][0]
    if "data" in output:
        return np.asarray(output["data"]).reshape(output["shape"])
    raw = body[size : size + output["parameters"]["binary_data_size"]]
    return np.frombuffer(raw, _DTYPES[output["datatype"]]).reshape(output["shape"])


_DTYPES = {"FP64": np.float64, "FP32": np.float32, "INT64": np.int64, "INT32": np.int32}
_INPUTS = {"arima": "horizon", "prophet": "horizon", "lstm": "sequence", "onnx": "X"}
_INPUTS |= {"xgboost": "input-0", "lightgbm": "input-0"}
_DATATYPES = {np.dtype(dtype): name for name, dtype in _DTYPES.items()}


def _headers(kind: str) -> dict[str, str]:
    return {"Content-Type": f"application/{kind}"}


def _tensor(model: str, rows: np.ndarray, **more: object) -> dict[str, object]:
    return {
        "name": _INPUTS.get(model, "features"),
        "datatype": _DATATYPES[rows.dtype],
        "shape": list(rows.shape),
        **more,
    }


def _binary_question(model: str, rows: np.ndarray) -> Question:
    raw = rows.tobytes()
    document = {
        "inputs": [_tensor(model, rows, parameters={"binary_data_size": len(raw)})],
        "parameters": {"binary_data_output": True},
    }
    head = orjson.dumps(document)
    headers = {**_headers("octet-stream"), HEADER_LENGTH: str(len(head))}
    return Question(f"/v2/models/{model}/infer", head + raw, headers)


def _grpc_message(model: str, rows: np.ndarray) -> bytes:
    message = messages.ModelInferRequest(model_name=model)
    tensor = message.inputs.add(name=_INPUTS.get(model, "features"), shape=rows.shape)
    tensor.datatype = _DATATYPES[rows.dtype]
    message.raw_input_contents.append(rows.tobytes())
    return cast(bytes, message.SerializeToString())


def _from_grpc(answer: messages.ModelInferResponse) -> np.ndarray:
    output = answer.outputs[0]
    dtype = np.dtype(_DTYPES[output.datatype])
    if answer.raw_output_contents:
        return np.frombuffer(answer.raw_output_contents[0], dtype)
    contents = output.contents
    values = {"FP64": contents.fp64_contents, "FP32": contents.fp32_contents}
    values |= {"INT64": contents.int64_contents, "INT32": contents.int_contents}
    return np.asarray(values[output.datatype], dtype)
