"""Models of each set of libraries are served with these, and say with which they were saved.

``make test`` and ``make test-lowest`` run this, each with one set, so that both open both.
"""

from __future__ import annotations

import json
from importlib import metadata
from types import FunctionType

import cloudpickle
import numpy as np
import pytest
from packaging.version import Version
from typer.testing import CliRunner

from bundleserver import __version__
from bundleserver.bundle.inferring import infer_manifest
from bundleserver.bundle.libraries.recorded import Recorded, recorded_in
from bundleserver.bundle.libraries.sets import CURRENT, LibrarySet, library_sets, set_for
from bundleserver.bundle.opening import open_bundle
from bundleserver.bundle.trust import Trust
from bundleserver.cli import app
from bundleserver.errors import LoadError
from bundleserver.frameworks.trust import CodeTrust, PicklePolicy
from bundleserver.tensors import NamedTensor
from tests.end_to_end.processes import running
from tests.library_sets import make
from tests.library_sets.save import ROWS, SAVED, STEPS

SETS = ("current", "lowest")
ANSWERS = {name: json.loads((SAVED / f"{name}.json").read_text()) for name in SETS}
MODELS = [(name, model) for name in SETS for model in ANSWERS[name]["answers"]]
MADE_BY = {"regression": "statsmodels", "series": "statsmodels"}


def directory_of(name, model):
    """Return a model's directory, or that of its version."""
    root = SAVED / name / model
    return root / "v1" if model == "bundle" else root


def is_other(name, library):
    """Ask whether a library of a set is another one than the installed one."""
    return ANSWERS[name]["libraries"][library] != metadata.version(library)


def is_newer(name):
    """Ask whether a set is newer than what is installed."""
    return Version(ANSWERS[name]["libraries"]["scikit-learn"]) > Version(
        metadata.version("scikit-learn")
    )


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("policy", [PicklePolicy.ANY, PicklePolicy.LISTED])
@pytest.mark.parametrize(("name", "model"), MODELS)
def test_a_model_of_either_set_answers_as_it_did(name, model, policy):
    """Other versions of the libraries answer what those answered that a model was saved with."""
    try:
        bundle = open_bundle(directory_of(name, model), trust=Trust(CodeTrust(policy)))
    except LoadError as error:
        # Older libraries cannot open all that newer ones write, which must be said.
        said = str(error)
        assert is_newer(name)
        assert any(words in said for words in ("install the version that wrote", "saved with"))
        return
    if model == "series":
        answer = bundle.predict({"horizon": NamedTensor("horizon", np.array([STEPS]))}, {})["mean"]
    else:
        answer = bundle.predict(bundle.signature.validate_rows(ROWS, "x"), {})
        (answer,) = answer.values()

    np.testing.assert_allclose(answer, ANSWERS[name]["answers"][model], rtol=1e-6, atol=1e-9)
    found = {one.name: one.saved for one in bundle.mismatches}
    if model not in MADE_BY:
        saved = ANSWERS[name]["libraries"]["scikit-learn"]
        assert (saved if is_other(name, "scikit-learn") else None) == found.get("scikit-learn")
    bundle.close()


def test_a_server_tells_of_each_model_of_the_other_set():
    """The index has a reason for what was saved with other libraries, and none for the rest."""
    with running(SAVED / "lowest") as server:
        for model in ANSWERS["lowest"]["answers"]:
            server.wait_until_ready(model)
        index = server.client.post("/v2/repository/index", json={}).json()
    reasons = {entry["name"]: entry["reason"] for entry in index}

    expected = ANSWERS["lowest"]["libraries"]["scikit-learn"]
    for model in ("chain", "forest", "histograms", "skops"):
        told = f"READY, saved with scikit-learn {expected} and opened with"
        assert reasons[model].startswith(told if is_other("lowest", "scikit-learn") else "")
    assert is_other("lowest", "numpy") == ("numpy 1.26.0" in reasons["bundle"])


@pytest.mark.parametrize(("name", "model"), MODELS)
def test_the_set_that_a_model_needs_is_found(name, model):
    """What is recorded has no difference from the set that it was saved with."""
    directory = directory_of(name, model)
    recorded = recorded_in(directory, infer_manifest(directory, "m"))

    needed = set_for(recorded)

    if model in MADE_BY:
        assert (None, {}) == (needed, recorded.versions)  # nothing in the file tells
    else:
        assert name == needed.name
        assert () == needed.differences(recorded)


def test_inspect_names_the_image(tmp_path):
    """A line for each version: what it was saved with, its set, and the ServingRuntime's line."""
    asked = CliRunner().invoke(app, ["inspect", "--environment", str(SAVED / "lowest" / "bundle")])
    as_json = CliRunner().invoke(
        app, ["inspect", "--environment", "--json", str(SAVED / "current" / "bundle")]
    )

    assert 0 == asked.exit_code == as_json.exit_code
    assert f"image: bundleserver-lowest:{__version__}" in asked.output
    assert "scikit-learn 1.6.0" in asked.output
    (document,) = json.loads(as_json.output)
    (version,) = document["versions"]
    assert (CURRENT, f"bundleserver:{__version__}") == (version["set"], version["image"])
    assert [] == version["sets"]["current"]
    assert {"name": "numpy", "saved": "2.4.6", "has": "1.26.0"} in version["sets"]["lowest"]


