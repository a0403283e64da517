"""Every row of the table of errors, over V1, V2 and gRPC, at a running server."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import pytest

from bundleserver import BundleStore
from tests.end_to_end import gated
from tests.end_to_end.adr import ROW
from tests.end_to_end.calls import REST_STATUS, ask_grpc, v2_input
from tests.end_to_end.processes import eventually, running
from tests.end_to_end.published import save_times
from tests.serving.grpc_client import connected, tensor

GOOD = v2_input("features", "FP64", [1, 3], [0.5, 0.3, 0.8])
TAKES = "'detector' version v2 expects"
FEATURES = "'features' FP64 [-1, 3] with columns 'cpu', 'memory', 'io'"


def refused_alike(server, model, *inputs, version=None):
    """Ask over V2 and gRPC; return the status and the sentence, which must not differ."""
    answer = server.infer(model, *inputs, version=version)
    said = ask_grpc(server.grpc, model, *inputs, version=version or "")

    assert REST_STATUS[said.code] == answer.status_code
    assert {"error": said.details} == answer.json()
    return answer.status_code, said.details


@pytest.mark.parametrize(
    ("model", "version", "sentence"),
    [
        ("nothing", None, "model 'nothing' is not served here; served: 'detector', 'sentiment'"),
        ("detector", "v9", "model 'detector' has no version or label 'v9': versions: 'v2', 'v1'"),
        ("detector", "canary", "model 'detector' has no version or label 'canary': "),
        ("detector", "2", "model 'detector' has no version or label '2': versions: 'v2', 'v1'"),
    ],
)
def test_what_is_unknown_is_404_everywhere(store_server, model, version, sentence):
    """An unknown model, version or label is 404 and NOT_FOUND and lists what there is."""
    status, said = refused_alike(store_server, model, GOOD, version=version)
    v1 = store_server.predict(model, {"instances": ROW}, version)

    assert (404, True) == (status, said.startswith(sentence))
    assert (404, {"error": said}) == (v1.status_code, v1.json())


def test_metadata_and_readiness_of_what_is_unknown_are_404(store_server):
    """The unknown is 404 and NOT_FOUND for its metadata and its readiness, too."""
    paths = ["/v2/models/x", "/v2/models/x/ready", "/v1/models/x", "/v2/models/x/versions/1"]
    paths += ["/v2/models/detector/versions/v9", "/v2/models/detector/versions/v9/ready"]
    answers = [store_server.get(path) for path in paths]

    assert [404] * len(paths) == [answer.status_code for answer in answers]
    assert all("error" in answer.json() for answer in answers)
    with connected(store_server.grpc) as client:
        for rpc in ("ModelReady", "ModelMetadata"):
            with pytest.raises(grpc.RpcError) as caught:
                client.call(rpc, name="detector", version="v9")
            assert grpc.StatusCode.NOT_FOUND == caught.value.code()


def test_known_and_not_ready_is_503_everywhere(volume_server):
    """A failed model is 503 and UNAVAILABLE with the reason, and says when to ask again."""
    model = "anomaly-detector"
    _, said = refused_alike(volume_server, model, GOOD)
    answers = [
        volume_server.infer(model, GOOD),
        volume_server.predict(model, {"instances": ROW}),
        volume_server.get(f"/v2/models/{model}/ready"),
        volume_server.get(f"/v2/models/{model}"),
        volume_server.get(f"/v1/models/{model}"),
    ]

    assert [(503, said)] * 5 == [(a.status_code, a.json()["error"]) for a in answers]
    assert all(int(answer.headers["retry-after"]) > 0 for answer in answers)
    with connected(volume_server.grpc) as client:
        assert not client.call("ModelReady", name=model).ready


def features(datatype="FP64", shape=(1, 3), data=(0.5, 0.3, 0.8), name="features"):
    """Make the detector's input, with something wrong about it."""
    return v2_input(name, datatype, list(shape), list(data))


