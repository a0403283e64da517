"""Two versions behind one address, as the README tells it: real processes, files and requests."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

from bundleserver import BundleStore
from tests.end_to_end.processes import DEADLINE_SECONDS, command, eventually, running

X = np.random.default_rng(7).normal(size=(50, 3))
REQUEST = {"instances": X[:2].tolist()}


@pytest.fixture
def store(tmp_path):
    """Save two versions of a model, the second of which answers 0.5 more."""
    store = BundleStore(tmp_path / "models")
    for offset in (0.0, 0.5):
        save(store, offset)
    return store


def save(store, offset):
    """Save one more version."""
    return store.save("fraud", {"model": LinearRegression().fit(X, X[:, 0] + offset)})


def answers(server, count=40, prefix="user"):
    """Return the versions that so many callers get."""
    found = []
    for number in range(count):
        headers = {"X-Routing-Key": f"{prefix}-{number}"}
        answer = server.post("/v1/models/fraud:predict", json=REQUEST, headers=headers)
        assert 200 == answer.status_code, answer.text
        found.append(answer.headers["x-model-version"])
    return found


def traffic(server):
    """Return what the metadata says of the traffic."""
    return server.get("/v2/models/fraud").json().get("traffic", {})


def ask_until(server, stopping, failures):
    """Ask until told to stop, and note every answer that is none."""
    with httpx.Client(base_url=server.rest, timeout=DEADLINE_SECONDS) as client:
        number = 0
        while not stopping.is_set():
            number += 1
            headers = {"X-Routing-Key": str(number % 30)}
            answer = client.post("/v1/models/fraud:predict", json=REQUEST, headers=headers)
            if answer.status_code != 200:
                failures.append(answer.text)


def test_a_split_moves_while_versions_come_go_and_fail_and_no_request_is_lost(store):
    """Split, sticky, a new version, a broken one and a rollback, under load, over real files."""
    model = store.root / "fraud"
    failures, stopping = [], threading.Event()
    command("promote", model, "v1")
    with running(store.root, "fraud") as server, ThreadPoolExecutor(2) as pool:
        server.wait_until_ready("fraud")
        for _ in range(2):
            pool.submit(ask_until, server, stopping, failures)
        try:
            assert {"v1"} == set(answers(server))
            assert 0 == command("split", model, "v1=50", "v2=50").code
            eventually(lambda: "shares" in traffic(server), "the split is in effect")
            split = answers(server)
            assert {"v1", "v2"} == set(split)
            assert split == answers(server)
            version = save(store, 1.0)
            command("split", model, "v1=50", "v2=30", f"{version}=20")
            eventually(lambda: "v3" in answers(server), "the third version answers")
            broken = model / "v2" / "manifest.json"
            broken.write_text(broken.read_text().replace('"sha256": "', '"sha256": "0'))
            server.wait_for_line("fraud v2: failed")
            command("rollback", model, "--to", "v1")
            eventually(lambda: not traffic(server), "the split is over")
            assert {"v1"} == set(answers(server))
        finally:
            stopping.set()

    assert [] == failures


def test_a_wrong_serving_json_is_told_and_the_last_good_one_goes_on(store):
    """Weights that are wrong show in index and inspect, and nobody is rerouted."""
    config = store.root / "fraud" / "serving.json"
    config.write_text('{"default": "v1", "traffic": {"v1": 50, "v2": 50}}')
    with running(store.root, "fraud") as server:
        server.wait_until_ready("fraud")
        eventually(lambda: "shares" in traffic(server), "the split is in effect")
        before = answers(server)

        config.write_text('{"default": "v1", "traffic": {"v1": -1, "canary": 10}}')
        eventually(lambda: "serving.json" in server.index("fraud")["v1"]["reason"], "it is told")
        said = server.index("fraud")["v1"]["reason"]

        assert "traffic.v1: is -1" in said
        assert "refers to 'canary', which is neither a version nor a label" in said
        assert before == answers(server)


def test_a_canary_is_compared_promoted_and_remembered(store):
    """It walks its steps by itself; a restart goes on where it was; inspect shows it."""
    config = {
        "default": "v1",
        "shadow": ["v2"],
        "canary": {"version": "v2", "steps": [50, 100], "interval_seconds": 0, "min_requests": 10},
    }
    (store.root / "fraud" / "serving.json").write_text(json.dumps(config))
    with running(store.root, "fraud") as server:
        server.wait_until_ready("fraud")
        eventually(lambda: traffic(server).get("canary", {}).get("percent") == 50, "it begins")

        def walk():
            answers(server, 20)
            return traffic(server)["canary"]["state"] == "promoted"

        eventually(walk, "the canary is promoted")
        metrics = server.get("/metrics").text
        shown = command("inspect", "--url", server.rest)

    assert 'bundleserver_canary_state{model="fraud",state="promoted",version="v2"} 1.0' in metrics
    assert 'bundleserver_shadow_mean_absolute_difference{model="fraud"' in metrics
    assert "canary v2 promoted at 100 %" in shown.out
    with running(store.root, "fraud") as server:
        server.wait_until_ready("fraud")
        eventually(lambda: traffic(server).get("canary", {}).get("state") == "promoted", "kept")
        assert {"v2"} == set(answers(server))
