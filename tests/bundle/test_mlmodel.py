"""Directories with an ``MLmodel``: what it says counts, and what it says is not trusted."""

from __future__ import annotations

import json
import os
import sys
from contextlib import closing
from pathlib import Path

import joblib
import mlflow.pyfunc
import mlflow.sklearn
import numpy as np
import pandas as pd
import pytest
from mlflow.models import infer_signature
from sklearn.linear_model import LinearRegression

from bundleserver.bundle.inferring import ignored_files, infer_manifest, probable_manifest
from bundleserver.bundle.inferring.mlmodel_files import missing_files, named_files
from bundleserver.bundle.opening import manifest_of, open_bundle, verify
from bundleserver.bundle.trust import Trust
from bundleserver.errors import BundleError, BundleServerError, IntegrityError, LoadError
from bundleserver.frameworks.trust import CodeTrust, PicklePolicy
from bundleserver.manifest import Manifest
from bundleserver.store.writing import with_digests, write_manifest

TABLE = pd.DataFrame({"a": [1.0, 2.0, 3.0], "b": [0.0, 1.0, 0.0]})
MODEL = LinearRegression().fit(TABLE, [1.0, 2.0, 4.0])
NATIVE = "flavors:\n  sklearn:\n    pickled_model: model.pkl\n"

pytestmark = pytest.mark.filterwarnings("ignore")


def saved(path: Path, form: str = "skops", **settings: object) -> Path:
    """Save a regression as MLflow does."""
    settings.setdefault("signature", infer_signature(TABLE, MODEL.predict(TABLE)))
    mlflow.sklearn.save_model(
        MODEL, str(path), serialization_format=form, pip_requirements=[], **settings
    )
    return path


def written(path: Path, text: str = NATIVE, **files: object) -> Path:
    """Write an MLmodel by hand, and pickles of that stem beside it."""
    path.mkdir(exist_ok=True)
    (path / "MLmodel").write_text(text)
    for name, held in files.items():
        joblib.dump(held, path / f"{name}.pkl")
    return path


def answers(path: Path, trust: CodeTrust | None = None, **settings: object) -> list[float]:
    """Open a directory as a server does, and ask it."""
    settings["trust"] = Trust(trust or CodeTrust())
    with closing(open_bundle(path, probe="off", **settings)) as bundle:
        rows = bundle.signature.validate_rows([{"a": 1.5, "b": 0.5}], bundle.identity)
        return bundle.predict(rows, {})["output-0"].tolist()


EXPECTED = MODEL.predict(pd.DataFrame({"a": [1.5], "b": [0.5]})).tolist()


def test_an_mlmodel_counts_before_the_files_beside_it(tmp_path):
    """What else may be a model there is none, as the file says which is."""
    path = written(tmp_path / "m", model=MODEL, scaler=LinearRegression(), other=MODEL)

    manifest = infer_manifest(path, "m")

    assert {"model": "model.pkl"} == {n: c.path for n, c in manifest.components.items()}
    assert manifest.inferred
    assert manifest == probable_manifest(path, "m").manifest
    assert {} == ignored_files(path)


def test_a_manifest_counts_before_an_mlmodel(tmp_path):
    """A bundle that is registered has both."""
    path = written(tmp_path / "m", model=MODEL, other=MODEL)
    chosen = probable_manifest(path, "m", only=["other.pkl"]).manifest
    write_manifest(path, with_digests(path, chosen))

    manifest = manifest_of(path, "m")

    assert {"other.pkl"} == {c.path for c in manifest.components.values()}
    assert not manifest.inferred


def test_what_an_mlmodel_says_is_in_the_manifest(tmp_path):
    """Requirements, when it was trained, its flavours; a name that none may have is left out."""
    path = saved(tmp_path / "m")
    (path / "requirements.txt").write_text(
        "mlflow==1.0\nscikit-learn==1.0\nnumpy>=1\npandas==2.*\n"
    )

    manifest = infer_manifest(path, "not a/name")

    assert manifest.name is None
    assert {"scikit-learn": "1.0"} == manifest.requirements.packages
    assert ["python_function", "sklearn"] == manifest.metadata["flavours"]
    assert str(manifest.metadata["trained_at"]).endswith("Z")
    assert manifest.components == Manifest.from_json(manifest.to_json(), "m").components


@pytest.mark.parametrize("form", ["skops", "cloudpickle"])
@pytest.mark.parametrize("policy", [PicklePolicy.ANY, PicklePolicy.LISTED])
def test_policies_open_what_they_open_of_a_registry(tmp_path, form, policy):
    """The file that MLflow 3 writes, and the one that it wrote before."""
    trust = CodeTrust(policy, bundle_code=policy is PicklePolicy.ANY)

    assert EXPECTED == answers(saved(tmp_path / "m", form), trust)