BAD_TENSORS = {
    "no input": ([], f"missing inputs for 'detector' version v2: {FEATURES}; the request has none"),
    "another name": (
        [features(name="feature")],
        f"unknown input 'feature'; {TAKES} {FEATURES}; did you mean 'features'?",
    ),
    "one input more": ([GOOD, features(name="x")], f"unknown input 'x'; {TAKES} {FEATURES}"),
    "the same input twice": (
        [GOOD, GOOD],
        "duplicate input 'features'; names must be unique",
    ),
    "a column less": (
        [features(shape=(1, 2), data=(1.0, 2.0))],
        f"input 'features' has shape [1, 2]; {TAKES} [-1, 3]",
    ),
    "a dimension less": (
        [features(shape=(3,))],
        f"input 'features' has shape [3]; {TAKES} [-1, 3]",
    ),
    "a lossy datatype": (
        [features("INT64", data=(1, 2, 3))],
        f"input 'features' has datatype INT64; {TAKES} FP64",
    ),
    "text": (
        [features("BYTES", data=("a", "b", "c"))],
        f"input 'features' has datatype BYTES; {TAKES} FP64",
    ),
    "truth values": (
        [features("BOOL", data=(True, False, True))],
        f"input 'features' has datatype BOOL; {TAKES} FP64",
    ),
    "fewer values than the shape": (
        [features(data=(0.5, 0.3))],
        "input 'features' has 2 values; expected 3 for its shape [1, 3]",
    ),
    "more values than the shape": (
        [features(data=(1.0, 2.0, 3.0, 4.0))],
        "input 'features' has 4 values; expected 3 for its shape [1, 3]",
    ),
    "no values": (
        [features(data=())],
        "input 'features' has 0 values; expected 3 for its shape [1, 3]",
    ),
    "a negative size": (
        [features(shape=(-1, 3))],
        "input 'features' has the number -1 in its shape; expected integers of at least 0",
    ),
    "an absurd shape": (
        [features(shape=(10**15, 3))],
        f"input 'features' has 3 values; expected {3 * 10**15} for its shape [{10**15}, 3]",
    ),
    "a shape no array has": (
        [features(shape=(0, 10**18, 10**18), data=())],
        "input 'features' has an invalid shape: too large for numpy",
    ),
    "an unknown datatype": (
        [features("FLOAT")],
        "input 'features' has the unknown datatype 'FLOAT'",
    ),
}


@pytest.mark.parametrize("what", BAD_TENSORS)
def test_a_tensor_that_does_not_fit_is_400_and_names_what_came(store_server, what):
    """V2 and gRPC refuse it in the same words: what came, and what the model takes."""
    inputs, sentence = BAD_TENSORS[what]
    status, said = refused_alike(store_server, "detector", *inputs)

    assert (400, sentence) == (status, said[: len(sentence)])


def peak_bytes(pid):
    """Return the most memory that a process has held so far."""
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def test_an_absurd_shape_allocates_nothing(store_server):
    """A shape of terabytes is refused before any memory is taken for it."""
    before = peak_bytes(store_server.popen.pid)
    shapes = [(10**9, 3), (10**12, 3), (2**62, 4), (2**40, 2**40), (10**9, 0, 10**9, 10**9)]
    for shape in shapes:
        status, _ = refused_alike(store_server, "detector", features(shape=shape))
        assert 400 == status
        assert 400 == binary(store_server, size=24, shape=list(shape)).status_code

    assert peak_bytes(store_server.popen.pid) - before < 100 * 2**20


def one_input(shape, datatype, data):
    """Write a body with the detector's input, with something wrong about it."""
    return json.dumps({"inputs": [v2_input("features", datatype, shape, data)]})