def test_inspect_says_why_a_version_cannot_be_read(tmp_path):
    """A directory that is no bundle has a reason in place of a set."""
    (tmp_path / "manifest.json").write_text("{}")
    asked = CliRunner().invoke(app, ["inspect", "--environment", "--json", str(tmp_path)])

    (document,) = json.loads(asked.output)
    (version,) = document["versions"]
    assert version["set"] is None
    assert "manifest.json" in version["reason"]


def test_environment_needs_a_directory():
    """A server tells in its index; only files are compared with sets."""
    asked = CliRunner().invoke(app, ["inspect", "--environment", "--url", "http://localhost:1"])

    assert 2 == asked.exit_code
    assert "--environment expects a directory" in asked.output


def test_environment_and_pickles_are_two_questions():
    """One of them would go without an answer."""
    asked = CliRunner().invoke(app, ["inspect", "--environment", "--pickles", str(SAVED)])

    assert 2 == asked.exit_code
    assert "expected either --pickles or --environment" in asked.output


def write_bundle(directory, model, **requirements):
    """Write a bundle of a model by value, and what it requires."""
    (directory / "model.pkl").write_bytes(cloudpickle.dumps(model))
    component = {"framework": "sklearn", "path": "model.pkl"}
    document = {
        "format": "bundle/v1",
        "components": {"m": component},
        "requirements": requirements,
    }
    (directory / "manifest.json").write_text(json.dumps(document))
    return str(directory)


def test_packages_that_no_image_has_are_told(tmp_path):
    """Each is named with the line that adds it; what images have besides their sets is not."""
    packages = {"churn-models": "1.2", "psutil": "5.0", "numpy": "2.4.6"}
    place = write_bundle(tmp_path, None, python="3.11", packages=packages)

    asked = CliRunner().invoke(app, ["inspect", "--environment", place])
    as_json = CliRunner().invoke(app, ["inspect", "--environment", "--json", place])

    line = "RUN pip install churn-models==1.2"
    assert f"churn-models 1.2 ({line})" in asked.output
    (version,) = json.loads(as_json.output)[0]["versions"]
    assert ({"churn-models": ["1.2"]}, line) == (version["in_no_set"], version["dockerfile"])
    assert CURRENT == version["set"]


@pytest.mark.parametrize(("python", "name"), [("3.12", None), ("3.11", CURRENT)])
def test_code_of_a_python_that_no_set_has_needs_another_image(tmp_path, python, name):
    """Bytecode runs in its own minor version alone, whatever Python this command has."""
    of_notebook = FunctionType((lambda x: x).__code__, {"__name__": "__main__"})
    place = write_bundle(tmp_path, of_notebook, python=python, packages={"numpy": "2.4.6"})

    asked = CliRunner().invoke(app, ["inspect", "--environment", "--json", place])

    (version,) = json.loads(asked.output)[0]["versions"]
    assert name == version["set"]
    assert ("no set has Python 3.12" in version["reason"]) == (name is None)
    table = CliRunner().invoke(app, ["inspect", "--environment", place])
    assert ("no set has Python 3.12" in table.output) == (name is None)


OLD = LibrarySet("old", {"numpy": "1.26.0", "xgboost": "2.1.4", "python": "3.11"})


@pytest.mark.parametrize(
    ("recorded", "differences"),
    [
        ({"numpy": ("1.26.0",), "mine": ("1",)}, []),
        ({"numpy": ("1.26.0+local",), "python": ("3.11.9",)}, []),
        ({"python": ("3.12",)}, ["python 3.11 (saved with 3.12)"]),
        ({"xgboost-cpu": ("2.1.4",)}, []),
        ({"numpy": ("1.26.0", "2.0")}, ["numpy 1.26.0 (saved with 2.0)"]),
        ({"numpy": ("unknown",)}, ["numpy 1.26.0 (saved with unknown)"]),
    ],
)
def test_a_set_is_compared_with_what_was_recorded(recorded, differences):
    """Builds are no differences, Python counts by its minor version, others' packages not."""
    assert differences == [str(one) for one in OLD.differences(Recorded(recorded))]


def test_the_nearest_set_is_taken_where_none_is_the_same():
    """Another patch is nearer than another minor version."""
    nearest = {"scikit-learn": ("1.9.0",), "numpy": ("2.4.6",)}

    assert CURRENT == set_for(Recorded(nearest)).name
    assert "lowest" == set_for(Recorded({"scikit-learn": ("1.6.9",)})).name
    assert set_for(Recorded({"mine": ("1",)})) is None


@pytest.mark.parametrize("one", library_sets(), ids=lambda one: one.name)
def test_the_packages_sets_are_those_of_the_constraints(one):
    """What ``inspect`` compares with is what the images are built with."""
    path = make.sets.SETS / f"{one.name}.txt"

    assert [*make.lines_of(one.name)] == path.read_text().splitlines()
    assert {*make.CONSTRAINTS} == {each.name for each in library_sets()}


def test_the_saved_models_are_small():
    """They are part of every clone."""
    assert 300_000 > sum(path.stat().st_size for path in SAVED.rglob("*") if path.is_file())
