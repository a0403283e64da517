"""The REST routes."""

import asyncio
import gzip
import json
import zlib

import httpx
import numpy as np
import orjson
import pytest

from bundleserver.errors import InvalidInput, PredictionError, QueueFull
from bundleserver.tensors import TensorSpec
from bundleserver.tensors.signature import Signature
from bundleserver.versions.lifecycle import State
from tests.serving.rest_fakes import LIMIT_BYTES, FakeModel, FakeVersion, Rest

DEADLINE_SECONDS = 20

TWO_VERSIONS = FakeModel(
    "sums",
    (FakeVersion("v1", metadata={"metrics": {"f1": 0.9}}), FakeVersion("v2")),
    default="v2",
    labels={"stable": "v1"},
)
BROKEN = FakeModel(
    "broken",
    (FakeVersion("1", State.FAILED, "FAILED while VERIFYING: model.pkl is missing"),),
    default=None,
    reason="no version answers",
)
TENSOR = {"name": "features", "datatype": "FP64", "shape": [2, 2], "data": [1, 2, 3, 4]}
V2_BODY = {"inputs": [TENSOR]}
V1_BODY = {"instances": [[1, 2], [3, 4]]}


@pytest.fixture
def rest():
    """Serve a model with two versions, and one that is not ready."""
    return Rest(TWO_VERSIONS, BROKEN)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/v1/models", {"models": ["sums", "broken"]}),
        ("/v2/models", {"models": ["sums", "broken"]}),
        ("/v1/models/sums", {"name": "sums", "ready": True}),
        ("/v1/models/sums/versions/v1", {"name": "sums", "ready": True}),
        ("/v2/models/sums/ready", {"name": "sums", "ready": True}),
        ("/v2/models/sums/versions/stable/ready", {"name": "sums", "ready": True}),
        ("/v2/health/live", {"live": True}),
        ("/v2/", None),
        (
            "/v2",
            {
                "name": "bundleserver",
                "version": "0.1.0",
                "extensions": [
                    "model_repository",
                    "model_repository_extension",
                    "binary_tensor_data",
                ],
            },
        ),
    ],
)
def test_get_routes_answer(rest, path, expected):
    """Every GET route answers JSON, and HEAD the same without its body."""
    answer = rest.ask("GET", path)
    head = rest.ask("HEAD", path)

    assert 200 == answer.status_code
    assert "application/json" == answer.headers["content-type"]
    assert expected is None or expected == answer.json()
    assert (200, b"") == (head.status_code, head.content)
    assert answer.headers["content-length"] == head.headers["content-length"]


def test_infer_answers_tensors_and_the_version(rest):
    """A V2 answer names the version that gave it, in its body and in a header."""
    answer = rest.ask("POST", "/v2/models/sums/infer", json={**V2_BODY, "id": "7"})

    document = answer.json()
    assert "v2" == document["model_version"] == answer.headers["x-model-version"]
    assert ("sums", "7") == (document["model_name"], document["id"])
    assert [3.0, 7.0] == document["outputs"][0]["data"]
    assert ["low", "high"] == document["outputs"][1]["data"]


@pytest.mark.parametrize("version", ["v1", "stable"])
def test_infer_honours_the_version_of_the_path(rest, version):
    """A version or a label in the path is the version that answers."""
    answer = rest.ask("POST", f"/v2/models/sums/versions/{version}/infer", json=V2_BODY)

    assert version == rest.bundles.requests[0].version
    assert "v1" == answer.json()["model_version"]


def test_infer_speaks_the_binary_extension(rest):
    """Raw tensors in give raw tensors out where the request asks for them."""
    raw = np.array([[1.0, 2.0]]).tobytes()
    item = {"name": "features", "datatype": "FP64", "shape": [1, 2]}
    parameters = {"binary_data_output": True}
    head = orjson.dumps(
        {
            "inputs": [{**item, "parameters": {"binary_data_size": len(raw)}}],
            "parameters": parameters,
        }
    )

    answer = rest.ask(
        "POST",
        "/v2/models/sums/infer",
        content=head + raw,
        headers={"Inference-Header-Content-Length": str(len(head))},
    )

    length = int(answer.headers["inference-header-content-length"])
    assert "application/octet-stream" == answer.headers["content-type"]
    assert 8 == json.loads(answer.content[:length])["outputs"][0]["parameters"]["binary_data_size"]
    assert 3.0 == np.frombuffer(answer.content[length : length + 8])[0]


