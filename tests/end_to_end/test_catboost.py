"""CatBoost models that one process serves, asked over every protocol, equal to the library."""

from __future__ import annotations

import json

import joblib
import pytest
from sklearn.preprocessing import StandardScaler

from bundleserver import BundleStore
from tests.end_to_end.calls import ask_grpc, v2_input
from tests.end_to_end.processes import running
from tests.frameworks.catboost import models
from tests.frameworks.catboost.models import BOTH, CITIES, THREE, X

ROWS = X[:7]


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """Serve bare files, a saved bundle, and a scaler before a model; and keep the models."""
    root = tmp_path_factory.mktemp("catboost")
    scaler = StandardScaler().fit(X)
    fitted = {
        "bare": models.classifier(loss_function="MultiClass").fit(X, THREE),
        "cities": models.of_categories(),
        "saved": models.regressor("RMSEWithUncertainty"),
        "scaled": models.classifier().fit(scaler.transform(X), BOTH),
    }
    for name in ("bare", "cities", "scaled"):
        (root / name).mkdir()
        fitted[name].save_model(str(root / name / "model.cbm"))
    joblib.dump(scaler, root / "scaled" / "scaler.pkl")
    BundleStore(root).save("saved", {"model": fitted["saved"]})
    with running(root) as server:
        for name in fitted:
            server.wait_until_ready(name)
        yield server, {**fitted, "scaler": scaler}


def in_binary(server, model, rows):
    """Ask with raw numbers for raw numbers; return the first output's bytes."""
    raw = rows.astype("<f8").tobytes()
    given = {"name": "input-0", "datatype": "FP64", "shape": [*rows.shape]}
    head = json.dumps(
        {
            "inputs": [{**given, "parameters": {"binary_data_size": len(raw)}}],
            "parameters": {"binary_data_output": True},
        }
    ).encode()
    answer = server.post(
        f"/v2/models/{model}/infer",
        content=head + raw,
        headers={"Inference-Header-Content-Length": str(len(head))},
    )
    assert 200 == answer.status_code, answer.text
    length = int(answer.headers["inference-header-content-length"])
    return answer.content[length:]


@pytest.mark.parametrize("name", ["bare", "saved", "scaled"])
def test_every_protocol_has_the_librarys_answers(served, name):
    """V1, V2 as JSON and in binary, and gRPC answer what the library does, to the bit."""
    server, fitted = served
    rows = fitted["scaler"].transform(ROWS) if name == "scaled" else ROWS
    expected = models.asked(fitted[name], "predict", rows)
    given = v2_input("input-0", "FP64", [*ROWS.shape], ROWS.ravel().tolist())

    assert (
        expected.tolist()
        == server.predict(name, {"instances": ROWS.tolist()}).json()["predictions"]
    )
    (output,) = server.infer(name, given).json()["outputs"]
    assert [*expected.shape] == output["shape"]
    assert expected.ravel().tolist() == output["data"]
    assert expected.tobytes() == in_binary(server, name, ROWS)
    (values,) = ask_grpc(server.grpc, name, given).outputs.values()
    assert expected.ravel().tolist() == values


def test_categories_come_as_rows_objects_and_columns(served):
    """Strings and integers are categories in every protocol; a fraction or null is a 400."""
    server, fitted = served
    table = CITIES[:5]
    expected = models.asked(fitted["cities"], "predict", table).tolist()
    columns = [
        v2_input("size", "FP64", [5], table["size"].tolist()),
        v2_input("city", "BYTES", [5], table["city"].tolist()),
        v2_input("floor", "INT64", [5], table["floor"].tolist()),
    ]

    for rows in (table.to_numpy(dtype=object).tolist(), table.to_dict("records")):
        assert {"predictions": expected} == server.predict("cities", {"instances": rows}).json()
    (output,) = server.infer("cities", *columns).json()["outputs"]
    assert expected == output["data"]
    assert [expected] == [*ask_grpc(server.grpc, "cities", *columns).outputs.values()]
    for bad in (1.5, None):
        answer = server.predict("cities", {"instances": [[0.1, "Bern", bad]]})
        assert 400 == answer.status_code
        assert "expects strings or integers, without gaps" in answer.json()["error"]


def test_a_model_says_its_columns_and_class(served):
    """Metadata name the columns that a request is keyed by, and the class of the library."""
    server, _ = served
    said = json.dumps(server.get("/v2/models/cities").json())

    assert all(name in said for name in ("size", "city", "floor", "CatBoostClassifier"))
