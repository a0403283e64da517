"""One question to each model, asked over V1, V2 with JSON, V2 with binary tensors, and gRPC."""

from __future__ import annotations

import asyncio
import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
from kserve import InferenceGRPCClient, InferInput, InferRequest, InferResponse

from demo_server import LocalServer
from demo_systems import CO2_MONTHS_HELD_OUT, SUNSPOT_YEARS_HELD_OUT, sea_temperatures

YEARS = (1983, 1990, 1992)
"""A strong El Niño, none, and a weak one; no model was trained on these years."""

LEVEL = 0.9
"""The probability with which a forecast's interval should hold what happens."""


TIMEOUT_SECONDS = 30.0


class RequestFailed(Exception):
    """A request got no answer, or not the one that it should get."""


@dataclass(frozen=True)
class Exchange:
    """One request and its answer.

    ``command`` can be pasted into a shell; ``outputs`` are the answer's, by name; ``meaning`` says
    in words what they mean.
    """

    model: str
    protocol: str
    question: str
    command: str
    answer: Any
    outputs: Mapping[str, list[Any]]
    meaning: str


def ask_all(server: LocalServer, requests: Path) -> Iterator[Exchange]:
    """Ask every model its question, one after the other.

    Args:
        server: the server, which is ready.
        requests: a directory for request bodies that do not fit into a command line.
    """
    yield ask_isolation_forest(server, "predictive-analytics")
    yield ask_isolation_forest(server, "predictive-analytics-legacy")
    yield ask_arima(server)
    yield ask_prophet(server)
    yield ask_lstm(server, requests)
    yield ask_ensemble(server)


def ask_isolation_forest(server: LocalServer, model: str) -> Exchange:
    """V1: rows in, one prediction for each out."""
    url = f"{server.url}/v1/models/{model}:predict"
    body = {"instances": _months().tolist()}
    answer = _post(url, json=body)
    # A manifest names two outputs, so every row is answered by an object. Without one the last
    # component's predict answers, as KServe's sklearn server would.
    rows = answer["predictions"]
    labels = [row["label"] if isinstance(row, dict) else row for row in rows]
    return Exchange(
        model,
        "V1",
        f"Which of the years {_listed(YEARS)} had an unusual sea temperature?",
        _curl(url, body),
        answer,
        {"label": labels},
        _verdicts(labels),
    )


def ask_arima(server: LocalServer) -> Exchange:
    """V2: named tensors in, named tensors out."""
    url = f"{server.url}/v2/models/arima-predictor/infer"
    horizon = {"name": "horizon", "datatype": "INT64", "shape": [1]}
    body = {
        "inputs": [{**horizon, "data": [SUNSPOT_YEARS_HELD_OUT]}],
        "parameters": {"level": LEVEL},
    }
    answer = _post(url, json=body)
    outputs = {output["name"]: output["data"] for output in answer["outputs"]}
    peak = int(np.argmax(outputs["mean"]))
    return Exchange(
        "arima-predictor",
        "V2",
        f"How many sunspots in the {SUNSPOT_YEARS_HELD_OUT} years after the training data?",
        _curl(url, body),
        answer,
        outputs,
        f"the most are expected in {outputs['ds'][peak][:4]}: {outputs['mean'][peak]:.0f}, "
        f"between {outputs['lower'][peak]:.0f} and {outputs['upper'][peak]:.0f}",
    )


def ask_prophet(server: LocalServer) -> Exchange:
    """V1 again: the same contract for every forecaster, one object for each question."""
    url = f"{server.url}/v1/models/prophet-predictor:predict"
    body = {"instances": [{"horizon": CO2_MONTHS_HELD_OUT, "level": LEVEL}]}
    answer = _post(url, json=body)
    forecast = answer["predictions"][0]
    return Exchange(
        "prophet-predictor",
        "V1",
        f"How much CO2 in the {CO2_MONTHS_HELD_OUT} months after the training data?",
        _curl(url, body),
        answer,
        forecast,
        f"{forecast['ds'][-1][:7]}: {forecast['mean'][-1]:.1f} ppm, "
        f"between {forecast['lower'][-1]:.1f} and {forecast['upper'][-1]:.1f}",
    )


