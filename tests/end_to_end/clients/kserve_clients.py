"""KServe's own clients: REST over V1 and V2, gRPC. Usage: kserve_clients.py URL GRPC ROWS_JSON."""

import asyncio
import json
import sys

grpc_address, rows = sys.argv.pop(-2), json.loads(sys.argv.pop())
base_url = sys.argv.pop()

import numpy as np  # noqa: E402  # kserve reads sys.argv when it is imported
from kserve import (  # noqa: E402
    InferenceGRPCClient,
    InferenceRESTClient,
    InferInput,
    InferRequest,
    RESTConfig,
)


def request(is_binary: bool, **more: object) -> InferRequest:
    """Ask the detector for rows, with the data raw or not."""
    values = np.array(rows, dtype=np.float64)
    tensor = InferInput("features", list(values.shape), "FP64")
    tensor.set_data_from_numpy(values, binary_data=is_binary)
    return InferRequest("detector", [tensor], request_id="77", **more)


def outputs(response: object, headers: dict | None = None) -> dict:
    """Read an answer's tensors; kserve's REST client drops the body's version, not the header's."""
    return {
        "id": response.id,
        "version": headers["x-model-version"] if headers else response.model_version,
        "label": response.get_output_by_name("label").as_numpy().tolist(),
        "score": response.get_output_by_name("score").as_numpy().tolist(),
    }


async def over_v1() -> dict:
    """Ask with dicts."""
    async with InferenceRESTClient(RESTConfig(protocol="v1")) as client:
        headers = {}
        answer = await client.infer(
            base_url, {"instances": rows}, model_name="detector", response_headers=headers
        )
        return {
            "live": await client.is_server_live(base_url),
            "model_ready": await client.is_model_ready(base_url, "detector"),
            "predictions": answer["predictions"],
            "version": headers["x-model-version"],
        }


async def over_v2() -> dict:
    """Ask as JSON, with binary tensors, and for binary answers."""
    async with InferenceRESTClient(RESTConfig(protocol="v2")) as client:

        async def ask(request: InferRequest) -> dict:
            headers = {}
            answer = await client.infer(
                base_url, request, model_name="detector", response_headers=headers
            )
            return outputs(answer, headers)

        return {
            "live": await client.is_server_live(base_url),
            "ready": await client.is_server_ready(base_url),
            "model_ready": await client.is_model_ready(base_url, "detector"),
            "json": await ask(request(False)),
            "binary": await ask(request(True)),
            "binary_out": await ask(request(True, parameters={"binary_data_output": True})),
        }


async def over_grpc() -> dict:
    """Ask with typed and with raw contents."""
    async with InferenceGRPCClient(grpc_address) as client:
        return {
            "live": await client.is_server_live(),
            "ready": await client.is_server_ready(),
            "model_ready": await client.is_model_ready("detector"),
            "typed": outputs(await client.infer(request(False))),
            "raw": outputs(await client.infer(request(True))),
        }


async def everything() -> dict:
    """Ask over everything."""
    return {"v1": await over_v1(), "v2": await over_v2(), "grpc": await over_grpc()}


sys.stdout.write(json.dumps(asyncio.run(everything())))