BAD_V2_BODIES = {
    "no JSON": "hello",
    "empty": "",
    "a list": "[]",
    "cut off": '{"inputs": [',
    "deep": "[" * 100_000,
    "deep object": '{"a":' * 1000 + "1" + "}" * 1000,
    "deep data": '{"inputs": [{"name": "features", "shape": [1, 3], "datatype": "FP64", "data": '
    + "[" * 1000
    + "]" * 1000
    + "}]}",
    "NaN": one_input([1, 3], "FP64", [float("nan")] * 3),
    "1e999": one_input([1, 3], "FP64", [0, 0, 0]).replace("0, 0, 0", "1e999, 0, 0"),
    "no inputs": "{}",
    "inputs an object": '{"inputs": {}}',
    "an input a number": '{"inputs": [1]}',
    "no name": '{"inputs": [{"shape": [1, 3], "datatype": "FP64", "data": [1, 2, 3]}]}',
    "no shape": '{"inputs": [{"name": "features", "datatype": "FP64", "data": [1, 2, 3]}]}',
    "no datatype": '{"inputs": [{"name": "features", "shape": [1, 3], "data": [1, 2, 3]}]}',
    "no data": '{"inputs": [{"name": "features", "shape": [1, 3], "datatype": "FP64"}]}',
    "shape of text": one_input(["1", 3], "FP64", [1, 2, 3]),
    "shape of 10^30": one_input([1e30, 3], "FP64", [1, 2, 3]),
    "ragged": one_input([2, 3], "FP64", [[1, 2, 3], [4, 5]]),
    "text in FP64": one_input([1, 3], "FP64", ["a", 2, 3]),
    "null in INT32": one_input([1, 3], "INT32", [None, 2, 3]),
    "half in INT32": one_input([1, 3], "INT32", [0.5, 2, 3]),
    "INT8 too large": one_input([1, 3], "INT8", [300, 2, 3]),
    "parameters a list": '{"inputs": [], "parameters": []}',
    "id a number": '{"inputs": [], "id": 1}',
    "outputs an object": '{"inputs": [], "outputs": {}}',
    "bad UTF-8": b'{"inputs": "\xff"}',
}


@pytest.mark.parametrize("what", BAD_V2_BODIES)
def test_a_v2_body_that_does_not_parse_is_400(store_server, what):
    """Whatever is wrong with a body is said in one sentence, and the server lives on."""
    answer = store_server.post("/v2/models/detector/infer", content=BAD_V2_BODIES[what])

    assert 400 == answer.status_code
    assert ["error"] == list(answer.json())
    assert "Traceback" not in answer.text


BAD_V1_BODIES = {
    "no JSON": "hello",
    "empty": "",
    "a list": "[]",
    "deep": "[" * 100_000,
    "deep rows": '{"instances": ' + "[" * 1000 + "]" * 1000 + "}",
    "no rows": "{}",
    "rows an object": '{"instances": {}}',
    "both keys": '{"instances": [[1, 2, 3]], "inputs": [[1, 2, 3]]}',
    "no row": '{"instances": []}',
    "ragged": '{"instances": [[1, 2, 3], [4, 5]]}',
    "ragged columns": '{"instances": [[1, 2], [4, 5]]}',
    "numbers for rows": '{"instances": [1, 2, 3]}',
    "text": '{"instances": [["a", "b", "c"]]}',
    "truth values": '{"instances": [[true, false, true]]}',
    "NaN": '{"instances": [[NaN, 2, 3]]}',
    "Infinity": '{"instances": [[Infinity, 2, 3]]}',
    "a column less": '{"instances": [{"cpu": 1, "memory": 2}]}',
    "a column more": '{"instances": [{"cpu": 1, "memory": 2, "io": 3, "disk": 4}]}',
    "a column unlike": '{"instances": [{"cpu": 1, "memory": 2, "oi": 3}]}',
    "mixed rows": '{"instances": [{"cpu": 1, "memory": 2, "io": 3}, [1, 2, 3]]}',
    "mixed keys": '{"instances": [{"cpu": 1, "memory": 2, "io": 3}, {"cpu": 1}]}',
}


@pytest.mark.parametrize("what", BAD_V1_BODIES)
def test_a_v1_body_that_does_not_fit_is_400(store_server, what):
    """Whatever is wrong with rows is said in one sentence."""
    answer = store_server.post("/v1/models/detector:predict", content=BAD_V1_BODIES[what])

    assert 400 == answer.status_code
    assert ["error"] == list(answer.json())


def test_a_gap_is_nan(store_server, published):
    """``null`` in a floating-point tensor is NaN over V1, V2 and gRPC; the model may take it."""
    rows = [[None, 0.3, 0.8]]
    expected = published.detectors["v2"].answer([[np.nan, 0.3, 0.8]])["score"]

    v1 = store_server.predict("detector", {"instances": rows}).json()["predictions"]
    v2 = store_server.infer("detector", features(data=rows[0])).json()["outputs"]
    said = ask_grpc(store_server.grpc, "detector", features(data=(float("nan"), 0.3, 0.8)))

    assert expected == [v1[0]["score"]] == v2[1]["data"] == said.outputs["score"]