def test_policies_refuse_what_they_refuse_of_a_registry(tmp_path, monkeypatch):
    """Code without leave, and pickles where there may be none."""
    (tmp_path / "own_code.py").write_text("X = 1\n")
    coded = saved(tmp_path / "c", "skops", code_paths=[str(tmp_path / "own_code.py")])
    pickled = saved(tmp_path / "p", "cloudpickle")

    with pytest.raises(LoadError, match="has the code 'code'"):
        answers(coded, CodeTrust(bundle_code=False))
    with pytest.raises(LoadError, match="--pickle_policy=deny"):
        answers(coded, CodeTrust(PicklePolicy.DENY))
    with pytest.raises(LoadError, match="--pickle_policy=deny"):
        answers(pickled, CodeTrust(PicklePolicy.DENY))
    with pytest.raises(BundleError, match="bundleserver init"):
        open_bundle(pickled, trust=Trust(require_manifest=True))


BROKEN = {
    "nothing": ("", "has no 'flavors'"),
    "a list": ("[1, 2]", "has no 'flavors'"),
    "flavours in a list": ("flavors: [a]", "has no 'flavors'"),
    "no flavour": ("flavors: {}", "unsupported flavours: none"),
    "a tag": ("flavors: {a: !!python/object:os.system {}}", "cannot be read"),
    "no YAML": ("\t:", "cannot be read"),
    "bytes": ("flavors: '\x00'", "cannot be read"),
    "much": ("flavors: {a: [" + "x," * 200_000 + "]}", "more than 100000 values"),
    "deep": ("[" * 500, "nested deeper than 64"),
    "a path out": (NATIVE.replace("model.pkl", "../../etc/passwd"), "not in its directory"),
    "an absolute path": (NATIVE.replace("model.pkl", "/etc/passwd"), "not in its directory"),
    "a backslash": (NATIVE.replace("model.pkl", "..\\model.pkl"), "not in its directory"),
    "a long path": (NATIVE.replace("model.pkl", "x" * 300), "not in its directory"),
    "half a character": (NATIVE.replace("model.pkl", '"\\ud800.pkl"'), "MLmodel"),
    "a missing file": (NATIVE.replace("model.pkl", "away.pkl"), "'away.pkl', which is missing"),
    "a directory": (NATIVE.replace("model.pkl", "."), "MLmodel"),
    "a missing model of pyfunc": (
        "flavors: {python_function: {loader_module: m, data: away, code: code}}",
        "'away', 'code', which are missing",
    ),
    "a lost manifest": (
        "flavors: {python_function: {loader_module: bundleserver.mlflow_pyfunc}}",
        "has no manifest.json",
    ),
    "a lost manifest by a path": (
        "flavors: {python_function: {loader_module: bundleserver.mlflow_pyfunc, data: ./}}",
        "has no manifest.json",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_mlmodel_is_refused_with_a_sentence(tmp_path, case):
    """Nothing is opened, and the file is named."""
    text, said = BROKEN[case]
    path = written(tmp_path / "m", text, model=MODEL)

    assert set(missing_files(path)) <= {"away.pkl", "away", "code", "\ud800.pkl"}
    with pytest.raises(BundleServerError, match=r"MLmodel") as refused:
        open_bundle(path)

    assert said in str(refused.value)


def test_what_is_no_file_is_refused(tmp_path):
    """A pipe is not waited for, a link to itself not followed; a directory is no MLmodel."""
    for name in ("pipe", "loop", "directory"):
        (tmp_path / name).mkdir()
    os.mkfifo(tmp_path / "pipe" / "MLmodel")
    (tmp_path / "loop" / "MLmodel").symlink_to("MLmodel")
    (tmp_path / "directory" / "MLmodel").mkdir()
    joblib.dump(MODEL, tmp_path / "directory" / "model.pkl")

    for name in ("pipe", "loop"):
        with pytest.raises(BundleError, match="MLmodel' cannot be read"):
            manifest_of(tmp_path / name, "m")
        assert () == named_files(tmp_path / name)
    assert "sklearn" == manifest_of(tmp_path / "directory", "m").components["model"].framework


@pytest.mark.parametrize("inside", ["data/model.pkl", ".hidden/model.pkl", "data/deep/model.pkl"])
def test_a_link_out_of_the_directory_is_refused_wherever_it_lies(tmp_path, inside):
    """Also where only the directory that somebody named may have links."""
    joblib.dump(MODEL, tmp_path / "elsewhere.pkl")
    path = written(tmp_path / "m", NATIVE.replace("model.pkl", inside))
    (path / inside).parent.mkdir(parents=True)
    (path / inside).symlink_to(tmp_path / "elsewhere.pkl")

    for lead_anywhere in (False, True):
        with pytest.raises(IntegrityError, match="outside of the version's directory"):
            verify(path, manifest_of(path, "m"), links_lead_anywhere=lead_anywhere)


def test_a_hidden_directory_that_leads_out_is_refused_for_pyfunc_too(tmp_path):
    """MLflow would open whatever is there."""
    (tmp_path / "elsewhere").mkdir()
    text = "flavors: {python_function: {loader_module: mlflow.sklearn, data: .x/data}}"
    path = written(tmp_path / "m", text)
    (path / ".x").mkdir()
    (path / ".x" / "data").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(IntegrityError, match=r"\.x/data: is a link to"):
        open_bundle(path)


def test_a_directory_of_links_is_opened_where_links_are_trusted(tmp_path):
    """As KServe lays out a volume: every entry is a link, also the model's code."""
    (tmp_path / "own_code.py").write_text("X = 1\n")
    path = saved(tmp_path / "real", "skops", code_paths=[str(tmp_path / "own_code.py")])
    linked = tmp_path / "mnt"
    linked.mkdir()
    for entry in path.iterdir():
        (linked / entry.name).symlink_to(entry)

    assert EXPECTED == answers(linked, links_lead_anywhere=True)
    with pytest.raises(IntegrityError, match="outside of the version's directory"):
        answers(linked)


def test_a_model_one_level_below_is_named(tmp_path):
    """Whoever names the directory above reads what to do."""
    written(tmp_path / "model", model=MODEL)

    with pytest.raises(BundleError, match=r"model' is an MLflow model: name that directory"):
        manifest_of(tmp_path, "m")


def test_the_manifest_that_is_written_opens_the_same(tmp_path):
    """With digests, and without asking the MLmodel again."""
    path = saved(tmp_path / "m", "cloudpickle")
    before = answers(path)
    manifest = with_digests(path, probable_manifest(path, "m").manifest)
    write_manifest(path, manifest)
    (path / "MLmodel").unlink()

    assert before == answers(path) == EXPECTED
    assert manifest.components["model"].sha256
    assert json.loads((path / "manifest.json").read_text())["metadata"]["flavours"]


def test_a_row_that_a_signature_excludes_is_refused(tmp_path):
    """By the framework's own component, and by MLflow."""
    for form in ("skops", "cloudpickle"):
        with closing(open_bundle(saved(tmp_path / form, form), probe="off")) as bundle:
            for row in ({"a": 1.0}, {"a": "x", "b": 1.0}):
                with pytest.raises(BundleServerError):
                    bundle.predict(bundle.signature.validate_rows([row], "m"), {})


def test_a_model_without_a_signature_takes_rows(tmp_path):
    """As any file of its framework does."""
    for form in ("skops", "cloudpickle"):
        path = saved(tmp_path / form, form, signature=False)
        with closing(open_bundle(path, probe="off")) as bundle:
            rows = bundle.signature.validate_rows([[1.5, 0.5]], "m")
            assert EXPECTED == bundle.predict(rows, {})["output-0"].tolist()


def test_a_file_in_a_directory_of_the_model_is_opened(tmp_path):
    """As torch's flavour has it, with the answers of MLflow."""
    import mlflow.pytorch
    import torch

    example = np.ones((2, 2), dtype="float32")
    path = tmp_path / "m"
    mlflow.pytorch.save_model(
        torch.nn.Linear(2, 1),
        str(path),
        pip_requirements=[],
        input_example=example,
        serialization_format="pt2",
    )
    expected = mlflow.pyfunc.load_model(str(path)).predict(example).ravel().tolist()

    with closing(open_bundle(path)) as bundle:
        rows = bundle.signature.validate_rows(example.tolist(), "m")
        assert expected == bundle.predict(rows, {})["output-0"].ravel().tolist()
        assert ("data/model.pt2", "torch") == (
            bundle.manifest.components["model"].path,
            bundle.manifest.components["model"].framework,
        )


def test_code_with_the_name_of_an_installed_module_is_refused_where_lists_trust_names(tmp_path):
    """Elsewhere it is opened, and once that is done everybody has the installed one again."""
    (tmp_path / "json.py").write_text("loads = None\n")
    path = saved(tmp_path / "m", "cloudpickle", code_paths=[str(tmp_path / "json.py")])

    assert EXPECTED == answers(path)
    assert json.loads("[1]") == [1]
    assert json is sys.modules["json"]
    with pytest.raises(LoadError, match="'json', which have the names of installed ones"):
        answers(path, CodeTrust(PicklePolicy.LISTED))


@pytest.mark.parametrize(
    ("signature", "why"),
    [
        ("[1]", "it is not an object"),
        ("{inputs: not json}", "it has no JSON under 'inputs'"),
        ("{inputs: [1]}", "it has no text under 'inputs'"),
        ("{inputs: '[1]'}", "it has no array of objects under 'inputs'"),
        ("{inputs: '[]', outputs: '{'}", "it has no JSON under 'outputs'"),
        ("{params: '3'}", "it has no array of objects under 'params'"),
    ],
)
def test_a_signature_that_mlflow_cannot_read_is_refused(tmp_path, signature, why):
    """What it enforces is not known, so that no request can be checked."""
    path = written(tmp_path / "m", f"{NATIVE}signature: {signature}\n", model=MODEL)

    with pytest.raises(BundleError, match=f"has a signature that MLflow cannot read: {why}"):
        infer_manifest(path, "m")
