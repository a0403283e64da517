"""Code of a bundle's own over every protocol: classes, modules of two versions, a notebook's."""

from __future__ import annotations

import subprocess
import sys
from textwrap import dedent

import pytest

from tests.bundle.own_code.bundles import write_code, write_manifest, write_scorer
from tests.end_to_end.calls import ask_grpc, v2_input
from tests.end_to_end.processes import command, environment, running

ROWS = [[1.0, 2.0], [3.0, 4.0]]
TENSOR = v2_input("x", "FP64", [2, 2], [1.0, 2.0, 3.0, 4.0])
HANGING = """
class Scorer:
    def predict(self, inputs):
        import threading
        if inputs["x"][0, 0] < 0:
            threading.Event().wait()
        return {"score": inputs["x"][:, 0]}
"""

NOTEBOOK = """
    import sys
    import numpy as np
    from sklearn.base import BaseEstimator, TransformerMixin
    from sklearn.linear_model import LinearRegression
    from sklearn.pipeline import make_pipeline
    from bundleserver import BundleStore

    class Clip(TransformerMixin, BaseEstimator):
        high = 2.5
        def fit(self, X, y=None):
            self.fitted_ = True
            return self
        def transform(self, X):
            return np.minimum(X, type(self).high)

    X = np.arange(12.0).reshape(6, 2) / 4
    model = make_pipeline(Clip(), LinearRegression()).fit(X, X[:, 0])
    BundleStore(sys.argv[1]).save("notebook", {"model": model}, examples=X[:1])
    print(*model.predict(np.array([[1.0, 2.0], [3.0, 4.0]])))
"""

FEATURES = """
from sklearn.base import BaseEstimator, TransformerMixin

POWER = {power}

class Power(TransformerMixin, BaseEstimator):
    def fit(self, X, y=None):
        self.fitted_ = True
        return self
    def transform(self, X):
        from features import POWER
        return X ** POWER
"""

PIPELINE = """
    import sys
    import numpy as np
    from pathlib import Path
    from sklearn.pipeline import make_pipeline
    from sklearn.linear_model import LinearRegression
    from bundleserver import BundleStore

    place = Path(sys.argv[2])
    sys.path.insert(0, str(place))
    from features import Power

    X = np.arange(12.0).reshape(6, 2) / 4
    model = make_pipeline(Power(), LinearRegression()).fit(X, X[:, 0])
    BundleStore(sys.argv[1]).save(
        "pipeline", {"model": model}, code=[place / "features.py"], examples=X[:1]
    )
    print(*model.predict(np.array([[1.0, 2.0], [3.0, 4.0]])))
"""