def ask_lstm(server: LocalServer, requests: Path) -> Exchange:
    """V2 with binary tensors: a JSON head, and behind it the numbers as they lie in memory."""
    url = f"{server.url}/v2/models/lstm-predictor/infer"
    sequence = InferInput("sequence", [len(YEARS), 12, 1], "FP64")
    sequence.set_data_from_numpy(_months().reshape(-1, 12, 1), binary_data=True)
    body, head_length = InferRequest("lstm-predictor", [sequence]).to_rest()
    file = requests / "lstm-predictor.bin"
    file.write_bytes(body)
    headers = {"Inference-Header-Content-Length": str(head_length)}
    answer = _post(url, content=body, headers=headers)
    outputs = {output["name"]: output["data"] for output in answer["outputs"]}
    return Exchange(
        "lstm-predictor",
        "V2, with a binary tensor",
        f"Which of the years {_listed(YEARS)} had an unusual course of the sea temperature?",
        f"curl -s {url} -H 'Inference-Header-Content-Length: {head_length}' "
        f"--data-binary @{shlex.quote(str(file))}",
        answer,
        outputs,
        _verdicts(outputs["label"]),
    )


def ask_ensemble(server: LocalServer) -> Exchange:
    """gRPC, with KServe's own client; the server runs three models for it."""
    months = InferInput("months", [len(YEARS), 12], "FP64")
    months.set_data_from_numpy(_months())
    sequence = InferInput("sequence", [len(YEARS), 12, 1], "FP64")
    sequence.set_data_from_numpy(_months().reshape(-1, 12, 1))
    request = InferRequest("ensemble-predictor", [months, sequence])
    response = asyncio.run(_infer(server.grpc_address, request))
    outputs = {output.name: output.as_numpy().tolist() for output in response.outputs}
    votes = ", ".join(f"{score:.0%}" for score in outputs["score"])
    return Exchange(
        "ensemble-predictor",
        "gRPC, with KServe's client (as a command: grpcurl)",
        f"In which of the years {_listed(YEARS)} do forest and LSTM agree on an El Niño?",
        _grpcurl(server.grpc_address),
        {"model_version": response.model_version, **outputs},
        outputs,
        f"{_verdicts(outputs['label'])}; share of the votes for unusual: {votes}",
    )


def _post(url: str, **request: Any) -> Any:
    try:
        response = httpx.post(url, timeout=TIMEOUT_SECONDS, **request)
    except httpx.HTTPError as error:
        raise RequestFailed(f"{url} does not answer: {error}") from error
    if not response.is_success:
        raise RequestFailed(f"{url} answered {response.status_code}: {response.text}")
    return response.json()


async def _infer(address: str, request: InferRequest) -> InferResponse:
    async with InferenceGRPCClient(address, timeout=TIMEOUT_SECONDS) as client:
        try:
            return await client.infer(request)
        except grpc.RpcError as error:
            raise RequestFailed(f"{address} answered {request.model_name}: {error}") from error


def _months() -> np.ndarray:
    return sea_temperatures().loc[list(YEARS)].to_numpy()


def _curl(url: str, body: object) -> str:
    return f"curl -s {url} -d {shlex.quote(json.dumps(body))}"


def _grpcurl(address: str) -> str:
    """Show the request for grpcurl, which learns the service from the server's reflection."""
    contents = {"fp64_contents": _months().ravel().tolist()}
    request = {
        "model_name": "ensemble-predictor",
        "inputs": [
            {"name": name, "datatype": "FP64", "shape": shape, "contents": contents}
            for name, shape in (("months", [len(YEARS), 12]), ("sequence", [len(YEARS), 12, 1]))
        ],
    }
    method = "inference.GRPCInferenceService/ModelInfer"
    return f"grpcurl -plaintext -d {shlex.quote(json.dumps(request))} {address} {method}"


def _verdicts(labels: list[int]) -> str:
    words = {1: "usual", -1: "unusual"}
    return ", ".join(f"{year}: {words[label]}" for year, label in zip(YEARS, labels, strict=True))


def _listed(years: tuple[int, ...]) -> str:
    return ", ".join(map(str, years[:-1])) + f" and {years[-1]}"
