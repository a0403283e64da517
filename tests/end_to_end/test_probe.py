"""READY means that it has answered: what cannot answer never replaces what does."""

from __future__ import annotations

import joblib
import numpy as np
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PowerTransformer

from tests.bundle.warming.odd_estimators import Domain
from tests.end_to_end.processes import command, eventually, running

RNG = np.random.default_rng(23)
X = RNG.normal(size=(80, 4))
ROWS = X[:2].tolist()


def put(root, version, model):
    """Move a version without a manifest into its place at once."""
    staging = root / f".new-{version}"
    staging.mkdir(parents=True)
    joblib.dump(model, staging / "model.joblib")
    staging.rename(root / version)


def good(alpha):
    """Fit what answers."""
    return make_pipeline(PowerTransformer(), Ridge(alpha)).fit(X, X @ [1.0, 2.0, 3.0, 4.0])


def broken():
    """Fit a pipeline, and take away what another version of the library did not write."""
    model = good(1.0)
    del model[0].lambdas_
    return model


def failed(server, version):
    """Wait for a version's failure, and return its reason."""

    def reason():
        said = server.index("sales").get(version, {}).get("reason", "")
        return said if said.startswith("FAILED") else ""

    return eventually(reason, f"{version} fails")


def test_a_version_that_cannot_answer_does_not_replace_one_that_can(tmp_path):
    """The version before goes on, the index says why, and a later one that answers takes over."""
    first, third = good(1.0), good(100.0)
    put(tmp_path, "v1", first)
    with running(tmp_path, "sales", enable_grpc="false") as server:
        server.wait_until_ready("sales", "v1")

        put(tmp_path, "v2", broken())
        reason = failed(server, "v2")
        answer = server.predict("sales", {"instances": ROWS})
        put(tmp_path, "v3", third)
        server.wait_until_ready("sales", "v3")
        later = server.predict("sales", {"instances": ROWS})

    assert "FAILED while WARMING: steps[0] (model.predict) cannot answer made-up inputs" in reason
    assert "'PowerTransformer' object has no attribute 'lambdas_'" in reason
    assert "v1" == answer.headers["x-model-version"]
    np.testing.assert_array_equal(first.predict(X[:2]), answer.json()["predictions"])
    assert "v3" == later.headers["x-model-version"]


def test_warn_keeps_a_version_ready_and_shows_the_reason_everywhere(tmp_path):
    """Index, log, metric and metadata say why it should not be."""
    put(tmp_path, "v1", broken())
    with running(tmp_path, "sales", enable_grpc="false", probe="warn") as server:
        server.wait_until_ready("sales", "v1")
        index = server.index("sales")["v1"]
        metadata = server.get("/v2/models/sales").json()["metadata"]
        metrics = server.get("/metrics").text
        log = server.log

    why = "'PowerTransformer' object has no attribute 'lambdas_'"
    assert "READY" == index["state"]
    assert index["reason"].startswith("READY although its probe failed: ")
    assert why in index["reason"]
    assert metadata["probed"] is False
    assert why in metadata["probe"]
    assert 'bundleserver_version_probed{model="sales",version="v1"} 0.0' in metrics
    assert "bundleserver_version_probe_failure_info{" in metrics
    assert "ready although its probe failed: " in log


def test_a_refused_value_is_no_failure_and_is_told(tmp_path):
    """A model of a narrow domain is READY, answers it, and says that nobody asked it yet."""
    put(tmp_path, "v1", Domain())
    with running(tmp_path, "sales", enable_grpc="false") as server:
        server.wait_until_ready("sales", "v1")
        metadata = server.get("/v2/models/sales").json()["metadata"]
        metrics = server.get("/metrics").text
        answer = server.predict("sales", {"instances": [[20.0, 30.0, 40.0]]})

    assert metadata["probed"] is False
    assert "ages are from 18 to 120 years" in metadata["probe"]
    assert 'bundleserver_version_probed{model="sales",version="v1"} 0.0' in metrics
    assert [90.0] == answer.json()["predictions"]


def test_validate_says_what_the_server_says(tmp_path):
    """A directory is tried before it is published."""
    joblib.dump(broken(), tmp_path / "model.joblib")
    answers = GradientBoostingRegressor(n_estimators=3).fit(X, X[:, 0])
    (tmp_path / "good").mkdir()
    joblib.dump(answers, tmp_path / "good" / "model.joblib")

    refused, passed = command("validate", tmp_path), command("validate", tmp_path / "good")

    assert 1 == refused.code
    assert "has no attribute 'lambdas_'" in refused.out + refused.err
    assert 0 == passed.code


def test_another_probe_policy_is_refused_at_start():
    """The message names the values that there are."""
    ended = command("serve", "--probe", "sometimes")

    assert 0 != ended.code
    assert "enforce" in ended.err
    assert "warn" in ended.err
