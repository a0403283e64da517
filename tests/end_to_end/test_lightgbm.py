"""Boosters of LightGBM in a server of its own: each protocol gives what the library does."""

from __future__ import annotations

import json

import joblib
import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler

from bundleserver import BundleStore
from tests.end_to_end.calls import ask_grpc, v2_input
from tests.end_to_end.processes import running
from tests.frameworks.lightgbm.trained import KINDS, TABLE, X, train

ROWS = np.nan_to_num(X[:20])


@pytest.fixture(scope="module")
def boosters():
    """Two of numbers, and one of categories."""
    return {kind: KINDS[kind]().booster for kind in ("binary", "multiclass", "categories")}


@pytest.fixture(scope="module")
def scaled():
    """Fit a scaler, and train a booster on what it gives."""
    scaler = StandardScaler().fit(X)
    booster, _ = train(X[:, 0], scaler.transform(X), objective="regression")
    return scaler, booster


@pytest.fixture(scope="module")
def server(boosters, scaled, tmp_path_factory):
    """Serve directories as they lie on a volume, and a saved bundle."""
    root = tmp_path_factory.mktemp("volume")
    scaler, booster = scaled
    for kind, suffix in (("binary", "txt"), ("multiclass", "bst"), ("categories", "lgb")):
        (root / kind).mkdir()
        boosters[kind].save_model(root / kind / f"model.{suffix}")
    (root / "binary" / "requirements.txt").write_text("lightgbm==4.6.0\n")
    (root / "chain").mkdir()
    joblib.dump(scaler, root / "chain" / "scaler.pkl")
    booster.save_model(root / "chain" / "model.txt")
    BundleStore(root).save("saved", {"model": boosters["binary"]})
    with running(root) as process:
        for name in ("binary", "multiclass", "categories", "chain", "saved"):
            process.wait_until_ready(name)
        yield process


def binary(server, model, rows):
    """Ask with V2's binary extension; returns the bytes of the answer's tensor."""
    raw = rows.tobytes()
    item = {"name": "x", "datatype": "FP64", "shape": list(rows.shape)}
    inputs = [{**item, "parameters": {"binary_data_size": len(raw)}}]
    head = json.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}}).encode()
    answer = server.post(
        f"/v2/models/{model}/infer",
        content=head + raw,
        headers={"Inference-Header-Content-Length": str(len(head))},
    )
    return answer.content[int(answer.headers["inference-header-content-length"]) :]


@pytest.mark.parametrize("model", ["binary", "multiclass", "chain", "saved"])
def test_each_protocol_gives_the_librarys_bits(model, boosters, scaled, server):
    """V1, V2 as JSON and as raw bytes, and gRPC."""
    scaler, booster = scaled
    if model == "chain":
        expected = booster.predict(scaler.transform(ROWS))
    else:
        expected = boosters["binary" if model == "saved" else model].predict(ROWS)
    tensor = v2_input("x", "FP64", [20, 4], ROWS.ravel().tolist())

    v1 = server.predict(model, {"instances": ROWS.tolist()}).json()
    [v2] = server.infer(model, tensor).json()["outputs"]
    over_grpc = ask_grpc(server.grpc, model, tensor)

    assert expected.tolist() == v1["predictions"]
    assert expected.ravel().tolist() == v2["data"]
    assert (list(expected.shape), "FP64") == (v2["shape"], v2["datatype"])
    assert expected.tobytes() == binary(server, model, ROWS)
    assert {"output-0": expected.ravel().tolist()} == over_grpc.outputs


def test_columns_come_by_name_and_categories_as_their_values(boosters, server):
    """Names as trained, with spaces; a gap is null."""
    table = TABLE.head(20)
    expected = boosters["categories"].predict(table).tolist()
    rows = json.loads(table.to_json(orient="records"))
    columns = {
        "net amount": ("FP64", [row["net amount"] for row in rows]),
        "city": ("BYTES", [row["city"] or "" for row in rows]),
        "level": ("INT64", [row["level"] for row in rows]),
        "is_new": ("BOOL", [row["is_new"] for row in rows]),
        "count": ("INT64", [row["count"] for row in rows]),
    }
    tensors = [v2_input(name, kind, [20], data) for name, (kind, data) in columns.items()]

    assert expected == server.predict("categories", {"instances": rows}).json()["predictions"]
    assert expected == server.infer("categories", *tensors).json()["outputs"][0]["data"]
    assert {"output-0": expected} == ask_grpc(server.grpc, "categories", *tensors).outputs


def test_metadata_describe_the_booster(server):
    """Its columns, with their datatypes, and what it was trained for."""
    described = server.get("/v2/models/categories").json()

    inputs = {given["name"]: given["datatype"] for given in described["inputs"]}
    assert {"net_amount": "FP64", "city": "BYTES", "is_new": "BOOL"}.items() <= inputs.items()
    assert "regression" in json.dumps(described)
