"""A model's own files before its first version, and files that nothing opens, in one process."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import httpx
import joblib
import numpy as np
import pytest
from sklearn.linear_model import LinearRegression
from sklearn.preprocessing import StandardScaler

from bundleserver import BundleStore
from bundleserver.tensors.signature import DEFAULT_INPUT
from tests.end_to_end.calls import v2_input
from tests.end_to_end.processes import Threads, command, eventually, running
from tests.end_to_end.versions import configure

ROWS = [[3.0], [10.0]]


def times(factor: float) -> LinearRegression:
    """Fit a model that multiplies by a factor."""
    return LinearRegression(fit_intercept=False).fit([[1.0], [2.0]], [factor, 2 * factor])


def put(directory: Path, factor: float) -> Path:
    """Put a model's file there by one rename, without a manifest."""
    directory.mkdir(exist_ok=True)
    joblib.dump(times(factor), directory / ".new")
    (directory / ".new").replace(directory / "model.joblib")
    return directory


class Asking:
    """Requests that never end, by V1 and V2; every answer is compared with its version's factor."""

    def __init__(self, server, factors):
        self.server, self.factors = server, factors
        self.count, self.wrong = Counter(), []
        self.threads = Threads(self._ask_v1, self._ask_v2)

    def _ask_v1(self):
        with httpx.Client(base_url=self.server.rest, timeout=60) as client:
            while not self.threads.ends.is_set():
                answer = client.post("/v1/models/fraud:predict", json={"instances": ROWS})
                version = answer.headers.get("x-model-version")
                self._note(answer, version, lambda document: document["predictions"])

    def _ask_v2(self):
        rows = v2_input(DEFAULT_INPUT, "FP64", [2, 1], [3.0, 10.0])
        with httpx.Client(base_url=self.server.rest, timeout=60) as client:
            while not self.threads.ends.is_set():
                answer = client.post("/v2/models/fraud/infer", json={"inputs": [rows]})
                version = answer.json().get("model_version")
                self._note(answer, version, lambda document: document["outputs"][0]["data"])

    def _note(self, answer, version, values_of):
        if answer.status_code != 200:
            self.wrong.append((answer.status_code, answer.text))
            return
        values = np.ravel(values_of(answer.json()))
        if not any(
            np.allclose(factor * np.ravel(ROWS), values) for factor in self.factors[version]
        ):
            self.wrong.append((version, answer.text))
        self.count[version] += 1


def metadata(server):
    """Return what the server says of the model."""
    return server.get("/v2/models/fraud").json()


def serves(server, version):
    """Wait until a version is the default."""
    eventually(lambda: metadata(server).get("default_version") == version, f"{version} serves")


def answered(asking, version, more=30):
    """Wait until a version has answered so many further requests."""
    wanted = asking.count[version] + more
    eventually(lambda: asking.wrong or asking.count[version] >= wanted, f"{version} answers")


def run(*words):
    """Run a command that succeeds, and return what it prints as JSON."""
    ended = command(*words)
    assert 0 == ended.code, ended.err
    return ended.document


def test_own_files_are_the_version_before_the_first_that_is_published(tmp_path):
    """Published beside them is v2, they are 1 before it, and no request is lost on the way."""
    root, factors = put(tmp_path / "fraud", 2.0), {"1": [2.0], "v2": [5.0], "v3": [7.0]}
    with running(root, "fraud") as server:
        serves(server, "1")
        asking = Asking(server, factors)
        with asking.threads:
            made = run("publish", put(tmp_path / "new", 5.0), root, "--json")
            serves(server, "v2")
            answered(asking, "v2")
            known, index = metadata(server)["known_versions"], server.index("fraud")
            pinned = run("rollback", root, "--json")
            serves(server, "1")
            answered(asking, "1")
            factors["1"].append(2.5)
            put(root, 2.5)
            eventually(lambda: "1: ready" in server.log.split("v2: ready")[-1], "it is reloaded")
            answered(asking, "1")
            run("promote", root, "latest", "--json")
            serves(server, "v2")
            saved = BundleStore(tmp_path).save("fraud", {"model": times(7.0)})
            serves(server, "v3")
            answered(asking, "v3")
        shown = run("inspect", root, "--json")

    assert [] == asking.wrong
    assert ("v2", str(root / "v2")) == (made["version"], made["path"])
    assert ["v2", "1"] == known
    assert {"v2", "1"} == set(index)
    assert ("1", "v3") == (pinned["default"], str(saved))
    assert ["v3", "v2", "1"] == [row["version"] for row in shown[0]["versions"]]
    assert "1" == run("rollback", root, "--to", "1", "--json")["default"]


