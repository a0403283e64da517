"""With ``--repository_index=admin`` reasons, paths and lists are for administrators alone."""

from __future__ import annotations

import json

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from bundleserver.errors import BundleError, NotReady
from bundleserver.serving.administration import Discretion
from bundleserver.serving.options import ServerOptions
from bundleserver.versions.lifecycle import State
from bundleserver.versions.serving_config import ServingConfig
from tests.end_to_end.processes import eventually, running
from tests.end_to_end.versions import publish
from tests.serving.fakes import FakeManager, FakeModel, FakeVersion, serving
from tests.serving.grpc_client import connected

PLACE = "/mnt/very-secret-volume"
DIGEST = "9f2c41ab77"
TOKEN = "a-token-of-these-tests"  # noqa: S105  # of these tests
OWN = {"authorization": f"Bearer {TOKEN}"}
ELSEWHERE = "for administrators: the server log, or /v2/repository/index"
WHY = f"{PLACE}/v9/model.pkl has sha256 {DIGEST}"
VERIFICATION = {"digest": "d", "signature": {"status": "untrusted", "key": None, "problem": WHY}}


def refuses(*_):
    """Raise what a member of an ensemble that is not ready raises."""
    raise NotReady("model 'member'", f"version v9 is FAILED while LOADING: {WHY}", 7)


def breaks(*_):
    """Raise an error that tells of bundles."""
    raise BundleError(f"models call each other in a cycle: {WHY}")


MODELS = (
    FakeModel(
        "sums",
        (
            FakeVersion("v9", state=State.FAILED, reason=f"FAILED while VERIFYING: {WHY}"),
            FakeVersion(
                "v7",
                reason=f"READY (serving the previous files); reload FAILED while LOADING: {WHY}",
                probe_problem=f"KeyError: {WHY}",
                metadata={"probe": WHY, "probed": False, "verification": VERIFICATION},
            ),
        ),
        default="v7",
        config_problem=f"{PLACE}/serving.json is not valid",
        stale_since=1000.0,
        source_problem=f"{PLACE} cannot be read",
    ),
    FakeModel(
        "hidden-model",
        (FakeVersion("v8", state=State.FAILED, reason=f"FAILED while LOADING: {WHY}"),),
        default=None,
        reason=f"version v8 is FAILED while LOADING: {WHY}",
    ),
    FakeModel("ensemble", (FakeVersion("v1", call=refuses),), default="v1"),
    FakeModel("circle", (FakeVersion("v1", call=breaks),), default="v1"),
)
BODY = {"instances": [[1.0, 2.0]]}
TENSOR = {"name": "features", "datatype": "FP64", "shape": [1, 2], "data": [1, 2]}


def everything(server):
    """Ask all that a client may ask, of what there is and what is not; returns the answers."""
    said = {}
    versions = ("", "/versions/v9", "/versions/v7", "/versions/nix", "/versions/v1")
    with httpx.Client(base_url=server.rest, timeout=60) as client:
        for model in ("sums", "hidden-model", "ensemble", "circle", "nix"):
            for version in versions:
                at = f"{model}{version}"
                for path in (f"/v1/models/{at}", f"/v2/models/{at}", f"/v2/models/{at}/ready"):
                    said[path] = client.get(path)
                for verb in ("predict", "explain"):
                    path = f"/v1/models/{at}:{verb}"
                    said[path] = client.post(path, json=BODY)
                path = f"/v2/models/{at}/infer"
                said[path] = client.post(path, json={"inputs": [TENSOR]})
            document = {"model": model, "inputs": [{"name": "a", "values": [1, 2]}]}
            said[f"forecast {model}"] = client.post("/v1/timeseries/forecast", json=document)
        for path in (
            "/v2/health/ready",
            "/v2/health/live",
            "/v2",
            "/metrics",
            "/",
            "/v1/timeseries/models",
        ):
            said[path] = client.get(path)
        for path in ("index", "models/sums/load", "models/sums/versions/v9/unload"):
            said[path] = client.post(f"/v2/repository/{path}")
    return said


