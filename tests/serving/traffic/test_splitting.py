"""Who answers a request that names no version: V1, V2 and gRPC alike."""

from __future__ import annotations

import json
import math
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import grpc
import httpx
import pytest

from bundleserver.errors import InvalidInput
from bundleserver.manager import Manager
from bundleserver.manager.watcher import Watcher
from bundleserver.serving.options import ServerOptions
from bundleserver.serving.requests import PredictRequest
from bundleserver.serving.traffic.routing_key import routing_key
from bundleserver.serving.traffic.splitting import Splitter
from bundleserver.versions.lifecycle import State
from bundleserver.versions.serving_config import ServingConfig
from tests.fakes import FakeSource
from tests.serving.fakes import FakeManager, FakeModel, FakeVersion, serving, split_and_answer
from tests.serving.grpc_client import connected, tensor

CLIENT = httpx.Client(timeout=20.0)
ROWS = [[1.0, 2.0]]
SPLIT = ServingConfig(
    labels={"stable": "1", "canary": "2"}, default="stable", traffic={"stable": 70, "canary": 30}
)
TENSOR = {"name": "features", "datatype": "FP64", "shape": [1, 2], "data": [1.0, 2.0]}
FEATURES = tensor("features", "FP64", [1, 2], fp64_contents=[1.0, 2.0])


def model(config=SPLIT, states=(State.READY, State.READY), default="1"):
    """Make a model with two versions."""
    versions = tuple(
        FakeVersion(label, state=state) for label, state in zip(("1", "2"), states, strict=True)
    )
    return FakeModel("sums", versions, default, dict(config.labels), config=config)


@pytest.fixture
def served():
    """Serve a model whose traffic is split."""
    with serving(FakeManager(model())) as server:
        yield server


def ask(splitter, key=None, request_id=None, version=None):
    """Return the version that answers one request."""
    request = PredictRequest("sums", version, rows=ROWS, id=request_id, routing_key=key)
    response, _ = split_and_answer(splitter, request)
    return response.version


def v1(server, headers=None, path="/v1/models/sums:predict"):
    """Ask over V1, and return the answer's version."""
    answer = CLIENT.post(f"{server.rest}{path}", json={"instances": ROWS}, headers=headers)
    assert 200 == answer.status_code, answer.text
    return answer.headers["x-model-version"]


def v2(server, headers=None, path="/v2/models/sums/infer", **body):
    """Ask over V2, and return the answer's version."""
    answer = CLIENT.post(f"{server.rest}{path}", json={"inputs": [TENSOR], **body}, headers=headers)
    assert 200 == answer.status_code, answer.text
    return answer.json()["model_version"]


def test_requests_without_a_key_are_split_by_the_weights():
    """Chance keeps the weights, within bounds that a fair draw leaves once in 500 million."""
    splitter = Splitter(FakeManager(model()))
    count = 4000

    found = [ask(splitter) for _ in range(count)].count("2")

    spread = 6 * math.sqrt(count * 0.3 * 0.7)
    assert 0.3 * count - spread <= found <= 0.3 * count + spread


def test_a_key_stays_with_its_version_over_every_protocol(served):
    """V1, V2 and gRPC give one key one version, and both versions are given to some."""
    found = {}
    with connected(served.grpc) as client:
        for number in range(20):
            key = f"user-{number}"
            headers = {"X-Routing-Key": key}
            answer = client.infer(FEATURES, model="sums", metadata=(("x-routing-key", key),))
            found[key] = {v1(served, headers), v2(served, headers), answer.model_version}

    assert {1} == {len(versions) for versions in found.values()}
    assert {"1", "2"} == set.union(*found.values())


def test_without_a_key_the_id_keeps_a_request_with_its_version(served):
    """The same id is answered by the same version, over REST and gRPC."""
    with connected(served.grpc) as client:
        found = {
            number: {
                v2(served, id=f"request-{number}"),
                v2(served, id=f"request-{number}"),
                client.infer(FEATURES, model="sums", id=f"request-{number}").model_version,
            }
            for number in range(12)
        }

    assert {1} == {len(versions) for versions in found.values()}
    assert {"1", "2"} == set.union(*found.values())