def run(script, *words):
    """Run a script as a notebook's kernel would, and return the predictions that it prints."""
    ended = subprocess.run(
        [sys.executable, "-c", dedent(script), *map(str, words)],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment(),
    )
    assert 0 == ended.returncode, ended.stderr
    return [float(word) for word in ended.stdout.split()]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Write every kind of bundle with code once."""
    root = tmp_path_factory.mktemp("store")
    write_scorer(root / "scorer/v1", 2, 100)
    write_scorer(root / "scorer/v2", 3, 200)
    hanging = root / "hanging/v1"
    write_manifest(hanging, code=write_code(hanging, {"model.py": HANGING}))
    return root


@pytest.fixture(scope="module")
def expected(root, tmp_path_factory):
    """Save from notebooks, and return what the models predict there."""
    said = {"notebook": run(NOTEBOOK, root)}
    for number in (1, 2):
        place = tmp_path_factory.mktemp("notebook")
        (place / "features.py").write_text(FEATURES.format(power=number))
        said[f"v{number}"] = run(PIPELINE, root, place)
    return said


@pytest.fixture(scope="module")
def server(root, expected):
    """Serve all of them, every version, in one process."""
    (root / "scorer/serving.json").write_text('{"policy": "all"}')
    (root / "pipeline/serving.json").write_text('{"policy": "all"}')
    with running(root) as server:
        for model, versions in {"scorer": 2, "hanging": 1, "notebook": 1, "pipeline": 2}.items():
            for number in range(1, versions + 1):
                server.wait_until_ready(model, f"v{number}")
        yield server


@pytest.mark.parametrize(("version", "scores"), [("v1", [106.0, 114.0]), ("v2", [209.0, 221.0])])
def test_a_class_answers_over_every_protocol(server, version, scores):
    """V1, V2 and gRPC have the same numbers; both versions have modules of the same names."""
    v1 = server.predict("scorer", {"instances": ROWS}, version)
    v2 = server.infer("scorer", TENSOR, version=version)
    over_grpc = ask_grpc(server.grpc, "scorer", TENSOR, version=version)

    assert scores == v1.json()["predictions"]
    assert scores == v2.json()["outputs"][0]["data"]
    assert "score" == v2.json()["outputs"][0]["name"]
    assert {"score": scores} == over_grpc.outputs


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_pipelines_use_the_module_of_their_version(server, expected, version):
    """Two versions of one module answer side by side, as in the notebook."""
    answer = server.predict("pipeline", {"instances": ROWS}, version)

    assert expected[version] == answer.json()["predictions"]
    assert expected["v1"] != expected["v2"]


def test_a_class_of_the_notebook_is_served(server, expected):
    """What was defined in ``__main__`` answers as there; metadata say how it was saved."""
    tensor = v2_input("input-0", "FP64", [2, 2], [1.0, 2.0, 3.0, 4.0])

    assert (
        expected["notebook"]
        == server.predict("notebook", {"instances": ROWS}).json()["predictions"]
    )
    assert expected["notebook"] == server.infer("notebook", tensor).json()["outputs"][0]["data"]
    said = ask_grpc(server.grpc, "notebook", tensor)
    assert [expected["notebook"]] == [*said.outputs.values()]
    assert '"pickled_by_value":["model"]' in server.get("/v2/models/notebook").text.replace(" ", "")


def test_a_class_that_hangs_holds_up_nobody_else(server):
    """Its request ends at the timeout, and other models answer meanwhile."""
    hung = server.post(
        "/v1/models/hanging:predict",
        json={"instances": [[-1.0, 0.0]]},
        headers={"X-Request-Timeout-Seconds": "1"},
    )

    assert 504 == hung.status_code
    assert [106.0, 114.0] == server.predict("scorer", {"instances": ROWS}, "v1").json()[
        "predictions"
    ]


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        ({"bundle_code": "deny"}, "--bundle_code=deny lets no code of a bundle run"),
        ({"pickle_policy": "listed"}, None),
    ],
)
def test_the_operator_decides_what_code_runs(root, expected, flags, reason):
    """``deny`` fails each version with code; under ``listed`` a pickle may name its own code's."""
    with running(root / "pipeline", "pipeline", enable_grpc="false", **flags) as server:
        if reason:
            server.wait_for_reason("pipeline", reason)
        else:
            server.wait_until_ready("pipeline")
            answer = server.predict("pipeline", {"instances": ROWS})
            assert expected["v2"] == answer.json()["predictions"]


def test_a_notebooks_class_needs_every_pickle_to_be_trusted(root, expected):
    """No list can allow code in a pickle."""
    with running(root / "notebook", "n", enable_grpc="false", pickle_policy="listed") as server:
        assert "no list can allow" in server.wait_for_reason("n", "no list can allow")


def test_commands_open_code_as_the_server_does(root, expected):
    """``validate`` and ``predict`` run it, and refuse it where the flag says so."""
    version = root / "pipeline/v1"

    assert 0 == command("validate", version).code
    denied = command("validate", version, "--bundle_code=deny")
    assert 1 == denied.code
    assert "--bundle_code=deny" in denied.out
