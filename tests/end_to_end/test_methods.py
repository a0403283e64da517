"""Methods asked for by name over the wire, as clients of MLServer and KServe do."""

from __future__ import annotations

import json

import joblib
import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression
from sklearn.preprocessing import StandardScaler

from bundleserver import BundleStore
from tests.end_to_end.calls import ask_grpc, v2_input
from tests.end_to_end.processes import running

RNG = np.random.default_rng(31)
X = RNG.normal(size=(80, 4))
Y = np.where(X[:, 0] > 0.5, 2, (X[:, 1] > 0).astype(int))
SCALER = StandardScaler().fit(X)
FOREST = RandomForestClassifier(9, random_state=1).fit(SCALER.transform(X), Y)
LINE = LinearRegression().fit(X, Y)
ROWS = X[:3]
SCALED = SCALER.transform(ROWS)
INPUT = v2_input("input-0", "FP64", [3, 4], ROWS.ravel().tolist())


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Write a bare chain, a bare regression, and a saved version with both methods."""
    root = tmp_path_factory.mktemp("models")
    for name, files in {
        "bare": {"scaler": SCALER, "model": FOREST},
        "line": {"model": LINE},
    }.items():
        (root / name).mkdir()
        for stem, fitted in files.items():
            joblib.dump(fitted, root / name / f"{stem}.joblib")
    chain = {"scaler": SCALER, "model": FOREST}
    BundleStore(root).save("saved", chain, methods=["predict", "predict_proba"], examples=X[:2])
    return root


@pytest.fixture(scope="module")
def server(root):
    """Serve them."""
    with running(root) as server:
        for name in ("bare", "line", "saved"):
            server.wait_until_ready(name)
        yield server


def asked(*names):
    """Ask for outputs, in JSON."""
    return {"outputs": [{"name": name} for name in names]}


@pytest.mark.parametrize("model", ["bare", "saved"])
def test_v2_answers_with_the_methods_that_are_asked(server, model):
    """By MLServer's names, in the request's order, and nothing else."""
    both = server.infer(model, INPUT, **asked("predict_proba", "predict")).json()["outputs"]
    alone = server.infer(model, INPUT, **asked("predict_proba")).json()["outputs"]

    assert ["predict_proba", "predict"] == [output["name"] for output in both]
    assert [[3, 3], [3]] == [output["shape"] for output in both]
    assert FOREST.predict_proba(SCALED).ravel().tolist() == both[0]["data"]
    assert FOREST.predict(SCALED).tolist() == both[1]["data"]
    assert [both[0]] == alone


@pytest.mark.parametrize("model", ["bare", "saved"])
def test_grpc_answers_the_same(server, model):
    """Raw or typed, the bits are the library's."""
    outputs = asked("predict_proba", "predict")["outputs"]
    said = ask_grpc(server.grpc, model, INPUT, outputs=outputs)

    assert "OK" == said.code, said.details
    assert ["predict_proba", "predict"] == [*said.outputs]
    assert FOREST.predict_proba(SCALED).ravel().tolist() == said.outputs["predict_proba"]
    assert FOREST.predict(SCALED).tolist() == said.outputs["predict"]


def test_a_method_may_be_asked_for_in_binary(server):
    """Of two outputs one comes as bytes and one as JSON."""
    outputs = [{"name": "predict_proba", "parameters": {"binary_data": True}}, {"name": "predict"}]
    answer = server.infer("bare", INPUT, outputs=outputs)
    head = int(answer.headers["inference-header-content-length"])
    described = json.loads(answer.content[:head])["outputs"]

    assert answer.content[head:] == FOREST.predict_proba(SCALED).tobytes()
    assert FOREST.predict(SCALED).tolist() == described[1]["data"]


def test_what_the_model_lacks_is_a_400_with_what_it_has(server):
    """REST and gRPC say the same."""
    rest = server.infer("line", INPUT, **asked("predict_proba"))
    grpc = ask_grpc(server.grpc, "line", INPUT, **asked("predict_proba"))

    said = (
        "unknown output 'predict_proba'; 'line' version 1 has the outputs 'output-0' and the "
        "methods 'predict'"
    )
    assert (400, said) == (rest.status_code, rest.json()["error"])
    assert ("INVALID_ARGUMENT", said) == (grpc.code, grpc.details)


def test_a_saved_version_answers_v1_with_both(server):
    """One object for each row; metadata say what may be asked for."""
    answer = server.predict("saved", {"instances": ROWS.tolist()}).json()["predictions"]
    metadata = server.get("/v2/models/saved").json()

    assert [
        {"predict": label, "predict_proba": odds}
        for label, odds in zip(
            FOREST.predict(SCALED).tolist(), FOREST.predict_proba(SCALED).tolist(), strict=True
        )
    ] == answer
    assert ["predict", "predict_proba"] == [output["name"] for output in metadata["outputs"]]
    assert {"predict", "predict_proba", "apply"} <= {*metadata["metadata"]["methods"]}


def test_predict_proba_of_kserves_server_and_mlservers_variables(root, monkeypatch):
    """V1 answers are lists of probabilities; what only MLServer reads is named once."""
    monkeypatch.setenv("PREDICT_PROBA", "True")
    monkeypatch.setenv("MLSERVER_HTTP_PORT", "8080")
    monkeypatch.setenv("MLSERVER_MODEL_IMPLEMENTATION", "mlserver_sklearn.SKLearnModel")
    with running(root) as server:
        for name in ("bare", "line", "saved"):
            server.wait_until_ready(name)
        body = {"instances": ROWS.tolist()}
        odds = server.predict("bare", body).json()["predictions"]
        sums = server.predict("line", body).json()["predictions"]
        saved = server.predict("saved", body).json()["predictions"]
        v2 = server.infer("bare", INPUT).json()["outputs"]
        label = server.infer("bare", INPUT, **asked("predict")).json()["outputs"]
        log = server.log

    assert FOREST.predict_proba(SCALED).tolist() == odds
    assert LINE.predict(ROWS).tolist() == sums
    assert {"predict", "predict_proba"} == {*saved[0]}
    assert ("output-0", [3, 3]) == (v2[0]["name"], v2[0]["shape"])
    assert FOREST.predict(SCALED).tolist() == label[0]["data"]
    assert 1 == log.count("MLSERVER_HTTP_PORT, MLSERVER_MODEL_IMPLEMENTATION")
