"""Directories with an ``MLmodel`` on a volume, served by a process as MLflow answers."""

from __future__ import annotations

import json
import shutil

import pytest
import yaml

from tests.end_to_end.calls import ask_grpc, v2_input
from tests.end_to_end.mlflow_models import (
    ROWS,
    answered_by_mlflow,
    save_all,
    save_with_code,
)
from tests.end_to_end.processes import command, running

pytestmark = pytest.mark.filterwarnings("ignore")

FRAMEWORKS = {
    "skops": "skops",
    "cloudpickle": "sklearn",
    "coded": "pyfunc",
    "statsmodels": "statsmodels",
}
RECORDS = ROWS.to_dict("records")
COLUMNS = [v2_input(name, "FP64", [len(ROWS)], ROWS[name].tolist()) for name in ROWS]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Save one model of each kind."""
    root = tmp_path_factory.mktemp("volume") / "models"
    root.mkdir()
    return save_all(root)


@pytest.fixture(scope="module")
def server(models):
    """Serve the volume."""
    with running(models["skops"].parent) as server:
        for name in models:
            server.wait_until_ready(name)
        yield server


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_directory_answers_as_mlflow_does(models, server, name):
    """Over V1, V2 and gRPC, to the bit, by the framework that the flavour names."""
    expected = answered_by_mlflow(models[name])

    v1 = server.predict(name, {"instances": RECORDS})
    v2 = server.infer(name, *COLUMNS)
    over_grpc = ask_grpc(server.grpc, name, *COLUMNS)
    metadata = server.get(f"/v2/models/{name}").json()["metadata"]

    assert expected == v1.json()["predictions"]
    (output,) = v2.json()["outputs"]
    assert expected == output["data"]
    assert [expected] == list(over_grpc.outputs.values())
    assert FRAMEWORKS[name] == metadata["components"]["model"]["framework"]
    assert "python_function" in metadata["flavours"]


@pytest.mark.parametrize("name", FRAMEWORKS)
@pytest.mark.parametrize(
    "row", [{"a": 1.0}, {"a": "high", "b": 1.0}, {"a": 1.0, "b": {"c": 1.0}}], ids=str
)
def test_what_a_signature_excludes_is_a_400(server, name, row):
    """A missing column, text in a column of numbers, and an object, whatever opens the model."""
    refused = server.predict(name, {"instances": [row]})

    assert 400 == refused.status_code, refused.text


def test_commands_take_a_directory_as_a_server_does(models, tmp_path):
    """inspect, validate, predict; init and publish write what its MLmodel says."""
    copied = shutil.copytree(models["cloudpickle"], tmp_path / "waves")
    request = json.dumps({"instances": RECORDS})
    expected = answered_by_mlflow(copied)

    (shown,) = command("inspect", copied, "--json").document
    validated = command("validate", copied, "--json").document
    answer = command("predict", copied, stdin=request).document
    published = command("publish", copied, tmp_path / "store" / "waves", "--json").document
    from_store = command("predict", published["path"], stdin=request).document
    written = command("init", copied, "--json").document
    from_manifest = command("predict", copied, stdin=request).document

    assert "" == shown["versions"][0]["reason"]
    assert validated["ok"]
    assert [{"predictions": expected}] * 3 == [answer, from_store, from_manifest]
    assert [] == written["guesses"]
    assert {"model.pkl"} == {c["path"] for c in written["manifest"]["components"].values()}
    assert all("sha256" in c for c in written["manifest"]["components"].values())


def test_versions_stand_side_by_side_and_a_bundle_beside_them(models, tmp_path):
    """One with code twice, in two editions of a module, and what is published comes after them."""
    root = tmp_path / "tides"
    root.mkdir()
    save_with_code(root / "1", tmp_path / "one", 2.0)
    save_with_code(root / "2", tmp_path / "two", 4.0)
    expected = {
        label: [factor * row["a"] + row["b"] for row in RECORDS]
        for label, factor in (("1", 2.0), ("2", 4.0))
    }
    with running(root, "tides", version_policy="all") as server:
        for label in expected:
            server.wait_until_ready("tides", label)
        published = command("publish", models["skops"], root, "--allow-breaking", "--json")
        server.wait_until_ready("tides", "3")
        answers = {
            label: server.predict("tides", {"instances": RECORDS}, label).json()["predictions"]
            for label in ("1", "2", "3")
        }
        shown = command("inspect", root, "--json").document

    assert "3" == published.document["version"]
    assert {**expected, "3": answered_by_mlflow(models["skops"])} == answers
    assert ["3", "2", "1"] == [version["version"] for version in shown[0]["versions"]]


def test_a_missing_file_is_named_and_served_once_it_is_there(models, tmp_path):
    """An MLmodel whose files are missing is told, never waited for in silence, and tried again."""
    root = shutil.copytree(models["skops"], tmp_path / "skops")
    (root / "model.skops").rename(tmp_path / "model.skops")
    with running(root, "waves") as server:
        said = server.wait_for_reason("waves", "'model.skops'")
        shutil.copy(tmp_path / "model.skops", root)
        server.wait_until_ready("waves")
        answer = server.predict("waves", {"instances": RECORDS}).json()

    assert f"'{root}/MLmodel' refers to 'model.skops', which is missing" in said
    assert {"predictions": answered_by_mlflow(root)} == answer


def test_a_model_in_the_artifacts_of_a_run_is_served_under_the_name_asked_for(models, tmp_path):
    """``storageUri`` may name a run's artifacts, where MLflow put the model into ``model/``."""
    artifacts = tmp_path / "mnt"
    shutil.copytree(models["cloudpickle"], artifacts / "model")
    (artifacts / "metrics.csv").write_text("rmse\n0.1\n")
    with running(artifacts, "waves") as server:
        server.wait_until_ready("waves")
        answer = server.predict("waves", {"instances": RECORDS}).json()

    assert {"predictions": answered_by_mlflow(models["cloudpickle"])} == answer


def test_a_version_with_its_model_one_level_below_says_so(models, tmp_path):
    """What to do is in the reason."""
    shutil.copytree(models["skops"], tmp_path / "waves" / "1" / "export")
    with running(tmp_path / "waves", "waves") as server:
        said = server.wait_for_reason("waves", "is an MLflow model")

    assert f"'{tmp_path}/waves/1/export' is an MLflow model" in said
    assert f"move its files up to '{tmp_path}/waves/1'" in said


def test_the_flavour_that_a_framework_opens_counts_among_several(models, tmp_path):
    """Others are passed over; without one that is known, nothing is guessed."""
    mixed = shutil.copytree(models["cloudpickle"], tmp_path / "mixed")
    only_others = shutil.copytree(models["cloudpickle"], tmp_path / "others")
    document = yaml.safe_load((mixed / "MLmodel").read_text())
    others = {"spark": {"model_data": "sparkml"}, "crystal": {"data": "ball"}}
    document["flavors"] = {**others, **document["flavors"]}
    (mixed / "MLmodel").write_text(yaml.safe_dump(document))
    (only_others / "MLmodel").write_text(yaml.safe_dump({"flavors": others}))
    request = json.dumps({"instances": RECORDS})

    answer = command("predict", mixed, stdin=request).document
    refused = command("validate", only_others)

    assert {"predictions": answered_by_mlflow(mixed)} == answer
    assert 1 == refused.code
    assert "only unsupported flavours: 'crystal', 'spark'" in refused.out
