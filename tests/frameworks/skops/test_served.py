"""Files of skops behind a server: bare, as a plain dump of two, and saved; V1, V2 and gRPC."""

from __future__ import annotations

import numpy as np
import pytest
import skops.io
from sklearn.ensemble import RandomForestClassifier
from sklearn.preprocessing import StandardScaler

from bundleserver.store import BundleStore
from tests.end_to_end.calls import ask_grpc, v2_input
from tests.end_to_end.processes import running
from tests.frameworks.skops.models import X, Y

SCALER = StandardScaler().fit(X)
MODEL = RandomForestClassifier(5, random_state=0).fit(SCALER.transform(X), Y)
ROWS = np.random.default_rng(5).normal(size=(20, 3))


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Serve one model in three forms, under the policy that opens no pickle."""
    root = tmp_path_factory.mktemp("models")
    for name in ("bare", "dump"):
        (root / name).mkdir()
    skops.io.dump(MODEL, root / "bare" / "model.skops")
    skops.io.dump(SCALER, root / "dump" / "scaler.skops")
    skops.io.dump(MODEL, root / "dump" / "classifier.skops")
    components = {"scaler": SCALER, "model": MODEL}
    BundleStore(root).save(
        "saved", components, examples=X[:3], frameworks=dict.fromkeys(components, "skops")
    )
    with running(root, pickle_policy="deny") as started:
        for name in ("bare", "dump", "saved"):
            started.wait_until_ready(name)
        yield started


@pytest.mark.parametrize("name", ["bare", "dump", "saved"])
def test_answers_are_the_librarys(server, name):
    """Every protocol answers as scikit-learn in process does."""
    scaled = SCALER.transform(ROWS)
    expected = MODEL.predict(ROWS if name == "bare" else scaled).tolist()
    tensor = v2_input("x", "FP64", [20, 3], ROWS.ravel().tolist())

    v1 = server.predict(name, {"instances": ROWS.tolist()})
    v2 = server.infer(name, tensor)

    assert expected == v1.json()["predictions"]
    assert expected == v2.json()["outputs"][0]["data"]
    assert [expected] == [*ask_grpc(server.grpc, name, tensor).outputs.values()]