def binary(server, size=24, raw=None, header=None, shape=(1, 3), **more):
    """Send the detector's features as bytes, with something wrong about it."""
    raw = np.array(ROW).tobytes() if raw is None else raw
    document = {
        "inputs": [
            {
                "name": "features",
                "datatype": "FP64",
                "shape": list(shape),
                "parameters": {"binary_data_size": size},
            }
        ],
        **more,
    }
    head = json.dumps(document).encode()
    headers = {"content-type": "application/octet-stream"}
    length = str(len(head)) if header is None else header
    if length != "missing":
        headers["Inference-Header-Content-Length"] = length
    return server.post("/v2/models/detector/infer", content=head + raw, headers=headers)


BAD_BINARY = {
    "size too long": {"size": 32},
    "size too short": {"size": 16},
    "size negative": {"size": -24},
    "size a text": {"size": "24"},
    "size true": {"size": True},
    "size absurd": {"size": 10**18},
    "bytes left over": {"raw": bytes(32)},
    "bytes missing": {"raw": bytes(8)},
    "shape larger than the bytes": {"shape": (2, 3)},
    "header missing": {"header": "missing"},
    "header a text": {"header": "many"},
    "header negative": {"header": "-1"},
    "header zero": {"header": "0"},
    "header too short": {"header": "5"},
    "header beyond the body": {"header": "100000"},
    "header absurd": {"header": "9" * 5000},
}


@pytest.mark.parametrize("what", BAD_BINARY)
def test_binary_data_that_do_not_add_up_are_400(store_server, what):
    """Lengths that do not fit each other are named, and nothing is guessed."""
    answer = binary(store_server, **BAD_BINARY[what])

    assert 400 == answer.status_code
    assert ["error"] == list(answer.json())


def test_grpc_bodies_that_do_not_parse_are_invalid_arguments(store_server):
    """Bytes that are no message, and contents that do not fit, are INVALID_ARGUMENT."""
    double = np.array(ROW).tobytes()
    given = tensor("features", "FP64", [1, 3])
    both = tensor("features", "FP64", [1, 3], fp64_contents=[1.0, 2.0, 3.0])
    calls = [
        lambda client: client.send("ModelInfer", b"\xff\xff\xff\xff"),
        lambda client: client.infer(given, model="detector", raw_input_contents=[double[:-1]]),
        lambda client: client.infer(given, model="detector", raw_input_contents=[double] * 2),
        lambda client: client.infer(both, model="detector", raw_input_contents=[double]),
        lambda client: client.infer(
            tensor("features", "FP64", [1, 3], fp32_contents=[1.0, 2.0, 3.0]), model="detector"
        ),
        lambda client: client.infer(tensor("", "FP64", [1, 3]), model="detector"),
    ]
    with connected(store_server.grpc) as client:
        for call in calls:
            with pytest.raises(grpc.RpcError) as caught:
                call(client)
            assert grpc.StatusCode.INVALID_ARGUMENT == caught.value.code()
            assert caught.value.details()


@pytest.mark.parametrize("model", ["arima-predictor", "prophet-predictor"])
@pytest.mark.parametrize(
    ("instance", "says"),
    [
        ({"horizon": 0}, "input 'horizon' is 0; a forecast expects 1 to 10000 steps"),
        ({"horizon": -3}, "input 'horizon' is -3; a forecast expects 1 to 10000 steps"),
        ({"horizon": 10**9}, "input 'horizon' is 1000000000; a forecast expects 1 to 10000 steps"),
        ({"horizon": "3"}, "input 'horizon' has the value '3'"),
        ({"horizon": 1.5}, "input 'horizon' has the value 1.5; "),
        ({"horizon": 3, "ds": ["2025-01-06"]}, "either 'horizon' (how many steps) or 'ds'"),
        ({}, "either 'horizon' (how many steps) or 'ds' (which dates), got neither"),
        ({"ds": ["tomorrow"]}, "input 'ds' has 'tomorrow', which is not a valid ISO 8601 date"),
        ({"ds": ["2025-02-30"]}, "input 'ds' has '2025-02-30', which is not a valid ISO 8601 date"),
        ({"ds": ["9999-12-31"]}, "input 'ds' has '9999-12-31', a date that is out of range"),
        ({"ds": []}, "input 'ds' has 0 dates; a forecast expects 1 to 10000 of them"),
        ({"horizon": 3, "level": 1.5}, "parameter 'level' is 1.5; expected a number between"),
        ({"horizon": 3, "level": "x"}, "parameter 'level' is 'x'; expected a number between"),
        ({"horizon": 3, "horizonn": 3}, "unknown input 'horizonn'"),
        ({"horizon": 3, "history": []}, "input 'history' "),
        ([3], "instances[1] is an array; "),
    ],
)
def test_a_forecast_that_cannot_be_is_400(volume_server, model, instance, says):
    """Horizons, dates and levels that no forecast has are named."""
    answer = volume_server.predict(model, {"instances": [{"horizon": 1}, instance]})

    assert 400 == answer.status_code
    assert says in answer.json()["error"]
    assert answer.json()["error"].startswith("instances[1]")