@pytest.mark.parametrize("key", ["instances", "inputs"])
def test_predict_answers_rows_and_the_version(rest, key):
    """A V1 answer names its version in a header."""
    answer = rest.ask("POST", "/v1/models/sums:predict", json={key: [[1, 2]]})

    assert {"predictions": [{"sum": 3.0, "label": "low"}]} == answer.json()
    assert "v2" == answer.headers["x-model-version"]


def test_predict_honours_the_version_of_the_path(rest):
    """TensorFlow Serving's versioned V1 route is served too."""
    answer = rest.ask("POST", "/v1/models/sums/versions/stable:predict", json=V1_BODY)

    assert "v1" == answer.headers["x-model-version"]


def test_metadata_describes_the_default_version(rest):
    """The metadata name versions, labels, tensors, and the bundle's own metadata."""
    document = rest.ask("GET", "/v2/models/sums").json()

    assert "sums" == document["name"]
    assert ["v1", "v2"] == document["versions"]
    assert ("v2", "v2") == (document["model_version"], document["default_version"])
    assert {"stable": "v1"} == document["labels"]
    features = {"name": "features", "datatype": "FP64", "shape": [-1, 2]}
    columns = {"parameters": {"columns": ["cpu", "memory"]}}
    assert [{**features, **columns}] == document["inputs"]
    assert ["sum", "label"] == [output["name"] for output in document["outputs"]]


def test_metadata_of_a_version_are_its_own(rest):
    """A version's metadata come from its own bundle."""
    document = rest.ask("GET", "/v2/models/sums/versions/stable").json()

    assert "v1" == document["model_version"]
    assert {"metrics": {"f1": 0.9}} == document["metadata"]


def test_metadata_say_what_is_open():
    """An open datatype is that of numbers, an open shape [-1], and an optional input says so."""
    spec = TensorSpec("history", optional=True)
    rest = Rest(FakeModel("m", (FakeVersion("1", signature=Signature(inputs=(spec,))),)))

    document = rest.ask("GET", "/v2/models/m").json()

    expected = {"name": "history", "datatype": "FP64", "shape": [-1]}
    assert [expected | {"parameters": {"optional": True}}] == document["inputs"]
    assert [] == document["outputs"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/models/broken"),
        ("GET", "/v2/models/broken"),
        ("GET", "/v2/models/broken/ready"),
        ("GET", "/v2/models/broken/versions/1/ready"),
        ("POST", "/v1/models/broken:predict"),
        ("POST", "/v2/models/broken/infer"),
    ],
)
def test_a_model_that_is_not_ready_is_503_with_the_reason(rest, method, path):
    """Known and not ready is 503 with a reason and a time to come back."""
    body = V1_BODY if "predict" in path else V2_BODY

    answer = rest.ask(method, path, **({"json": body} if method == "POST" else {}))

    assert 503 == answer.status_code
    assert "is not ready: " in answer.json()["error"]
    assert 0 < int(answer.headers["retry-after"])