def test_serving_json_names_own_files(tmp_path):
    """A split, a label and the policy count them as any version; one that is gone is said."""
    root = put(tmp_path / "fraud", 2.0)
    with running(root, "fraud") as server:
        serves(server, "1")
        run("publish", put(tmp_path / "new", 5.0), root, "--json")
        serves(server, "v2")
        run("promote", root, "1", "--label", "stable", "--json")
        eventually(lambda: server.is_ready("fraud", "stable"), "the label is loaded")
        by_label = server.predict("fraud", {"instances": ROWS}, "stable").json()["predictions"]
        run("split", root, "stable=50", "v2=50", "--json")
        asking = Asking(server, {"1": [2.0], "v2": [5.0]})
        with asking.threads:
            answered(asking, "1")
            answered(asking, "v2")
        configure(root, policy="latest:2")
        eventually(lambda: metadata(server)["versions"] == ["v2", "1"], "both are loaded")
        (root / "model.joblib").unlink()
        eventually(lambda: metadata(server)["known_versions"] == ["v2"], "1 is gone")
        last = server.predict("fraud", {"instances": ROWS}).json()["predictions"]
        refused = command("rollback", root)

    assert [6.0, 20.0] == pytest.approx(by_label)
    assert [] == asking.wrong
    assert [15.0, 50.0] == pytest.approx(last)
    assert "has no earlier sound version" in refused.err


def test_a_bundle_at_the_top_is_followed_by_what_is_published(tmp_path):
    """With a manifest, too, and other files there change nothing."""
    root = put(tmp_path / "fraud", 2.0)
    run("init", root, "--json")
    (root / "README.md").write_text("what this is")
    (root / "MLmodel").write_text("flavors: {}")
    with running(root, "fraud") as server:
        serves(server, "1")
        loads = server.log.count("fraud 1: ready")
        run("publish", put(tmp_path / "new", 5.0), root, "--json")
        serves(server, "v2")
        run("rollback", root, "--json")
        serves(server, "1")
        run("publish", root, tmp_path / "copy", "--json")
        again = server.predict("fraud", {"instances": ROWS}).json()["predictions"]

    assert 1 == loads
    assert [6.0, 20.0] == pytest.approx(again)
    assert not (tmp_path / "copy" / "v1" / "v2").exists()


def test_files_that_nothing_opens_are_failed_until_a_model_comes(tmp_path):
    """The reason names them and what would be taken; a sound upload becomes READY by itself."""
    root = tmp_path / "fraud"
    with running(root, "fraud") as server:
        missing = server.wait_for_reason("fraud", "does not exist yet")
        root.mkdir()
        empty = server.wait_for_reason("fraud", "waiting for 'manifest.json'")
        (root / "model.xyz").write_bytes(b"?")
        failed = server.wait_for_reason("fraud", "FAILED while DISCOVERED")
        (state,) = server.index("fraud").values()
        joblib.dump(StandardScaler().fit([[0.0], [2.0]]), root / "x_scaler.joblib")
        put(root, 4.0)
        server.wait_until_ready("fraud")

    assert "fraud" in missing
    assert str(root) in empty
    assert "'model.xyz'" in failed
    assert "*.joblib" in failed
    assert "UNAVAILABLE" == state["state"]
    assert state["reason"].startswith("FAILED")
    assert json.dumps(state)