@pytest.mark.parametrize("model", ["arima-predictor", "prophet-predictor"])
@pytest.mark.parametrize(
    "inputs",
    [
        [v2_input("horizon", "INT64", [1], [0])],
        [v2_input("horizon", "INT64", [1], [-1])],
        [v2_input("horizon", "INT64", [1], [10**9])],
        [v2_input("horizon", "INT64", [2], [1, 2])],
        [v2_input("horizon", "FP64", [1], [3.0])],
        [v2_input("ds", "BYTES", [1], ["tomorrow"])],
        [v2_input("ds", "BYTES", [0], [])],
        [v2_input("horizon", "INT64", [1], [1]), v2_input("ds", "BYTES", [1], ["2025-01-06"])],
        [],
    ],
)
def test_a_forecast_is_refused_alike_over_v2_and_grpc(volume_server, model, inputs):
    """V2 and gRPC refuse a forecast in the same words."""
    status, _ = refused_alike(volume_server, model, *inputs)

    assert 400 == status


def test_a_history_is_refused_by_prophet_alone(volume_server):
    """Prophet cannot take new observations without a refit: 400 in the same words everywhere."""
    inputs = [v2_input("horizon", "INT64", [1], [2]), v2_input("history", "FP64", [2], [1.0, 2.0])]
    status, said = refused_alike(volume_server, "prophet-predictor", *inputs)

    assert (400, True) == (status, "Prophet needs a refit for new observations" in said)
    assert 200 == volume_server.infer("arima-predictor", *inputs).status_code