@pytest.mark.parametrize(
    ("method", "path", "said"),
    [
        ("GET", "/v1/models/nix", "model 'nix' is not served here; served: 'sums', 'broken'"),
        ("GET", "/v2/models/nix", "model 'nix'"),
        ("GET", "/v2/models/nix/ready", "model 'nix'"),
        ("GET", "/v2/models/stats", "model 'stats'"),
        ("GET", "/v2/models/sums/versions/9", "no version or label '9'"),
        ("GET", "/v2/models/sums/versions/9/ready", "it has v1, v2"),
        ("POST", "/v1/models/nix:predict", "model 'nix'"),
        ("POST", "/v2/models/nix/infer", "model 'nix'"),
        ("POST", "/v2/models/sums/versions/9/infer", "no version or label '9'"),
        ("POST", "/v2/repository/models/nix/load", "model 'nix'"),
        ("GET", "/v2/models/sums/config", "unknown route '/v2/models/sums/config'"),
        ("GET", "/v2/nowhere", "unknown route '/v2/nowhere'"),
        ("GET", "/v1/nowhere", "unknown route '/v1/nowhere'"),
        ("GET", "/v1", "unknown route '/v1'"),
        ("GET", "/v1/timeseries/nowhere", "unknown route"),
        ("PUT", "/v2/nowhere", "unknown route"),
        ("POST", "/v1/models/sums:classify", "does not support POST; expected GET, HEAD"),
        ("GET", "/nowhere", "Not Found"),
        ("GET", "/", "Not Found"),
    ],
)
def test_what_is_unknown_is_an_error_in_one_form(rest, method, path, said):
    """Unknown models, versions and routes are {"error": …}, whoever answers the route."""
    body = {"inputs": [TENSOR], "instances": [[1, 2]]}
    body = V1_BODY if "predict" in path else body

    answer = rest.ask(method, path, **({"json": body} if method != "GET" else {}))

    assert answer.status_code == (405 if "classify" in path else 404)
    assert ["error"] == list(answer.json())
    assert said in answer.json()["error"]
    assert "application/json" == answer.headers["content-type"]


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/v2/models/sums/infer", "POST"),
        ("DELETE", "/v2/models/sums", "GET, HEAD"),
        ("GET", "/v1/models/sums:predict", "POST"),
        ("POST", "/v2/health/live", "GET, HEAD"),
        ("GET", "/v2/repository/index", "POST"),
        ("GET", "/v1/timeseries/forecast", "POST"),
    ],
)
def test_a_wrong_method_is_405_with_those_allowed(rest, method, path, allowed):
    """A wrong method is told the right ones."""
    answer = rest.ask(method, path)

    assert 405 == answer.status_code
    assert allowed == answer.headers["allow"]
    assert f"does not support {method}; expected {allowed}" in answer.json()["error"]


@pytest.mark.parametrize(
    ("path", "content", "said"),
    [
        ("/v1/models/sums:predict", b"", "body is empty"),
        ("/v1/models/sums:predict", b"{", "not valid JSON"),
        ("/v1/models/sums:predict", b'{"rows": []}', "'rows'"),
        ("/v1/models/sums:predict", b'{"instances": []}', "empty array"),
        ("/v1/models/sums:predict", b'{"instances": [[1]]}', "[1, 1]"),
        ("/v2/models/sums/infer", b'{"instances": []}', "'inputs' is missing"),
        ("/v2/models/sums/infer", b'{"inputs": []}', "missing inputs"),
        ("/v2/repository/index", b"[]", "body is an array"),
        ("/v2/repository/index", b'{"ready": "yes"}', "'ready' is the string 'yes'"),
        ("/v2/repository/models/sums/load", b"nonsense", "not valid JSON"),
        ("/v2/repository/models/sums/load", b'{"parameters": {"config": "{}"}}', "'config'"),
        ("/v2/repository/models/sums/load", b'{"parameters": {"file:a": ""}}', "'file:a'"),
    ],
)
def test_a_bad_body_is_400_and_says_what_came(rest, path, content, said):
    """A body that cannot be served is the caller's to mend, on every route."""
    answer = rest.ask("POST", path, content=content)

    assert 400 == answer.status_code
    assert said in answer.json()["error"]


def test_names_are_percent_decoded():
    """A name may hold any character, a slash too, where the client encodes it."""
    rest = Rest(FakeModel("a/b ü"))

    answer = rest.ask("GET", "/v2/models/a%2Fb%20%C3%BC/ready")

    assert {"name": "a/b ü", "ready": True} == answer.json()


def test_a_version_may_be_any_label_of_the_contract():
    """Labels such as 1.10.0-rc1+b are taken as they are."""
    rest = Rest(FakeModel("m", (FakeVersion("1.10.0-rc1+b"),), default="1.10.0-rc1+b"))

    answer = rest.ask("POST", "/v2/models/m/versions/1.10.0-rc1+b/infer", json=V2_BODY)

    assert "1.10.0-rc1+b" == answer.json()["model_version"]


