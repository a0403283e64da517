"""A new version is compared with what serves, and clients do not break unless that is wanted."""

from __future__ import annotations

import json
import logging

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from bundleserver import BundleStore
from bundleserver.bundle.opening import open_bundle
from bundleserver.errors import InvalidInput, StoreError
from bundleserver.manifest import MANIFEST_NAME
from bundleserver.tensors import NamedTensor

X = np.random.default_rng(3).normal(size=(40, 4))
Y = (X[:, 0] > 0).astype(int)
TABLE = pd.DataFrame(X, columns=["age", "sum", "days", "risk"])


@pytest.fixture
def store(tmp_path):
    """Return an empty store."""
    return BundleStore(tmp_path / "store")


def bare(directory, model, name="model.joblib"):
    """Write a notebook's file into a directory."""
    directory.mkdir(parents=True, exist_ok=True)
    joblib.dump(model, directory / name)
    return directory


def classifier(width=4):
    """Fit a model that takes so many columns."""
    return LogisticRegression().fit(X[:, :width], Y)


class Marks:
    """Opening its pickle leaves a mark."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.mark.parametrize("examples", [None, X[:2], TABLE[:2].to_numpy()])
def test_a_version_without_inputs_takes_any_name_as_its_files_alone_do(store, examples):
    """What save and publish write is no stricter than a bare directory; what declares inputs is."""
    store.save("loans", classifier(), examples=examples)
    inputs = [{"name": "row", "datatype": "FP64", "shape": [-1, 4]}]
    store.save("strict", classifier(), inputs=inputs)
    tensor = NamedTensor("anything", X[:1].astype(np.float32))

    loose = open_bundle(store.path("loans", "v1"))
    assert [spec.name for spec in loose.signature.inputs] == list(
        loose.signature.validate_tensors([tensor], "it")
    )
    with pytest.raises(InvalidInput, match="unknown input 'anything'"):
        open_bundle(store.path("strict", "v1")).signature.validate_tensors([tensor], "it")


def test_save_and_publish_refuse_what_breaks_clients_of_what_serves(store, tmp_path):
    """Both sides are named, nothing appears, and whoever wants it says so."""
    store.save("loans", classifier())
    narrow = bare(tmp_path / "narrow", classifier(2))

    for publish in (
        lambda **more: store.save("loans", classifier(2), **more),
        lambda **more: store.publish(narrow, "loans", **more),
    ):
        with pytest.raises(StoreError, match=r"version v1.* is .*4.*--allow-breaking"):
            publish()
    assert ["v1"] == [*map(str, store.versions("loans"))]

    assert "v2" == str(store.publish(narrow, "loans", allow_breaking=True))


def test_the_version_that_serves_is_compared_and_not_the_newest(store):
    """A default in serving.json counts, and each version of a traffic split."""
    store.save("loans", classifier())
    store.save("loans", LinearRegression().fit(X, Y), allow_breaking=True)
    store.promote("loans", "v1")

    store.save("loans", classifier())
    store.split("loans", {"v1": 50, "v2": 50})
    with pytest.raises(StoreError, match=r"clients of 'loans' version v2.* FP64 .*INT64"):
        store.save("loans", classifier())


def test_bare_files_are_compared_before_the_first_version(store, tmp_path):
    """The files that serve from the model's directory have clients too."""
    bare(store.path("loans"), classifier())

    with pytest.raises(StoreError, match="clients of 'loans' version 1, which serves"):
        store.save("loans", LinearRegression().fit(X, Y))

    assert "v2" == str(store.save("loans", classifier()))


def test_nothing_of_what_serves_runs_while_it_is_compared(store, tmp_path, caplog):
    """A pickle that is not on the list is not opened; the new version is published, with a word."""
    bare(store.path("loans"), Marks(str(tmp_path / "mark")))

    with caplog.at_level(logging.WARNING):
        version = store.save("loans", classifier())

    assert ("v2", False) == (str(version), (tmp_path / "mark").exists())
    assert "'loans' version 1 serves, and was not compared" in caplog.text