def test_the_key_goes_before_the_id():
    """Requests of one caller stay together though each has an id of its own."""
    splitter = Splitter(FakeManager(model()))

    assert 1 == len({ask(splitter, "alice", f"request-{number}") for number in range(50)})


@pytest.mark.parametrize(
    ("name", "answers"), [("1", "1"), ("2", "2"), ("stable", "1"), ("canary", "2")]
)
def test_a_request_that_names_a_version_or_label_is_never_rerouted(served, name, answers):
    """Whatever its key would fall to, it gets what it asked for."""
    with connected(served.grpc) as client:
        for key in ("a", "b", "c", "d", "e", "f"):
            headers = {"X-Routing-Key": key}
            named = client.infer(
                FEATURES, model="sums", model_version=name, metadata=(("x-routing-key", key),)
            )

            assert answers == v1(served, headers, f"/v1/models/sums/versions/{name}:predict")
            assert answers == v2(served, headers, f"/v2/models/sums/versions/{name}/infer")
            assert answers == named.model_version


def test_the_header_may_have_another_name():
    """--routing_header names the header and the metadata that hold the key."""
    options = ServerOptions(routing_header="X-User")
    with serving(FakeManager(model()), options) as server, connected(server.grpc) as client:
        found = {
            key: {v1(server, {"x-user": key, "X-Routing-Key": str(number)}) for number in range(4)}
            | {client.infer(FEATURES, model="sums", metadata=(("x-user", key),)).model_version}
            for key in map(str, range(12))
        }

    assert {1} == {len(versions) for versions in found.values()}
    assert {"1", "2"} == set.union(*found.values())


def test_a_key_of_ten_kilobytes_is_refused_alike_over_every_protocol(served):
    """It is a 400, INVALID_ARGUMENT, and says what it has and what it may have."""
    key = "k" * 10_240
    sentence = "the routing key 'X-Routing-Key' has 10240 characters; expected at most 1024"
    headers = {"X-Routing-Key": key}

    first = CLIENT.post(
        f"{served.rest}/v1/models/sums:predict", json={"instances": ROWS}, headers=headers
    )
    second = CLIENT.post(
        f"{served.rest}/v2/models/sums/infer", json={"inputs": [TENSOR]}, headers=headers
    )
    with connected(served.grpc) as client, pytest.raises(grpc.RpcError) as refused:
        client.infer(FEATURES, model="sums", metadata=(("x-routing-key", key),))

    assert (400, {"error": sentence}) == (first.status_code, first.json())
    assert (400, {"error": sentence}) == (second.status_code, second.json())
    assert (grpc.StatusCode.INVALID_ARGUMENT, sentence) == (
        refused.value.code(),
        refused.value.details(),
    )


@pytest.mark.parametrize(
    ("came", "expected"), [(None, None), ("", None), ("a", "a"), ("a" * 1024, "a" * 1024)]
)
def test_a_key_is_what_the_header_holds(came, expected):
    """An empty key is none."""
    assert expected == routing_key(came, "X-K")


def test_a_key_that_is_too_long_is_the_callers_mistake():
    """One character more than may be is refused."""
    with pytest.raises(InvalidInput, match="has 1025 characters"):
        routing_key("a" * 1025, "X-K")


@pytest.mark.parametrize(
    "config",
    [
        SPLIT,
        ServingConfig(default="1", traffic={"1": 70, "2": 30}),
        ServingConfig(default="1", traffic={"1": 70, "gone": 30}),
        ServingConfig(default="1", traffic={"9": 1}),
    ],
    ids=["label", "version", "unknown label", "unknown version"],
)
def test_a_version_that_is_not_ready_takes_no_traffic(config):
    """Its share goes to the default, is counted, and nobody's request fails."""
    manager = FakeManager(model(config, (State.READY, State.FAILED)))
    splitter = Splitter(manager)

    found = [ask(splitter, f"user-{number}") for number in range(200)]

    assert {"1"} == set(found)
    (diverted,) = splitter.diverted("sums").values()
    assert 30 <= diverted <= 200