def test_the_server_is_ready_when_the_manager_says_so():
    """Readiness is the manager's to decide."""
    answer = Rest(TWO_VERSIONS).ask("GET", "/v2/health/ready")

    assert (200, {"ready": True}) == (answer.status_code, answer.json())


@pytest.mark.parametrize(
    ("models", "said"),
    [
        ((), "there is no model in 'here' yet"),
        ((TWO_VERSIONS, BROKEN), "model 'broken' is not ready: no version answers"),
    ],
)
def test_a_server_that_is_not_ready_says_why(models, said):
    """The probe's answer tells the on-call engineer what is missing; live is true meanwhile."""
    rest = Rest(*models)

    answer = rest.ask("GET", "/v2/health/ready")

    assert 503 == answer.status_code
    assert said in answer.json()["error"]
    assert 200 == rest.ask("GET", "/v2/health/live").status_code


ALL_STATES = FakeModel(
    "m",
    (
        FakeVersion("1", State.FAILED, "FAILED while VERIFYING: x is missing"),
        FakeVersion("2", State.READY),
        FakeVersion("3", State.WARMING, "running 3 examples"),
        FakeVersion("4", State.DRAINING, "2 requests left"),
        FakeVersion("5", State.UNLOADED, "unloaded by hand"),
        FakeVersion("6", State.DISCOVERED, "not wanted by the policy", wanted=False),
        FakeVersion("7", State.DISCOVERED),
    ),
)


def test_the_index_speaks_the_protocols_states_and_our_reasons():
    """Every version is listed with the protocol's state, and a reason that starts with our own."""
    rest = Rest(ALL_STATES, FakeModel("empty", (), None, reason="no version found in /mnt/models"))

    entries = rest.ask("POST", "/v2/repository/index").json()

    expected = [
        ("1", "UNAVAILABLE", "FAILED while VERIFYING: x is missing"),
        ("2", "READY", "READY"),
        ("3", "LOADING", "WARMING: running 3 examples"),
        ("4", "UNLOADING", "DRAINING: 2 requests left"),
        ("5", "UNAVAILABLE", "UNLOADED: unloaded by hand"),
        ("6", "UNAVAILABLE", "DISCOVERED: not wanted by the policy"),
        ("7", "LOADING", "DISCOVERED"),
        (None, "UNAVAILABLE", "no version found in /mnt/models"),
    ]
    assert expected == [(e.get("version"), e["state"], e["reason"]) for e in entries]
    assert {"m", "empty"} == {entry["name"] for entry in entries}


def test_the_index_lists_ready_versions_alone_when_asked():
    """``ready`` leaves out what does not answer."""
    rest = Rest(ALL_STATES, BROKEN)

    entries = rest.ask("POST", "/v2/repository/index", json={"ready": True}).json()

    assert [("m", "2")] == [(entry["name"], entry["version"]) for entry in entries]


def test_the_index_reports_a_broken_configuration():
    """A serving.json that cannot be followed is told beside every version that goes on."""
    rest = Rest(FakeModel("m", config_problem="default names the unknown version 'v9'"))

    entries = rest.ask("POST", "/v2/repository/index").json()

    assert "READY; default names the unknown version 'v9'" == entries[0]["reason"]


@pytest.mark.parametrize("verb", ["load", "unload"])
@pytest.mark.parametrize(("part", "version"), [("", None), ("/versions/v1", "v1")])
def test_load_and_unload_reach_the_manager(rest, verb, part, version):
    """Both verbs take a model or one version, with or without tritonclient's body."""
    path = f"/v2/repository/models/sums{part}/{verb}"

    answer = rest.ask("POST", path, json={"parameters": {"unload_dependents": False}})

    assert {"name": "sums", verb: True} == answer.json()
    assert 200 == rest.ask("POST", path).status_code
    assert [(verb, "sums", version)] * 2 == rest.manager.changes


def test_health_answers_while_a_load_waits(rest):
    """A slow load blocks its own caller only."""
    rest.manager.gate.clear()

    async def scenario() -> tuple[httpx.Response, httpx.Response]:
        async with rest.client() as client:
            load = asyncio.create_task(client.post("/v2/repository/models/sums/load"))
            health = await asyncio.wait_for(client.get("/v2/health/live"), DEADLINE_SECONDS)
            assert not load.done()
            rest.manager.gate.set()
            return health, await asyncio.wait_for(load, DEADLINE_SECONDS)

    health, load = asyncio.run(scenario())

    assert (200, 200) == (health.status_code, load.status_code)