def everything_over_grpc(server):
    """Ask the same of every RPC; returns what is answered, or the error's details."""
    said = {}
    with connected(server.grpc) as client:
        for model in ("sums", "hidden-model", "ensemble", "circle", "nix"):
            for version in ("", "v9", "v7", "nix", "v1"):
                tensor = {"name": "features", "datatype": "FP64", "shape": [1, 2]}
                tensor["contents"] = {"fp64_contents": [1, 2]}
                asked = {
                    "ModelReady": {"name": model, "version": version},
                    "ModelMetadata": {"name": model, "version": version},
                    "ModelInfer": {
                        "model_name": model,
                        "model_version": version,
                        "inputs": [tensor],
                    },
                    "RepositoryModelLoad": {"model_name": model},
                }
                for rpc, fields in asked.items():
                    try:
                        said[rpc, model, version] = str(client.call(rpc, **fields))
                    except grpc.RpcError as error:
                        said[rpc, model, version] = f"{error.code().name} {error.details()}"
    with grpc.insecure_channel(server.grpc) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            health.Check(health_pb2.HealthCheckRequest(service="nix"), timeout=60)
        said["health"] = f"{caught.value.code().name} {caught.value.details()}"
    return said


def statuses(answers):
    """Return the status of each answer, which no discretion changes."""
    return {path: answer.status_code for path, answer in answers.items() if path != "index"}


@pytest.fixture(scope="module")
def both():
    """Ask a server that is open about its reasons, and one that is not."""
    found = []
    for index in ("open", "admin"):
        with serving(FakeManager(*MODELS), ServerOptions(repository_index=index)) as server:
            found.append((everything(server), everything_over_grpc(server)))
    return found


def test_no_client_reads_a_reason_a_path_or_a_list(both):
    """Whichever route or RPC is asked, and of which model and version."""
    (open_rest, open_grpc), (rest, rpcs) = both
    texts = {**{path: answer.text for path, answer in rest.items()}, **rpcs}
    told = {**{path: answer.text for path, answer in open_rest.items()}, **open_grpc}

    for secret in (PLACE, DIGEST):
        assert not [path for path, text in texts.items() if secret in text]
        assert [path for path, text in told.items() if secret in text]
    for path, text in texts.items():
        # Of versions a client knows those that it names, and READY ones.
        if "v9" not in str(path) and path != "/metrics":
            assert "v9" not in text, path
        if "hidden-model" not in str(path) and path != "/metrics":
            assert "hidden-model" not in text, path


def test_statuses_are_the_same(both):
    """Readiness, probes and retries work as before; so do their times."""
    (open_rest, open_grpc), (rest, rpcs) = both

    assert statuses(open_rest) == statuses(rest)
    for path, answer in rest.items():
        if path != "index":
            assert open_rest[path].headers.get("retry-after") == answer.headers.get("retry-after")
    codes = {asked: text.split(" ", 1)[0] for asked, text in rpcs.items()}
    assert codes == {asked: text.split(" ", 1)[0] for asked, text in open_grpc.items()}
    assert 403 == rest["index"].status_code
    assert 200 == rest["/v2/models/sums/ready"].status_code


def test_the_short_sentence_says_where_the_reason_is(both):
    """What is not ready, or not there, is named as the client has named it."""
    _, (rest, rpcs) = both

    def error(path):
        return json.loads(rest[path].text)["error"]

    assert f"model 'hidden-model' is not ready: the reason is {ELSEWHERE}" in error(
        "/v2/models/hidden-model/ready"
    )
    assert ELSEWHERE in error("/v1/models/ensemble:predict")
    assert ELSEWHERE in error("/v1/models/circle:predict")
    assert "model 'nix' is not served here" == error("/v2/models/nix")
    assert "model 'sums' has no version or label 'nix'" in error("/v2/models/sums/versions/nix")
    assert f"the server is not ready: the reason is {ELSEWHERE}" in error("/v2/health/ready")
    assert "NOT_FOUND model 'nix' is not served here" == rpcs["health"]


