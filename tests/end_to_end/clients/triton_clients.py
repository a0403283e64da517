"""tritonclient over HTTP or gRPC. Usage: triton_clients.py http|grpc ADDRESS ROWS_JSON."""

import json
import sys
from importlib import import_module

import numpy as np
from tritonclient.utils import InferenceServerException

protocol, address, rows_json = sys.argv[1:]
triton = import_module(f"tritonclient.{protocol}")
is_http = protocol == "http"
values = np.array(json.loads(rows_json), dtype=np.float64)


def message(answer: object) -> object:
    """Read a message of gRPC as a document of HTTP."""
    if is_http:
        return answer
    from google.protobuf.json_format import MessageToDict

    return MessageToDict(answer, preserving_proto_field_name=True)


def binary(is_binary: bool) -> dict:
    """Say how data go, which only HTTP can choose."""
    return {"binary_data": is_binary} if is_http else {}


def ask(client: object, is_binary: bool, outputs: object = None, **more: object) -> dict:
    """Ask the detector and read its answer."""
    tensor = triton.InferInput("features", list(values.shape), "FP64")
    tensor.set_data_from_numpy(values, **binary(is_binary))
    asked = None
    if outputs is not None:
        asked = [triton.InferRequestedOutput(n, **binary(b)) for n, b in outputs.items()]
    result = client.infer("detector", [tensor], outputs=asked, request_id="77", **more)
    about = message(result.get_response())
    return {
        "id": about["id"],
        "version": about["model_version"],
        "names": [output["name"] for output in about["outputs"]],
        **{output["name"]: result.as_numpy(output["name"]).tolist() for output in about["outputs"]},
    }


def texts(client: object, is_binary: bool) -> list:
    """Send and get BYTES."""
    tensor = triton.InferInput("text", [2], "BYTES")
    tensor.set_data_from_numpy(np.array(["good", "bad"], dtype=object), **binary(is_binary))
    asked = [triton.InferRequestedOutput("label", **binary(is_binary))]
    answer = client.infer("sentiment", [tensor], outputs=asked).as_numpy("label")
    return [value.decode() if isinstance(value, bytes) else value for value in answer.tolist()]


def refused(call: object) -> dict:
    """Read the error of a call that must fail."""
    try:
        call()
    except InferenceServerException as error:
        return {"status": str(error.status()), "message": error.message()}
    return {}


def repository(client: object) -> dict:
    """Look at the repository, unload the sentiment model and load it again."""
    index = message(client.get_model_repository_index())
    found = {"index": index if is_http else index["models"]}
    client.unload_model("sentiment")
    found["unloaded"] = client.is_model_ready("sentiment")
    found["refused"] = refused(lambda: texts(client, True))
    client.load_model("sentiment")
    found["loaded"] = client.is_model_ready("sentiment")
    return found


with triton.InferenceServerClient(address) as client:
    sys.stdout.write(
        json.dumps(
            {
                "live": client.is_server_live(),
                "ready": client.is_server_ready(),
                "model_ready": client.is_model_ready("detector"),
                "version_ready": client.is_model_ready("detector", "v1"),
                "server": message(client.get_server_metadata()),
                "model": message(client.get_model_metadata("detector", "v1")),
                "json": ask(client, False, {"label": False, "score": False}),
                "binary": ask(client, True, {"label": True, "score": True}),
                "default_outputs": ask(client, True),
                "one_output": ask(client, True, {"score": True}),
                "mixed": ask(client, True, {"score": True, "label": False}),
                "old_version": ask(client, True, {"label": True}, model_version="v1"),
                "texts": texts(client, False),
                "binary_texts": texts(client, True),
                "unknown_version": refused(lambda: ask(client, True, model_version="v9")),
                "unknown_output": refused(lambda: ask(client, True, {"lable": True})),
                "repository": repository(client),
            }
        )
    )