@pytest.mark.parametrize(
    ("error", "status", "retry_after"),
    [
        (QueueFull("'sums'", 100, 2), 503, "2"),
        (PredictionError("'sums' version 1", "ValueError: no", "abc"), 500, None),
        (InvalidInput("no such column"), 400, None),
        (RuntimeError("secret"), 500, None),
    ],
)
def test_errors_of_the_model_keep_their_kind(rest, error, status, retry_after):
    """Whatever the model's code raises is one sentence, never a traceback."""
    rest.bundles.error = error

    answer = rest.ask("POST", "/v2/models/sums/infer", json=V2_BODY)

    assert status == answer.status_code
    assert retry_after == answer.headers.get("retry-after")
    assert "secret" not in answer.text
    assert "Traceback" not in answer.text


def big_body() -> bytes:
    """Write a V1 request just over the limit that compresses to nearly nothing."""
    return b'{"instances": [' + b" " * LIMIT_BYTES + b"]}"


def test_a_declared_length_over_the_limit_is_413_before_anything_is_read(rest):
    """A body that says that it is too large is not read at all."""
    sent: list[dict[str, object]] = []

    async def receive() -> dict[str, object]:
        raise AssertionError("the body was read")

    async def send(message: dict[str, object]) -> None:
        sent.append(message)

    for path in ("/v2/models/sums/infer", "/elsewhere"):
        scope = {"type": "http", "method": "POST", "path": path, "raw_path": path.encode()}
        headers = [(b"content-length", str(LIMIT_BYTES + 1).encode())]
        asyncio.run(rest.app({**scope, "headers": headers}, receive, send))

    assert [413, 413] == [m["status"] for m in sent if m["type"] == "http.response.start"]
    assert str(LIMIT_BYTES) in json.loads(sent[1]["body"])["error"]


async def chunks(body: bytes):
    """Send a body in pieces, without a declared length."""
    for start in range(0, len(body), 65536):
        yield body[start : start + 65536]


@pytest.mark.parametrize("compress", [None, gzip.compress, zlib.compress])
def test_a_body_over_the_limit_is_413_however_it_comes(rest, compress):
    """Chunks are counted, and a small compressed body is bounded by what it grows to."""
    body = compress(big_body()) if compress else big_body()
    headers = {"content-encoding": compress.__module__} if compress else {}
    headers = {"content-encoding": "deflate"} if compress is zlib.compress else headers

    answer = rest.ask("POST", "/v1/models/sums:predict", content=chunks(body), headers=headers)

    assert 413 == answer.status_code
    assert "--max_request_bytes" in answer.json()["error"]


def raw_deflate(body: bytes) -> bytes:
    """Compress without the zlib header, as some clients understand deflate."""
    engine = zlib.compressobj(wbits=-15)
    return engine.compress(body) + engine.flush()


def two_gzip_members(body: bytes) -> bytes:
    """Compress in two members, as gzip allows."""
    return gzip.compress(body[:5]) + gzip.compress(body[5:])


@pytest.mark.parametrize(
    ("encoding", "compress"),
    [
        ("gzip", gzip.compress),
        ("GZIP", gzip.compress),
        ("gzip", two_gzip_members),
        ("deflate", zlib.compress),
        ("deflate", raw_deflate),
        ("identity", bytes),
        ("", bytes),
    ],
)
def test_compressed_bodies_are_read(rest, encoding, compress):
    """Tritonclient may compress its requests."""
    body = compress(orjson.dumps(V2_BODY))

    answer = rest.ask(
        "POST", "/v2/models/sums/infer", content=body, headers={"content-encoding": encoding}
    )

    assert [3.0, 7.0] == answer.json()["outputs"][0]["data"]


