"""BundleModel in an untouched kserve.ModelServer, asked by KServe's own clients."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
import httpx
import numpy as np
import pytest
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig

from tests.end_to_end import gated
from tests.end_to_end.processes import DEADLINE_SECONDS, HERE, environment, eventually
from tests.end_to_end.versions import configure, other_bytes, publish
from tests.mlflow_server import free_port

ROOT = HERE.parent.parent
SERVER, EXAMPLE = HERE / "kserve_server.py", ROOT / "examples" / "kserve_model.py"
IMPORTED_FROM = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
PROTOCOLS = ("v1", "v2", "grpc")


class Server:
    """A script that starts kserve's server, and KServe's clients for it."""

    def __init__(self, directory, *command):
        self.http_port, self.grpc_port = free_port(), free_port()
        self.rest, self._log = f"http://127.0.0.1:{self.http_port}", directory / "server.log"
        flags = (f"--http_port={self.http_port}", f"--grpc_port={self.grpc_port}")
        with self._log.open("w") as log:
            self.popen = subprocess.Popen(
                [sys.executable, *map(str, command), *flags],
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment(PYTHONPATH=IMPORTED_FROM),
            )

    @property
    def log(self):
        return self._log.read_text()

    def wait_for_line(self, pattern):
        eventually(lambda: re.search(pattern, self.log) or self._has_ended(), pattern)

    def status(self, method, path, **more):
        try:
            return httpx.request(method, self.rest + path, timeout=DEADLINE_SECONDS, **more)
        except httpx.ConnectError:
            return self._has_ended()

    def ready(self, model):
        """Return what REST and gRPC say of a model's readiness."""

        async def over_grpc():
            async with InferenceGRPCClient(f"127.0.0.1:{self.grpc_port}") as client:
                return await client.is_model_ready(model)

        over_rest = self.status("GET", f"/v2/models/{model}/ready").status_code == 200
        return over_rest, asyncio.run(over_grpc())

    def wait_until_ready(self, model):
        eventually(lambda: all(self.ready(model)), f"{model} is ready")

    def ask(self, protocol, model, value=10.0, version=None):
        """Return which version answers, and its first number."""
        return asyncio.run(self._ask(protocol, model, value, version))

    async def _ask(self, protocol, model, value, version):
        tensor = InferInput("x", [1, 1], "FP64")
        tensor.set_data_from_numpy(np.array([[value]]), binary_data=False)
        request = InferRequest(model, [tensor], model_version=version)
        if protocol == "grpc":
            async with InferenceGRPCClient(f"127.0.0.1:{self.grpc_port}") as client:
                response = await client.infer(request, timeout=DEADLINE_SECONDS)
            return response.model_version, response.outputs[0].as_numpy().tolist()[0]
        headers = {}
        async with InferenceRESTClient(RESTConfig(protocol=protocol)) as client:
            sent = {"instances": [[value]]} if protocol == "v1" else request
            answer = await client.infer(self.rest, sent, model_name=model, response_headers=headers)
        if protocol == "v2":
            return headers["x-model-version"], answer.outputs[0].as_numpy().tolist()[0]
        return headers["x-model-version"], answer["predictions"][0]

    def _has_ended(self):
        assert self.popen.poll() is None, self.log