def test_a_body_over_the_limit_is_413_and_resource_exhausted(store_server):
    """Too large a body is refused, with the limit, whether or not its size is announced."""
    rows = [[0.5, 0.3, 0.8]] * 60_000
    body = json.dumps({"instances": rows}).encode()
    announced = store_server.post("/v1/models/detector:predict", content=body)
    chunked = store_server.post("/v2/models/detector/infer", content=iter([body]))
    values = np.zeros(200_000)
    said = ask_grpc(
        store_server.grpc, "detector", features(shape=[len(values) // 3, 3], data=values.tolist())
    )

    assert [413, 413] == [announced.status_code, chunked.status_code]
    assert (
        "exceeds the limit of 1000000 bytes" in announced.json()["error"] == chunked.json()["error"]
    )
    assert "RESOURCE_EXHAUSTED" == said.code


ROUTES = [
    ("GET", "/nothing", 404),
    ("GET", "/v2/nothing", 404),
    ("POST", "/v2/models/detector/nothing", 404),
    ("GET", "/v2/models/detector/stats", 404),
    ("GET", "/v2/models/detector/versions", 404),
    ("GET", "/v1/models/detector:nothing", 404),
    ("GET", "/v1/nothing", 404),
    ("GET", "/docs", 404),
    ("DELETE", "/v2/models/detector", 405),
    ("GET", "/v2/models/detector/infer", 405),
    ("GET", "/v1/models/detector:predict", 405),
    ("GET", "/v2/repository/index", 405),
    ("PUT", "/", 405),
    ("POST", "/v2/repository/models/nothing/load", 404),
    ("POST", "/v2/repository/models/nothing/unload", 404),
    ("POST", "/v2/repository/models/detector/versions/v9/load", 404),
    ("GET", "/v2/models/%00", 404),
    ("GET", "/v2/models/..%2F..%2Fetc", 404),
    ("POST", "/v1/models/detector:explain", 501),
    ("POST", "/v1/models/nothing:explain", 404),
]


@pytest.mark.parametrize(("method", "path", "status"), ROUTES)
def test_errors_have_one_form_on_every_route(store_server, method, path, status):
    """``{"error": "…"}`` is all that an error's body holds, on unknown routes too."""
    answer = store_server.client.request(method, path)

    assert status == answer.status_code
    assert ["error"] == list(answer.json())
    assert answer.headers["content-type"].startswith("application/json")
    assert answer.status_code != 405 or answer.headers["allow"]


def test_grpc_refuses_what_it_does_not_know(store_server):
    """An unknown RPC is UNIMPLEMENTED."""
    with connected(store_server.grpc) as client, pytest.raises(grpc.RpcError) as caught:
        client.send("ModelStatistics", b"")

    assert grpc.StatusCode.UNIMPLEMENTED == caught.value.code()


@pytest.fixture(scope="module")
def pipe(tmp_path_factory):
    """Make the pipe at which predictions wait."""
    path = tmp_path_factory.mktemp("gate") / "pipe"
    os.mkfifo(path)
    return path


@pytest.fixture(scope="module")
def gated_server(tmp_path_factory, pipe):
    """Serve models that wait or raise, with one thread that predicts and one place to wait."""
    root = tmp_path_factory.mktemp("gated")
    store = BundleStore(root)
    save_times(store, "slow", gated.SlowToPredict(2.0, str(pipe)))
    save_times(store, "raises", gated.Raises())
    with running(root, max_asyncio_workers=1, max_queue=1) as server:
        server.wait_until_ready("slow")
        server.wait_until_ready("raises")
        yield server


X = v2_input("x", "FP64", [1, 1], [21.0])


def test_the_models_own_error_is_500_with_an_incident(gated_server):
    """One sentence and an id; the log repeats the id and has the traceback, the answer has none."""
    v1 = gated_server.predict("raises", {"instances": [[1.0]]})
    v2 = gated_server.infer("raises", X)
    said = ask_grpc(gated_server.grpc, "raises", X)

    sentences = [v1.json()["error"], v2.json()["error"], said.details]
    assert [500, 500, "INTERNAL"] == [v1.status_code, v2.status_code, said.code]
    for sentence in sentences:
        assert "the sensor table is empty" in sentence
        assert "Traceback" not in sentence
        incident = sentence.split("incident ")[1].split(";")[0]
        gated_server.wait_for_line(incident)
    gated_server.wait_for_line("Traceback")
    assert 3 == len(set(sentences))


def in_flight(server, model):
    """Read how many requests for a model wait or run."""
    lines = server.get("/metrics").text.splitlines()
    name = "bundleserver_requests_in_flight{"
    found = [line for line in lines if line.startswith(name) and f'model="{model}"' in line]
    return sum(float(line.rsplit(" ", 1)[1]) for line in found)


def test_health_answers_and_the_queue_is_bounded_while_a_model_works(gated_server, pipe):
    """With every thread at work health answers at once, one request waits, the next is 503."""
    with ThreadPoolExecutor() as threads:
        first = threads.submit(gated_server.predict, "slow", {"instances": [[21.0]]})
        eventually(lambda: in_flight(gated_server, "slow") == 1, "the request runs")
        second = threads.submit(ask_grpc, gated_server.grpc, "slow", X)
        eventually(lambda: in_flight(gated_server, "slow") == 2, "the next one waits")
        try:
            over_rest = gated_server.infer("slow", X)
            over_grpc = ask_grpc(gated_server.grpc, "slow", X)
            paths = ("/v2/health/live", "/v2/health/ready", "/v2/models/slow/ready", "/v2")
            health = [gated_server.get(path).status_code for path in paths]
            with connected(gated_server.grpc) as client:
                alive = client.call("ServerLive").live, client.call("ServerReady").ready
        finally:
            # One after the other: both words could reach one reader.
            gated.open_gate(pipe)
            answered = first.result()
            gated.open_gate(pipe)

        assert ([200] * 4, (True, True)) == (health, alive)
        assert (503, "1") == (over_rest.status_code, over_rest.headers["retry-after"])
        assert ("RESOURCE_EXHAUSTED", over_rest.json()["error"]) == (
            over_grpc.code,
            over_grpc.details,
        )
        assert {"predictions": [42.0]} == answered.json()
        assert {"y": [42.0]} == second.result().outputs