@pytest.mark.parametrize(
    ("encoding", "body", "said"),
    [
        ("br", b"{}", "'br' is not supported; expected gzip"),
        ("gzip, deflate", b"{}", "'gzip, deflate'"),
        ("gzip", b"no gzip", "not valid gzip"),
        ("gzip", gzip.compress(b"{}" * 500, mtime=0)[:-9], "not valid gzip: it is truncated"),
        ("gzip", gzip.compress(b"{}", mtime=0) + b"junk", "not valid gzip"),
        ("deflate", b"\x78\x9cjunk", "not valid deflate"),
    ],
)
def test_a_body_that_cannot_be_decompressed_is_400(rest, encoding, body, said):
    """An unknown or broken compression is the caller's to mend."""
    answer = rest.ask(
        "POST", "/v2/models/sums/infer", content=body, headers={"content-encoding": encoding}
    )

    assert 400 == answer.status_code
    assert said in answer.json()["error"]


def test_a_client_that_goes_away_is_forgotten_quietly(rest, caplog):
    """A client that leaves before its body is complete costs no answer and no log line."""
    messages = iter(
        [
            {"type": "http.request", "body": b'{"inst', "more_body": True},
            {"type": "http.disconnect"},
        ]
    )
    sent: list[object] = []

    async def receive() -> dict[str, object]:
        return next(messages)

    async def send(message: dict[str, object]) -> None:
        sent.append(message)

    path = "/v1/models/sums:predict"
    scope = {"type": "http", "method": "POST", "path": path, "headers": []}
    asyncio.run(rest.app(scope, receive, send))

    assert [] == sent
    assert not caplog.records


def responding(status: int, body: bytes, content_type: bytes = b"application/json"):
    """Stand for kserve's app with one fixed answer in two pieces."""

    async def app(scope, receive, send) -> None:
        headers = [(b"content-type", content_type), (b"allow", b"GET"), (b"x-own", b"1")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body[:3], "more_body": True})
        await send({"type": "http.response.body", "body": body[3:]})

    return app


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (404, b'{"detail":"Not Found"}', {"error": "Not Found"}),
        (405, b'{"detail":"Method Not Allowed"}', {"error": "Method Not Allowed"}),
        (422, b'{"detail":[{"msg":"no"}]}', {"error": '[{"msg":"no"}]'}),
        (400, b'{"error":{"message":"no"}}', {"error": {"message": "no"}}),
        (500, b"Internal Server Error", {"error": "Internal Server Error"}),
        (502, b"", {"error": "status 502"}),
    ],
)
def test_errors_of_the_app_behind_take_our_form(status, body, expected):
    """What kserve answers in another form is reworded; the status and what a client needs stay."""
    rest = Rest(TWO_VERSIONS, fallback=responding(status, body))

    answer = rest.ask("GET", "/openai/v1/models")

    assert (status, expected) == (answer.status_code, answer.json())
    assert "GET" == answer.headers["allow"]
    assert b"" == rest.ask("HEAD", "/openai/v1/models").content


def test_good_answers_of_the_app_behind_pass_untouched():
    """Metrics and pages are kserve's own, byte by byte, and HEAD asks for them without body."""
    rest = Rest(TWO_VERSIONS, fallback=responding(200, b"requests 1\n", b"text/plain"))

    answer = rest.ask("GET", "/metrics")
    head = rest.ask("HEAD", "/metrics")

    assert (200, "requests 1\n", "1") == (answer.status_code, answer.text, answer.headers["x-own"])
    assert (200, b"") == (head.status_code, head.content)


@pytest.mark.parametrize(
    ("method", "path", "status", "said"),
    [
        ("POST", "/v1/models/sums:explain", 501, "model 'sums' has no explainer"),
        ("POST", "/v1/models/sums/versions/v1:explain", 501, "model 'sums' has no explainer"),
        ("POST", "/v1/models/broken:explain", 501, "model 'broken' has no explainer"),
        ("POST", "/v1/models/nothing:explain", 404, "model 'nothing' is not served here"),
        ("GET", "/v1/models/sums:explain", 405, "expected POST"),
    ],
)
def test_an_explanation_is_refused_here(method, path, status, said):
    """No bundle has an explainer; the app behind, which would look for one, is not asked."""
    rest = Rest(TWO_VERSIONS, BROKEN, fallback=responding(200, b"{}"))

    answer = rest.ask(method, path, json={"instances": [[1, 2]]})

    assert status == answer.status_code
    assert said in answer.json()["error"]