def test_the_diverted_share_is_in_the_metrics():
    """A scrape shows the shares and who could not take his."""
    manager = FakeManager(model(SPLIT, (State.READY, State.FAILED)))
    with serving(manager) as server:
        for number in range(20):
            v1(server, {"X-Routing-Key": f"user-{number}"})
        labels = {"model": "sums", "target": "canary"}

        assert server.registry.get_sample_value("bundleserver_traffic_share", labels) == 0.3
        assert server.registry.get_sample_value(
            "bundleserver_diverted_requests_total", labels
        ) == pytest.approx(6, abs=5)


def test_the_keys_of_the_others_stay_while_a_version_is_away():
    """What a version that fails gives up goes to the default and moves no other key."""
    config = ServingConfig(default="1", traffic={"1": 40, "2": 30, "3": 30})
    versions = tuple(FakeVersion(label) for label in ("1", "2", "3"))
    manager = FakeManager(FakeModel("sums", versions, config=config))
    splitter = Splitter(manager)
    keys = [f"user-{number}" for number in range(200)]
    before = {key: ask(splitter, key) for key in keys}
    broken = (versions[0], versions[1], FakeVersion("3", state=State.FAILED))
    manager.add(FakeModel("sums", broken, config=config))

    after = {key: ask(splitter, key) for key in keys}

    assert {key: "1" if version == "3" else version for key, version in before.items()} == after


def test_metadata_shows_the_split_over_rest_and_grpc(served):
    """The object 'traffic' has the shares; a model without a split has no such object."""
    about = CLIENT.get(f"{served.rest}/v2/models/sums").json()
    with connected(served.grpc) as client:
        properties = client.call("ModelMetadata", name="sums").properties

    expected = {"shares": {"stable": 0.7, "canary": 0.3}, "diverted": {}}
    assert expected == about["traffic"]
    assert expected == json.loads(properties["traffic"])
    with serving(FakeManager(FakeModel("sums"))) as plain:
        assert "traffic" not in CLIENT.get(f"{plain.rest}/v2/models/sums").json()


class Requests:
    """Callers that ask all the time, from several threads, until they are stopped."""

    def __init__(self, splitter):
        self.splitter = splitter
        self.answered = []
        self.errors = []
        self._stopping = threading.Event()
        self._news = threading.Condition()

    def ask(self, seed):
        number = 0
        while not self._stopping.is_set():
            number += 1
            request = PredictRequest("fraud", tensors=(), routing_key=f"{seed}-{number % 50}")
            try:
                response, _ = split_and_answer(self.splitter, request)
            except Exception as error:  # noqa: BLE001  # the test looks at each
                self.errors.append(error)
                return
            with self._news:
                self.answered.append(response.version)
                self._news.notify_all()

    def wait_for(self, version):
        """Wait until a version answers a request that begins from now on."""
        start = len(self.answered)
        with self._news:
            assert self._news.wait_for(
                lambda: self.errors or version in self.answered[start + 8 :], 20.0
            )
        assert [] == self.errors

    def stop(self):
        self._stopping.set()


def test_swaps_and_failures_during_a_split_lose_no_request():
    """Versions are republished, fail, vanish and the split moves, and every request is answered."""
    source = FakeSource()
    for label in ("1", "2", "3"):
        source.publish(label)
    source.configure('{"default": "1", "traffic": {"1": 50, "2": 50}}')
    manager = Manager(source, model_name="fraud", open_bundle=source.open)
    requests = Requests(Splitter(manager))
    with ExitStack() as stack:
        watcher = Watcher(manager, 0.01)
        manager.reconcile()
        watcher.start()
        stack.callback(watcher.stop)
        pool = stack.enter_context(ThreadPoolExecutor(4))
        stack.callback(requests.stop)
        for seed in range(4):
            pool.submit(requests.ask, seed)
        requests.wait_for("2")
        source.publish("2")
        requests.wait_for("2")
        source.configure('{"default": "1", "traffic": {"1": 20, "2": 20, "3": 60}}')
        requests.wait_for("3")
        source.publish("3", fails_at=State.WARMING)
        requests.wait_for("3")
        manager.unload("fraud", "3")
        requests.wait_for("1")
        source.delete("2")
        source.configure('{"default": "1"}')
        requests.wait_for("1")
        source.publish("1")
        requests.wait_for("1")

    assert [] == requests.errors
    assert {"1", "2", "3"} == set(requests.answered)
