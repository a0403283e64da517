"""XGBoost's models over every protocol: the answers of the library in this process, to the bit."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

import joblib
import numpy as np
import pytest
import xgboost
from sklearn.preprocessing import StandardScaler

from bundleserver.store import BundleStore
from tests.end_to_end.calls import ask_grpc, v2_input
from tests.end_to_end.processes import ServerProcess, running
from tests.frameworks.xgboost.trained import (
    BOOSTERS,
    CLASSES,
    FRAME,
    NAMES,
    NUMBERS,
    X,
    asked,
    categories,
    of_recorded_categories,
    train,
)

ROWS = np.vstack([np.random.default_rng(3).normal(size=(5, 4)), X[:2]])
ROWS[2, 1] = np.nan


@dataclass(frozen=True)
class Served:
    """A server, and for each model what the library answers for ``ROWS``."""

    server: ServerProcess
    expected: dict[str, np.ndarray]


@pytest.fixture(scope="module")
def served(tmp_path_factory) -> Iterator[Served]:
    """Serve a saved booster, bare files of both formats, a chain and a file of an estimator."""
    root = tmp_path_factory.mktemp("boosters")
    named, classes = BOOSTERS["named"](), BOOSTERS["softprob"]()
    BundleStore(root).save("saved", {"model": named})
    scaler = StandardScaler().fit(X)
    chained = train(NUMBERS, rows=scaler.transform(X))
    estimator = xgboost.XGBClassifier(n_estimators=3).fit(X, CLASSES)
    for name, model in {"bare": classes, "chain": chained, "labels": estimator}.items():
        (root / name).mkdir()
        model.save_model(root / name / ("model.json" if name == "labels" else "model.ubj"))
    joblib.dump(scaler, root / "chain" / "scaler.pkl")
    (root / "bare" / "metrics.json").write_text('{"auc": 0.9}')
    expected = {
        "saved": asked(named, ROWS),
        "bare": asked(classes, ROWS),
        "chain": asked(chained, scaler.transform(ROWS)),
        "labels": estimator.predict(ROWS),
    }
    with running(root) as server:
        for name in expected:
            server.wait_until_ready(name)
        yield Served(server, expected)


MODELS = ["saved", "bare", "chain", "labels"]


def bits(values: object, like: np.ndarray) -> bytes:
    """Return the bits of numbers that came as text."""
    return np.array(values, like.dtype).reshape(like.shape).tobytes()


def nulls(rows: np.ndarray) -> list[list[float | None]]:
    """Write rows as JSON has them."""
    return [[None if np.isnan(value) else float(value) for value in row] for row in rows]


@pytest.mark.parametrize("model", MODELS)
def test_v1_has_the_bits_of_the_library(served, model):
    """Rows as lists, null for a missing number."""
    wanted = served.expected[model]
    answer = served.server.predict(model, {"instances": nulls(ROWS)}).json()

    assert wanted.tobytes() == bits(answer["predictions"], wanted)


def test_v1_takes_rows_by_the_names_of_training(served):
    """Names with spaces, commas and letters of any alphabet are columns as any other."""
    rows = [dict(zip(NAMES, row, strict=True)) for row in nulls(ROWS)]
    answer = served.server.predict("saved", {"instances": rows}).json()

    assert served.expected["saved"].tobytes() == bits(
        answer["predictions"], served.expected["saved"]
    )


@pytest.mark.parametrize("model", MODELS)
def test_v2_has_the_bits_of_the_library(served, model):
    """A tensor as JSON."""
    wanted = served.expected[model]
    given = v2_input("input-0", "FP64", [*ROWS.shape], nulls(ROWS))
    (output,) = served.server.infer(model, given).json()["outputs"]

    assert [*wanted.shape] == output["shape"]
    assert ("INT64" if model == "labels" else "FP32") == output["datatype"]
    assert wanted.tobytes() == bits(output["data"], wanted)


@pytest.mark.parametrize("model", MODELS)
def test_v2_binary_has_the_bits_of_the_library(served, model):
    """A tensor as bytes, in and out."""
    wanted = served.expected[model]
    tensor = {
        "name": "input-0",
        "datatype": "FP64",
        "shape": [*ROWS.shape],
        "parameters": {"binary_data_size": ROWS.nbytes},
    }
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    answer = served.server.post(
        f"/v2/models/{model}/infer",
        content=head + ROWS.tobytes(),
        headers={"Inference-Header-Content-Length": str(len(head))},
    )
    length = int(answer.headers["Inference-Header-Content-Length"])

    assert wanted.tobytes() == answer.content[length:]


@pytest.mark.parametrize("model", MODELS)
def test_grpc_has_the_bits_of_the_library(served, model):
    """A tensor in a message."""
    wanted = served.expected[model]
    given = v2_input("input-0", "FP64", [*ROWS.shape], ROWS.tolist())
    said = ask_grpc(served.server.grpc, model, given)

    assert "OK" == said.code, said.details
    (output,) = said.outputs.values()
    assert wanted.tobytes() == bits(output, wanted)


@of_recorded_categories
def test_categories_and_their_columns_are_described(tmp_path):
    """Metadata name a column's datatype, and each comes as an input of its own or in a row."""
    booster = categories()
    booster.save_model(tmp_path / "model.json")
    wanted = asked(booster, FRAME.iloc[:4])
    columns = {
        "load": ("FP64", FRAME["load"].tolist()[:4]),
        "region": ("BYTES", FRAME["region"].tolist()[:4]),
        "rack": ("INT64", FRAME["rack"].tolist()[:4]),
    }
    with running(tmp_path, model_name="racks") as server:
        server.wait_until_ready("racks")
        described = server.get("/v2/models/racks").json()["inputs"]
        inputs = [v2_input(name, kind, [4], data) for name, (kind, data) in columns.items()]
        (output,) = server.infer("racks", *inputs).json()["outputs"]
        wrong = server.infer(
            "racks", *inputs[:1], v2_input("region", "BYTES", [4], ["?"] * 4), inputs[2]
        )

    assert {name: kind for name, (kind, _) in columns.items()} == {
        one["name"]: one["datatype"] for one in described
    }
    assert wanted.tobytes() == bits(output["data"], wanted)
    assert 400 == wrong.status_code
    assert "the category '?', which Booster was not trained with" in wrong.text
