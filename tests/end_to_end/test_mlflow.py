"""Real processes: an MLflow server, ours, and clients that notice nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress

import pytest
import requests

from bundleserver.sources.registry.client import RegistryClient
from bundleserver.sources.registry.uri import ModelUri
from bundleserver.store.pushing import push
from tests.mlflow_server import DEADLINE_SECONDS, free_port, make_bundle, wait_until


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    """Save two bundles; the first answers the sum once, the second twice."""
    root = tmp_path_factory.mktemp("bundles")
    return [make_bundle(root, factor) for factor in (1.0, 2.0)]


def command(server, *arguments):
    """Run a command of ours against the registry; returns what it printed."""
    environ = {**os.environ, "MLFLOW_TRACKING_URI": server.uri, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "bundleserver", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE_SECONDS,
        env=environ,
    )
    assert 0 == done.returncode, done.stderr
    return done.stdout


class Served:
    """A server process of ours."""

    def __init__(self, server, uri, cache, log):
        self.port = free_port()
        self.log = log
        flags = ["--model_uri", uri, "--cache_dir", cache, "--poll_interval_seconds", "0.2"]
        flags += ["--http_port", self.port, "--enable_grpc", "false"]
        with log.open("ab") as file:
            self.popen = subprocess.Popen(
                [sys.executable, "-m", "bundleserver", "serve", *map(str, flags)],
                stdout=file,
                stderr=file,
                env={**os.environ, "MLFLOW_TRACKING_URI": server.uri, "OMP_NUM_THREADS": "1"},
            )

    def get(self, path):
        """Ask, and return the status (0: nobody listens) and the JSON of the answer."""
        with suppress(requests.ConnectionError):
            answer = requests.get(f"http://127.0.0.1:{self.port}{path}", timeout=30)
            return answer.status_code, answer.json() if "json" in answer.headers.get(
                "content-type", ""
            ) else answer.text
        return 0, {}

    def is_ready(self):
        return self.get("/v2/health/ready")[0] == 200

    def predict(self, name):
        answer = requests.post(
            f"http://127.0.0.1:{self.port}/v1/models/{name}:predict",
            json={"instances": [[1.0, 2.0]]},
            timeout=30,
        )
        return answer.status_code, answer.headers.get("x-model-version"), answer.json()


@contextmanager
def serve(server, uri, cache, log):
    """Run our server while the block runs."""
    served = Served(server, uri, cache, log)
    try:
        yield served
    finally:
        served.popen.send_signal(signal.SIGTERM)
        served.popen.wait(DEADLINE_SECONDS)


def test_an_alias_moves_under_load_and_no_request_fails(registry, bundles, tmp_path):
    """Clients ask all the time while the champion changes: each gets an answer of one version."""
    name = "under-load"
    push(bundles[0], ModelUri(name, alias="champion"), RegistryClient())
    push(bundles[1], ModelUri(name), RegistryClient())
    seen, stop = [], threading.Event()
    with serve(
        registry, f"models:/{name}@champion", tmp_path / "cache", tmp_path / "log"
    ) as served:
        wait_until(served.is_ready)

        def ask():
            while not stop.is_set():
                seen.append(served.predict(name))

        clients = [threading.Thread(target=ask) for _ in range(3)]
        for client in clients:
            client.start()
        registry.client().set_registered_model_alias(name, "champion", "2")
        wait_until(lambda: any(version == "2" for _, version, _ in seen))
        stop.set()
        for client in clients:
            client.join(DEADLINE_SECONDS)

    assert {200} == {status for status, _, _ in seen}
    answers = {(version, round(body["predictions"][0], 6)) for _, version, body in seen}
    assert {("2", 6.0)} <= answers <= {("1", 3.0), ("2", 6.0)}


def test_the_registry_dies_and_comes_back(registry, bundles, tmp_path):
    """Ours goes on, restarts from its cache, waits without one, and is ready when MLflow is."""
    name = "outage"
    push(bundles[0], ModelUri(name, alias="champion"), RegistryClient())
    uri, log = f"models:/{name}@champion", tmp_path / "log"
    with serve(registry, uri, tmp_path / "cache", log) as served:
        wait_until(served.is_ready)
        registry.kill()
        wait_until(lambda: "stale_since" in served.get(f"/v2/models/{name}")[1]["metadata"])
        while_serving = served.predict(name)
    try:
        with (
            serve(registry, uri, tmp_path / "cache", log) as cached,
            serve(registry, uri, tmp_path / "empty", log) as empty,
        ):
            wait_until(cached.is_ready)
            from_cache = cached.predict(name), cached.get(f"/v2/models/{name}")[1]["metadata"]
            age = cached.get("/metrics")[1]
            wait_until(lambda: "refused" in json.dumps(empty.get("/v2/health/ready")[1]))
            waiting = [empty.get(f"/v2/{path}")[0] for path in ("health/live", "health/ready")]
            refused = empty.predict(name)
            registry.start()
            wait_until(empty.is_ready)
            recovered = empty.predict(name)
            wait_until(lambda: "stale_since" not in cached.get(f"/v2/models/{name}")[1]["metadata"])
    finally:
        if registry.popen is None:
            registry.start()

    assert (200, "1") == while_serving[:2] == from_cache[0][:2] == recovered[:2]
    assert from_cache[1]["stale_since"].endswith("Z")
    assert "bundleserver_last_poll_age_seconds" in age
    assert [200, 503] == waiting
    assert 503 == refused[0]
    assert "connection refused" in refused[2]["error"]


def test_a_bundle_goes_into_the_registry_and_comes_out_the_same(registry, bundles, tmp_path):
    """What push registers, pull gives back, and MLflow's own tools load and ask it."""
    name = "round-trip"
    pushed = json.loads(command(registry, "push", bundles[1], f"models:/{name}@champion", "--json"))
    target = tmp_path / "models"
    target.mkdir()
    (target / "lost+found").mkdir()  # as a new volume has it
    for _ in range(2):  # an init container may run again
        command(registry, "pull", f"models:/{name}@champion", target)

    assert ("1", ["champion"]) == (pushed["version"], pushed["aliases"])
    assert (bundles[1] / "model.joblib").read_bytes() == (target / "model.joblib").read_bytes()
    request = tmp_path / "request.json"
    request.write_text('{"instances": [[1.0, 2.0]]}')
    answer = json.loads(command(registry, "predict", target, "--input", request))
    assert pytest.approx([6.0]) == answer["predictions"]

    import mlflow.pyfunc
    import pandas as pd

    loaded = mlflow.pyfunc.load_model(f"models:/{name}@champion", suppress_warnings=True)
    assert pytest.approx([6.0]) == loaded.predict(pd.DataFrame([[1.0, 2.0]], columns=["a", "b"]))
    assert pytest.approx([6.0]) == loaded.predict([[1.0, 2.0]])


def test_a_store_pushes_its_versions(registry, bundles):
    """A notebook registers what it has saved, under the store's name or another."""
    from bundleserver import BundleStore
    from bundleserver.errors import StoreError

    store = BundleStore(bundles[0].parent.parent)
    first = store.push("sums", "models:/pushed", version="v1", aliases=["champion"])
    second = store.push("sums", "models:/pushed")

    client = registry.client()
    assert ("1", "2") == (first, second)
    assert "1" == client.get_model_version_by_alias("pushed", "champion").version
    tags = client.get_model_version("pushed", "2").tags
    assert {"bundleserver.version": "v2"} == tags
    with pytest.raises(StoreError, match="has no version 'v9'"):
        store.push("sums", version="v9")
    with pytest.raises(StoreError, match="names a version"):
        store.push("sums", "models:/pushed/3")


def test_serve_without_a_registry_says_which_variable_names_it(tmp_path):
    """A missing address is no outage."""
    environ = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_")}
    done = subprocess.run(
        [sys.executable, "-m", "bundleserver", "--model_uri", "models:/x"],
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE_SECONDS,
        env=environ,
    )

    assert 1 == done.returncode
    assert "--model_uri: requires $MLFLOW_TRACKING_URI" in done.stderr