def test_a_failure_of_the_app_behind_is_500_in_our_form():
    """An app that raises before it answers does not leave the client without an answer."""

    async def failing(scope, receive, send) -> None:
        raise RuntimeError("secret")

    answer = Rest(TWO_VERSIONS, fallback=failing).ask("GET", "/metrics")

    assert 500 == answer.status_code
    assert "incident" in answer.json()["error"]
    assert "secret" not in answer.text


def test_a_failure_after_the_first_byte_is_the_servers_to_end():
    """Once an answer has begun there is no second one; the error goes up to the server."""

    async def failing(scope, receive, send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise RuntimeError("broken pipe")

    with pytest.raises(RuntimeError, match="broken pipe"):
        Rest(TWO_VERSIONS, fallback=failing).ask("GET", "/metrics")


def test_a_version_withdrawn_between_two_looks_is_503(rest):
    """A version that was ready a moment ago and is gone now is not ready, never a failure."""
    rest.manager.check_ready = lambda model, version=None: None

    answer = rest.ask("GET", "/v2/models/sums/versions/9")

    assert 503 == answer.status_code
    assert "it was just removed" in answer.json()["error"]


def test_a_model_withdrawn_between_two_looks_is_left_out_of_the_index(rest):
    """The index lists what is there, also while it changes."""
    rest.manager.models = lambda: ("gone", "sums")

    entries = rest.ask("POST", "/v2/repository/index").json()

    assert {"sums"} == {entry["name"] for entry in entries}


def test_other_protocols_go_to_the_app_behind():
    """Start-up and shutdown events are kserve's."""
    seen: list[str] = []

    async def app(scope, receive, send) -> None:
        seen.append(scope["type"])

    asyncio.run(Rest(fallback=app).app({"type": "lifespan"}, None, None))

    assert ["lifespan"] == seen


EVENT = {"specversion": "1.0", "id": "1", "source": "test", "type": "rows", "time": "2025-01-01"}


def test_a_structured_cloud_event_is_answered_by_one(rest):
    """Rows inside an event are answered inside an event."""
    answer = rest.ask(
        "POST",
        "/v1/models/sums:predict",
        content=orjson.dumps({**EVENT, "data": {"instances": [[1, 2]]}}),
        headers={"content-type": "application/cloudevents+json"},
    )

    event = answer.json()
    assert "application/cloudevents+json" == answer.headers["content-type"]
    assert "io.kserve.inference.response" == event["type"]
    assert {"predictions": [{"sum": 3.0, "label": "low"}]} == event["data"]
    assert "v2" == answer.headers["x-model-version"]


def test_a_binary_cloud_event_is_answered_by_one(rest):
    """An event whose attributes are headers is answered with its attributes in headers."""
    answer = rest.ask(
        "POST",
        "/v1/models/sums:predict",
        json={"instances": [[1, 2]]},
        headers={f"ce-{name}": value for name, value in EVENT.items()},
    )

    assert {"predictions": [{"sum": 3.0, "label": "low"}]} == answer.json()
    assert "io.kserve.inference.sums" == answer.headers["ce-source"]
    assert "application/json" == answer.headers["content-type"]


def test_an_event_without_an_object_inside_is_400(rest):
    """An event's data that hold no request are refused by name."""
    answer = rest.ask("POST", "/v1/models/sums:predict", json={**EVENT, "data": "x"})

    assert 400 == answer.status_code
    assert "'data' is the string 'x'" in answer.json()["error"]


def test_answers_are_sent_in_one_piece(rest):
    """One start and one body: nothing is written twice."""
    sent: list[dict[str, object]] = []

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": orjson.dumps(V2_BODY), "more_body": False}

    async def send(message: dict[str, object]) -> None:
        sent.append(message)

    path = "/v2/models/sums/infer"
    asyncio.run(
        rest.app({"type": "http", "method": "POST", "path": path, "headers": []}, receive, send)
    )

    assert ["http.response.start", "http.response.body"] == [message["type"] for message in sent]
    assert not sent[1].get("more_body", False)