def test_what_was_recorded_counts_only_for_the_manifest_that_it_was_recorded_for(store, caplog):
    """A version that was published is not opened again, unless its manifest was edited."""
    version = store.path("loans", store.save("loans", classifier()))
    path = version / MANIFEST_NAME
    manifest = json.loads(path.read_text())
    file = version / manifest["components"]["model"]["path"]
    file.write_bytes(b"x" * file.stat().st_size)

    with pytest.raises(StoreError, match="clients of 'loans' version v1"):
        store.save("loans", classifier(2))
    manifest["inputs"] = [{"name": "row", "shape": [-1, 2]}]
    path.write_text(json.dumps(manifest))
    store.save("loans", classifier(2))

    assert "'loans' version v1 serves, and was not compared" in caplog.text


def test_a_new_optional_column_is_no_break(store):
    """A column that has no effect may come, and one that is needed may not."""

    def fitted(columns, used):
        split = make_column_transformer((StandardScaler(), used))
        return make_pipeline(split, LogisticRegression()).fit(TABLE[columns], Y)

    store.save("loans", fitted(["age", "sum"], ["age", "sum"]))
    with pytest.raises(StoreError, match=r"without column names have 'age', 'sum' in version v1"):
        store.save("loans", fitted(["age", "days", "sum"], ["age", "sum"]))
    store.save("loans", fitted(["age", "sum", "days"], ["age", "sum"]))
    bundles = [open_bundle(store.path("loans", version)) for version in ("v1", "v2")]
    rows = X[:5, :2].tolist()
    old, new = (b.predict(b.signature.validate_rows(rows, "it"), {}) for b in bundles)
    assert [v.tolist() for v in old.values()] == [v.tolist() for v in new.values()]
    with pytest.raises(StoreError, match=r"requires columns of input .*: 'days'"):
        store.save("loans", fitted(["age", "sum", "days"], ["age", "days"]))


def test_a_further_output_is_told_and_a_method_that_changed_is_refused(store, caplog):
    """V1 answers become objects, which is said; another method's numbers would be read wrongly."""

    def steps(*methods):
        return [
            {"component": "model", "method": m, "inputs": ["x"], "outputs": [o]} for m, o in methods
        ]

    store.save("loans", classifier(), steps=steps(("predict_proba", "p")))
    with caplog.at_level(logging.WARNING):
        store.save("loans", classifier(), steps=steps(("predict_proba", "p"), ("predict", "y")))
    assert "its V1 predictions are objects" in caplog.text

    with pytest.raises(StoreError, match=r"made by 'predict_proba' .* by 'predict_log_proba'"):
        store.save("loans", classifier(), steps=steps(("predict_log_proba", "p"), ("predict", "y")))


def votes(*members):
    """Make an ensemble's configuration."""
    return {"methods": [*members], "weights": [0.7, 0.2, 0.1][: len(members)], "threshold": 0.6}


def test_what_an_ensembles_options_make_of_its_votes_belongs_to_its_interface(store):
    """Votes of another encoding, or in another order, would be read wrongly."""
    store.save("panel", votes("Isolation Forest", "Prophet"))
    options = {"model": {"votes": "sklearn"}}
    with pytest.raises(StoreError, match=r"'label': 1 for an anomaly .* and -1 for an anomaly"):
        store.save("panel", votes("Isolation Forest", "Prophet"), options=options)
    with pytest.raises(StoreError, match="column names have 'isolation_forest', 'prophet' in"):
        store.save("panel", votes("Prophet", "Isolation Forest"))

    store.save("panel", votes("Isolation Forest", "Prophet"))


def test_the_labels_of_a_threshold_belong_to_the_interface(store):
    """The same number means something else then; another threshold does not."""

    def above(limit, labels):
        params = {"above": limit, "labels": labels}
        score = {"component": "model", "method": "decision_function", "inputs": ["x"]}
        step = {"op": "threshold", "inputs": ["s"], "outputs": ["flag"], "params": params}
        return [{**score, "outputs": ["s"]}, step]

    store.save("loans", classifier(), steps=above(0.5, [0, 1]))
    store.save("loans", classifier(), steps=above(0.25, [0, 1]))
    with pytest.raises(StoreError, match="output 'flag': 1 above the threshold and 0 below in"):
        store.save("loans", classifier(), steps=above(0.25, [1, 0]))


def test_what_is_not_known_of_a_program_is_told(store, caplog):
    """TorchScript does not say its width; one line says what was not compared."""
    torch = pytest.importorskip("torch")
    for width in (3, 5):
        with caplog.at_level(logging.WARNING):
            store.save("net", torch.jit.script(torch.nn.Linear(width, 1)))

    assert 1 == caplog.text.count("not compared in full with")
    assert "not known: the shape of input 'input'" in caplog.text
