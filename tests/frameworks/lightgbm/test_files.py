"""Whose a file is, what is said of a broken one, and what a pickle may do."""

from __future__ import annotations

import pickle
import re

import joblib
import pytest
from sklearn.preprocessing import StandardScaler

from bundleserver import BundleStore
from bundleserver.bundle.inferring import infer_manifest
from bundleserver.bundle.opening import open_bundle
from bundleserver.errors import BundleError, BundleServerError, LoadError, StoreError
from bundleserver.frameworks import LoadContext, facts_of_file, framework_for, framework_of_file
from bundleserver.frameworks.lightgbm import FRAMEWORK, framework
from bundleserver.frameworks.trust import CodeTrust, PicklePolicy
from bundleserver.tensors import NamedTensor
from tests.frameworks.lightgbm.trained import KINDS, X


@pytest.fixture(scope="module")
def booster():
    """Train a booster of four columns without names."""
    return KINDS["binary"]().booster


@pytest.fixture
def text(booster):
    """Its text, as it saves itself."""
    return booster.model_to_string()


BROKEN = {
    "empty": (lambda text: "", "is empty; copy it again"),
    "no model": (lambda text: "numpy==2.0\n", "does not begin with the line 'tree'"),
    "cut in a tree": (lambda text: text[:2000], r"is truncated: it ends in tree \d of 6"),
    "cut in its head": (lambda text: text[:90], "ends before its trees"),
    "of no training": (
        lambda text: re.sub(r"(?s)tree_sizes=.*?end of trees", "tree_sizes=\n\nend of trees", text),
        "has no trees, so it was not trained",
    ),
    "of a later format": (
        lambda text: text.replace("version=v4", "version=v5"),
        "format 'v5' of a later LightGBM; expected v3 or v4",
    ),
    "of an old format": (lambda text: text.replace("version=v4", "version=v2"), "format 'v2'"),
    "with Windows line ends": (
        lambda text: text.replace("\n", "\r\n"),
        "Windows line ends, so that its sizes are wrong; copy it as binary",
    ),
    "without names": (
        lambda text: re.sub("feature_names=.*\n", "", text),
        "has no 'feature_names', or an empty one",
    ),
    "with odd categories": (
        lambda text: re.sub("pandas_categorical:.*", "pandas_categorical:[[1, 1]]", text),
        "categories of pandas that are not lists of different values",
    ),
    "without its end": (lambda text: text.replace("end of trees", ""), "no line 'end of trees'"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_file_is_refused_with_its_name_and_what_to_do(what, text, tmp_path):
    """Nothing of it reaches the library."""
    change, said = BROKEN[what]
    path = tmp_path / "model.lgb"
    path.write_bytes(change(text).encode())

    assert ("lightgbm", "model") == framework_of_file(path)
    with pytest.raises(LoadError, match=f"model.lgb' .*{said}.*again"):
        framework.load(path, LoadContext())


def test_text_is_a_model_by_its_first_line(text, tmp_path):
    """A directory's other text is no model, whatever its suffix says."""
    for name, content, owner in (
        ("model.txt", text, "lightgbm"),
        ("MODEL.TXT", text, "lightgbm"),
        ("windows.txt", text.replace("\n", "\r\n"), "lightgbm"),
        ("model.bst", text, "lightgbm"),
        ("requirements.txt", "lightgbm==4.6.0\n", None),
        ("trees.txt", "trees\n", None),
        ("empty.txt", "", None),
    ):
        (tmp_path / name).write_bytes(content.encode())
        found = framework_of_file(tmp_path / name)
        assert (owner, name) == (found and found[0], name)


def test_a_bst_of_xgboost_is_not_claimed(tmp_path):
    """Its first bytes decide, whichever library wrote it."""
    for start in (b"{L\0\0", b'{"learner"', b"binf", b""):
        (tmp_path / "model.bst").write_bytes(start)
        assert FRAMEWORK.sniff(tmp_path / "model.bst") is None


def test_its_width_is_known_without_opening_it(booster, tmp_path):
    """So a scaler beside it runs before it, and one of another width does not."""
    booster.save_model(tmp_path / "model.txt")
    joblib.dump(StandardScaler().fit(X), tmp_path / "scaler.pkl")

    facts = facts_of_file(tmp_path / "model.txt", "lightgbm", "model")
    steps = [step.component for step in infer_manifest(tmp_path, "m").steps]

    assert ("a LightGBM booster", 4) == (facts.what, facts.takes)
    assert ["scaler", "model"] == steps
    bundle = open_bundle(tmp_path)
    [answer] = bundle.predict({"input-0": NamedTensor("input-0", X)}, {}).values()
    expected = booster.predict(StandardScaler().fit(X).transform(X))
    assert expected.tobytes() == answer.tobytes()
    bundle.close()

    joblib.dump(StandardScaler().fit(X[:, :3]), tmp_path / "scaler.pkl")
    with pytest.raises(BundleServerError, match="3"):
        open_bundle(tmp_path)


def test_a_directory_of_other_text_has_no_model(tmp_path):
    """It is said what it holds."""
    (tmp_path / "notes.txt").write_text("to do\n")

    with pytest.raises(BundleError, match=r"holds only 'notes\.txt'.*\*\.txt"):
        infer_manifest(tmp_path, "m")


def test_a_booster_is_saved_as_text(booster, tmp_path):
    """By the store, by what it is; an estimator goes to scikit-learn's framework."""
    assert "lightgbm" == framework_for(booster)

    BundleStore(tmp_path).save("m", {"model": booster})

    assert (tmp_path / "m" / "v1" / "model.txt").read_bytes().startswith(b"tree\n")


def test_what_is_no_booster_is_not_saved(tmp_path):
    """The message says what it is and what is expected."""
    with pytest.raises(StoreError, match=r"'model' is a .*StandardScaler; expected a lightgbm"):
        framework.save(StandardScaler(), tmp_path, "model")


@pytest.mark.parametrize("policy", PicklePolicy)
def test_a_pickle_opens_as_the_operator_says(policy, booster, tmp_path):
    """Text needs no trust; a pickle of a booster is listed."""
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(booster))
    booster.save_model(tmp_path / "model.txt")
    context = LoadContext(trust=CodeTrust(policy))

    opened = [framework.load(tmp_path / "model.txt", context)]
    if policy is PicklePolicy.DENY:
        with pytest.raises(LoadError, match="pickle"):
            framework.load(tmp_path / "model.pkl", context)
    else:
        opened.append(framework.load(tmp_path / "model.pkl", context))

    for predictor in opened:
        [answer] = predictor.call("predict", [NamedTensor("x", X)], {})
        assert booster.predict(X).tobytes() == answer.tobytes()


def test_another_pickle_is_refused(tmp_path):
    """A manifest may name this framework for any file."""
    (tmp_path / "model.pkl").write_bytes(pickle.dumps({"a": 1}))

    with pytest.raises(LoadError, match=r"has a builtins\.dict; expected a lightgbm\.Booster"):
        framework.load(tmp_path / "model.pkl", LoadContext())


def test_an_unknown_option_is_refused(booster, tmp_path):
    """With the nearest known one."""
    booster.save_model(tmp_path / "model.txt")

    with pytest.raises(LoadError, match=r"options\.colums is not a known option"):
        framework.load(tmp_path / "model.txt", LoadContext(options={"colums": {}}))
