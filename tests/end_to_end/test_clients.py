"""KServe's and Triton's own clients, each in a process of its own, get the same numbers."""

from __future__ import annotations

import json

import pytest

from tests.end_to_end.processes import run_client

ROWS = [[0.5, 0.3, 0.8], [3.0, -1.0, 0.0]]


@pytest.fixture(scope="module")
def kserve(store_server):
    """Let KServe's clients ask everything once."""
    return run_client("kserve_clients.py", store_server.rest, store_server.grpc, json.dumps(ROWS))


@pytest.fixture(scope="module", params=["http", "grpc"])
def triton(store_server, request):
    """Let tritonclient ask everything once, over HTTP and over gRPC."""
    address = store_server.grpc if request.param == "grpc" else store_server.rest[len("http://") :]
    answers = run_client("triton_clients.py", request.param, address, json.dumps(ROWS))
    return {"protocol": request.param, **answers}


@pytest.fixture(scope="module")
def expected(published):
    """Let the newest version's objects answer in this process."""
    return published.detectors["v2"].answer(ROWS)


def test_kserves_v1_client_gets_objects_for_several_outputs(kserve, expected):
    """V1 answers one object per row where a model has several outputs, and names the version."""
    rows = [
        {"label": label, "score": score}
        for label, score in zip(expected["label"], expected["score"], strict=True)
    ]

    assert {"live": True, "model_ready": True, "predictions": rows, "version": "v2"} == kserve["v1"]


@pytest.mark.parametrize("how", ["json", "binary", "binary_out"])
def test_kserves_v2_client_gets_the_same_numbers(kserve, expected, how):
    """Tensors as JSON and as bytes, in and out, carry the same numbers, id and version."""
    assert {"id": "77", "version": "v2", **expected} == kserve["v2"][how]
    assert [True] * 3 == [kserve["v2"][key] for key in ("live", "ready", "model_ready")]


@pytest.mark.parametrize("how", ["typed", "raw"])
def test_kserves_grpc_client_gets_the_same_numbers(kserve, expected, how):
    """Typed and raw contents carry the same numbers, id and version."""
    assert {"id": "77", "version": "v2", **expected} == kserve["grpc"][how]
    assert [True] * 3 == [kserve["grpc"][key] for key in ("live", "ready", "model_ready")]


@pytest.mark.parametrize("how", ["json", "binary", "default_outputs"])
def test_tritonclient_gets_the_same_numbers(triton, expected, how):
    """Both of Triton's clients read the same numbers, however the tensors travel."""
    about = {"id": "77", "version": "v2", "names": ["label", "score"]}
    assert {**about, **expected} == triton[how]


def test_tritonclient_gets_the_outputs_it_asks_for_in_its_order(triton, expected):
    """Requested outputs come alone, and in the request's order, JSON beside binary."""
    about = {"id": "77", "version": "v2"}
    score, label = {"score": expected["score"]}, {"label": expected["label"]}
    assert {**about, "names": ["score"], **score} == triton["one_output"]
    assert {**about, "names": ["score", "label"], **score, **label} == triton["mixed"]


def test_tritonclient_is_answered_by_the_version_it_names(triton, published):
    """``model_version`` is honoured over HTTP and gRPC."""
    label = published.detectors["v1"].answer(ROWS)["label"]
    assert {"id": "77", "version": "v1", "names": ["label"], "label": label} == triton[
        "old_version"
    ]


def test_tritonclient_sends_and_gets_text(triton):
    """BYTES travel as JSON and with length prefixes, outside ASCII too."""
    assert ["größer", "less"] == triton["texts"] == triton["binary_texts"]


def test_tritonclient_reads_health_and_metadata(triton):
    """Health, server metadata and model metadata are what the client expects to read."""
    assert [True] * 4 == [triton[key] for key in ("live", "ready", "model_ready", "version_ready")]
    assert "bundleserver" == triton["server"]["name"]
    assert "binary_tensor_data" in triton["server"]["extensions"]
    model = triton["model"]
    assert ("detector", ["v2", "v1"]) == (model["name"], model["versions"])
    tensors = [(t["name"], t["datatype"], list(map(int, t["shape"]))) for t in model["inputs"]]
    assert [("features", "FP64", [-1, 3])] == tensors
    assert ["INT64", "FP64"] == [tensor["datatype"] for tensor in model["outputs"]]


def test_tritonclient_reads_errors(triton):
    """An unknown version and an unknown output are errors that the client can read."""
    version, output = triton["unknown_version"], triton["unknown_output"]
    statuses = {
        "http": ("404", "400"),
        "grpc": ("StatusCode.NOT_FOUND", "StatusCode.INVALID_ARGUMENT"),
    }[triton["protocol"]]

    assert statuses == (version["status"], output["status"])
    assert "model 'detector' has no version or label 'v9'" in version["message"]
    assert "unknown output 'lable'" in output["message"]


def test_tritonclient_unloads_and_loads(triton):
    """Index, unload and load work; what is unloaded by hand is 503 and says so."""
    repository = triton["repository"]
    ready = [
        (entry["name"], entry["version"])
        for entry in repository["index"]
        if entry["state"] == "READY"
    ]

    assert [("detector", "v2"), ("detector", "v1"), ("sentiment", "v1")] == ready
    assert [False, True] == [repository["unloaded"], repository["loaded"]]
    assert repository["refused"]["status"] in ("503", "StatusCode.UNAVAILABLE")
    assert "manually" in repository["refused"]["message"]