@contextmanager
def running(directory, *command):
    """Run a script that starts kserve's server while the block runs."""
    server = Server(directory, *command)
    try:
        eventually(lambda: server.status("GET", "/v2/health/live"), "kserve's server is live")
        # Said just before it listens; KServe's client tries again.
        server.wait_for_line("Starting gRPC server on")
        yield server
    finally:
        server.popen.kill()
        server.popen.wait(DEADLINE_SECONDS)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Make a volume on which two of three models have a version."""
    root = tmp_path_factory.mktemp("models")
    for name in ("plain", "doubled", "late"):
        (root / name).mkdir()
    publish(root / "plain", "v1", 1.0)
    publish(root / "doubled", "v1", 3.0)
    return root


@pytest.fixture(scope="module")
def server(root):
    """Run the server that all tests here share."""
    with running(root, SERVER, root) as server:
        server.wait_until_ready("plain")
        server.wait_until_ready("doubled")
        yield server


def test_a_model_is_not_ready_before_a_version_answers_and_then_by_itself(server, root):
    """Without a version every protocol says unavailable; a first version changes that alone."""
    assert (False, False) == server.ready("late")
    refused = server.status("POST", "/v1/models/late:predict", json={"instances": [[1.0]]})
    assert 503 == refused.status_code
    with pytest.raises(grpc.RpcError) as caught:
        server.ask("grpc", "late")
    assert grpc.StatusCode.UNAVAILABLE == caught.value.code()
    assert "'late' is not ready" in caught.value.details()

    publish(root / "late", "v1", 1.0)

    server.wait_until_ready("late")
    assert [("v1", 10.0)] * 3 == [server.ask(protocol, "late") for protocol in PROTOCOLS]


def test_a_new_version_takes_over_and_a_broken_one_does_not(server, root):
    """The answers name v2 once it is there, and go on naming it when v3 fails."""
    publish(root / "plain", "v2", 2.0)
    eventually(lambda: server.ask("v2", "plain")[0] == "v2", "v2 answers")
    assert [("v2", 20.0)] * 3 == [server.ask(protocol, "plain") for protocol in PROTOCOLS]

    publish(root / "plain", "v3", 3.0, other_bytes)
    server.wait_for_line(r"plain v3: failed")

    assert [("v2", 20.0)] * 3 == [server.ask(protocol, "plain") for protocol in PROTOCOLS]


def test_a_subclass_changes_what_comes_and_what_goes(server):
    """Methods overridden as KServe documents them are called, and the version is still named."""
    answer = server.status("POST", "/v1/models/doubled:predict", json={"instances": [[5.0]]})

    assert {"predictions": [30.0], "unit": "mm"} == answer.json()
    assert "v1" == answer.headers["x-model-version"]
    assert ("v1", 15.0) == server.ask("v2", "doubled", 5.0)


def test_a_v2_answer_and_the_metadata_are_kserves(server):
    """The body of a V2 answer has ``model_version``; the metadata have the signature."""
    tensor = {"name": "x", "datatype": "FP64", "shape": [1, 1], "data": [4.0]}

    answer = server.status("POST", "/v2/models/doubled/infer", json={"inputs": [tensor]}).json()
    about = server.status("GET", "/v2/models/doubled").json()

    assert ("doubled", "v1") == (answer["model_name"], answer["model_version"])
    assert [["x"], ["y"]] == [[t["name"] for t in about[way]] for way in ("inputs", "outputs")]


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1/models/doubled:predict", {"instances": [["a"]]}, 400),
        ("/v2/models/doubled/infer", {"inputs": []}, 400),
        ("/v1/models/nope:predict", {"instances": [[1.0]]}, 404),
        # KServe's own server knows no URLs of versions.
        ("/v2/models/doubled/versions/v1/infer", {"inputs": []}, 501),
    ],
)
def test_errors_have_the_statuses_of_our_own_server_where_kserve_allows(server, path, body, status):
    """What the caller did wrong is a 4xx with a sentence."""
    answer = server.status("POST", path, json=body)

    assert status == answer.status_code
    assert answer.json()["error"]


def test_grpc_asks_a_version_by_its_name(server):
    """``model_version`` of a gRPC request is heeded, and unknown ones are not found."""
    assert ("v1", 30.0) == server.ask("grpc", "doubled", version="v1")
    with pytest.raises(grpc.RpcError) as caught:
        server.ask("grpc", "doubled", version="v9")
    assert grpc.StatusCode.NOT_FOUND == caught.value.code()


def test_serving_json_pins_the_default(server, root):
    """The default that ``serving.json`` names answers, though a newer version is there."""
    configure(root / "doubled", policy="all", default="v1")
    publish(root / "doubled", "v2", 4.0)
    server.wait_for_line(r"doubled v2: ready")

    assert ("v2", 40.0) == server.ask("grpc", "doubled", version="v2")
    assert ("v1", 30.0) == server.ask("grpc", "doubled")


def test_sigterm_answers_what_is_in_flight_and_closes_the_versions(tmp_path):
    """A gRPC request that waits when kserve unloads the model is answered; then all is closed."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    (tmp_path / "plain").mkdir()
    publish(tmp_path / "plain", "v1", gated.SlowToPredict(2.0, str(pipe)))
    with running(tmp_path, SERVER, tmp_path) as server, ThreadPoolExecutor(1) as pool:
        server.wait_until_ready("plain")
        answer = pool.submit(server.ask, "grpc", "plain")
        with pipe.open("w") as gate:  # opens when the model's code has been entered
            server.popen.send_signal(signal.SIGTERM)
            server.wait_for_line("Waiting for gRPC server shutdown")
            gate.write("go")
        assert ("v1", 20.0) == answer.result(DEADLINE_SECONDS)
        assert 0 == server.popen.wait(DEADLINE_SECONDS)
        assert "plain v1: unloaded" in server.log


def test_the_example_serves(tmp_path):
    """``examples/kserve_model.py`` works as it stands."""
    publish(tmp_path, "v1", 1.23456)
    command = (EXAMPLE, "--model_name=rounded", "--model_dir", tmp_path)
    with running(tmp_path, *command) as server:
        server.wait_until_ready("rounded")

        assert ("v1", 12.35) == server.ask("v1", "rounded")
        assert 10.0 * 1.23456 == server.ask("v2", "rounded")[1]


def test_the_package_imports_no_kserve_until_the_model_is_asked_for():
    """``import bundleserver`` is light; ``BundleModel`` is a ``kserve.Model``."""
    script = (
        "import sys, bundleserver; assert 'kserve' not in sys.modules; "
        "import bundleserver as b; from bundleserver import BundleModel; import kserve; "
        "assert issubclass(BundleModel, kserve.Model) and b.BundleModel is BundleModel"
    )

    subprocess.run([sys.executable, "-c", script], check=True, timeout=DEADLINE_SECONDS)