def test_metrics_have_the_class_of_a_failure(both):
    """Numbers and states stay, and the state in which a version failed."""
    (opened, _), (rest, _) = both
    page, open_page = rest["/metrics"].text, opened["/metrics"].text

    def failure(version, model, reason):
        labels = f'model="{model}",reason="{reason}",version="{version}"'
        return f"bundleserver_version_failure_info{{{labels}}} 1.0"

    assert failure("v9", "sums", "FAILED while VERIFYING") in page
    assert failure("v7", "sums", "FAILED while LOADING") in page
    assert failure("v8", "hidden-model", "FAILED while LOADING") in page
    assert f'reason="FAILED while VERIFYING: {WHY}"' in open_page
    families = [
        {line.split()[2] for line in one.splitlines() if line.startswith("# TYPE bundleserver")}
        for one in (page, open_page)
    ]
    assert families[0] == families[1]


MIRRORED = FakeModel(
    "mirrored",
    (FakeVersion("v1"), FakeVersion("v2", call=refuses)),
    default="v1",
    config=ServingConfig(shadow=("v2",)),
)


@pytest.mark.parametrize(("index", "is_told"), [("open", True), ("admin", False)])
def test_why_mirrored_requests_fail_is_for_administrators(index, is_told):
    """In metadata of either protocol, and on the page; how many fail is told to all."""
    options = ServerOptions(repository_index=index, enable_page=True)
    with serving(FakeManager(MIRRORED), options) as server:
        at = f"{server.rest}/v2/models/mirrored"
        httpx.post(f"{server.rest}/v1/models/mirrored:predict", json=BODY).raise_for_status()
        (shadow,) = eventually(
            lambda: httpx.get(at).json()["traffic"]["shadow"], "a request is mirrored"
        )
        page = httpx.get(
            f"{server.rest}/page/models/mirrored", headers={"accept": "text/html"}
        ).text
        with connected(server.grpc) as client:
            metadata = str(client.call("ModelMetadata", name="mirrored"))

    assert 1 == shadow["copies"]["not_ready"]
    for text in (shadow["problem"], page, metadata):
        assert is_told == (WHY in text)
        assert is_told != ("for administrators" in text)


def test_a_canarys_reason_is_for_administrators():
    """Its file beside the versions has it, which may say anything; its figures are told."""
    canary = {"version": "v2", "state": "demoted", "errors": 3, "reason": WHY}
    told = Discretion(is_on=True).traffic({"shares": {"v1": 1.0}, "canary": canary})

    assert WHY not in str(told)
    assert 3 == told["canary"]["errors"]
    assert {"shares": {"v1": 1.0}} == Discretion(is_on=True).traffic({"shares": {"v1": 1.0}})
    assert {"canary": canary} == Discretion().traffic({"canary": canary})


def test_administrators_read_everything(tmp_path):
    """The index has the reason, and so has the answer to a load that fails, over both protocols."""
    root, token = tmp_path / "models", tmp_path / "token"
    publish(root, "v1", 1.0)
    bad = root / "v2"
    publish(root, "v2", 2.0, lambda version: (version / "model.joblib").write_bytes(b"other"))
    token.write_text(TOKEN)
    with running(
        root, "numbers", admin_token_file=token, repository_index="admin", version_policy="all"
    ) as server:
        server.wait_until_ready("numbers")
        server.wait_for_line("v2: failed while verifying")
        index = server.post("/v2/repository/index", headers=OWN).text
        load = "/v2/repository/models/numbers/versions/v2/load"
        told, refused = server.post(load, headers=OWN), server.post(load)
        ready = server.get("/v2/models/numbers/versions/v2/ready")
        page = server.get("/metrics").text
        fields = {"model_name": "numbers", "parameters": {"version": {"string_param": "v2"}}}
        metadata = (("authorization", OWN["authorization"]),)
        with connected(server.grpc) as client, pytest.raises(grpc.RpcError) as caught:
            client.call("RepositoryModelLoad", metadata, **fields)

    assert str(bad) in index
    assert (503, True) == (told.status_code, str(bad) in told.text)
    assert str(bad) in caught.value.details()
    assert 401 == refused.status_code
    assert (503, False) == (ready.status_code, str(root) in ready.text)
    assert str(root) not in page
    assert str(bad) in server.log
