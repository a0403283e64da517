"""The methods of a model: chosen at save, asked for as outputs, and the default one."""

from __future__ import annotations

import json
import threading

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.preprocessing import StandardScaler

from bundleserver.bundle.opening import open_bundle
from bundleserver.errors import InvalidInput, ManifestError, StoreError, WarmUpError
from bundleserver.manifest import MANIFEST_NAME
from bundleserver.store import BundleStore
from bundleserver.tensors import NamedTensor
from tests.store.test_breaking import bare, votes

RNG = np.random.default_rng(8)
X = RNG.normal(size=(80, 4))
Y = (X[:, 0] + X[:, 1] > 0).astype(int)
SCALER = StandardScaler().fit(X)
FOREST = RandomForestClassifier(8, random_state=0).fit(SCALER.transform(X), Y)
BOTH = ["predict", "predict_proba"]


def opened(directory, **how):
    """Open and warm up a directory."""
    return open_bundle(directory, model="forest", **how)


def ask(bundle, *asked, rows=X[:5]):
    """Ask a bundle for some outputs."""
    view = bundle.answering(asked) if asked else bundle
    return view.predict(
        view.signature.validate_tensors((NamedTensor("x", rows),), view.identity), {}
    )


def same(expected, answer):
    """Compare outputs by name, to the bit."""
    assert [*expected] == [*answer]
    for name, values in expected.items():
        assert values.dtype == answer[name].dtype
        assert values.tobytes() == answer[name].tobytes()


def chain(tmp_path):
    """Write a scaler and a forest as a notebook does."""
    bare(tmp_path / "chain", SCALER, "scaler.pkl")
    return bare(tmp_path / "chain", FOREST, "model.pkl")


def of_manifest(tmp_path, **manifest):
    """Write the same with a manifest."""
    directory = chain(tmp_path)
    components = {
        name: {"framework": "sklearn", "path": f"{name}.pkl"} for name in ("scaler", "model")
    }
    document = {"format": "bundle/v1", "components": components, **manifest}
    (directory / MANIFEST_NAME).write_text(json.dumps(document))
    return directory


SCALE = {"component": "scaler", "method": "transform", "inputs": ["x"], "outputs": ["scaled"]}
LABEL = {"component": "model", "method": "predict", "inputs": ["scaled"], "outputs": ["label"]}


@pytest.mark.parametrize("manifest", [None, {}, {"steps": [SCALE, LABEL]}])
def test_a_method_of_the_model_is_an_output_when_it_is_asked_for(tmp_path, manifest):
    """A chain answers with the last component's method, by its name, with the library's bits."""
    directory = chain(tmp_path) if manifest is None else of_manifest(tmp_path, **manifest)
    bundle = opened(directory)
    scaled = SCALER.transform(X[:5])
    (own,) = ask(bundle)

    same({"predict_proba": FOREST.predict_proba(scaled)}, ask(bundle, "predict_proba"))
    same({"predict": FOREST.predict(scaled)}, ask(bundle, "predict"))
    same(
        {"predict_proba": FOREST.predict_proba(scaled), own: FOREST.predict(scaled)},
        ask(bundle, "predict_proba", own),
    )


def test_only_what_is_asked_runs(tmp_path):
    """A version with both outputs calls one method for a request that asks for one."""
    store = BundleStore(tmp_path)
    store.save("forest", {"scaler": SCALER, "model": FOREST}, methods=BOTH)
    bundle = opened(store.path("forest", "v1"))

    def calls(*asked):
        return [step.method for step in bundle.answering(asked)._plan.steps]

    assert ["transform", "predict_proba"] == calls("predict_proba")
    assert ["transform", "predict"] == calls("predict")
    assert ["transform", "apply"] == calls("apply")
    assert bundle is bundle.answering(BOTH)
    assert bundle.answering(["predict"]) is bundle.answering(["predict"])
    assert bundle.answering(["predict"]).placement is bundle.placement


def test_both_methods_are_outputs_when_they_are_saved(tmp_path):
    """``methods`` writes steps whose outputs are named after them, and examples of all."""
    store = BundleStore(tmp_path)
    store.save("forest", {"scaler": SCALER, "model": FOREST}, methods=BOTH, examples=X[:3])
    directory = store.path("forest", "v1")
    written = json.loads((directory / MANIFEST_NAME).read_text())
    bundle = opened(directory)
    scaled = SCALER.transform(X[:5])

    same({"predict": FOREST.predict(scaled), "predict_proba": FOREST.predict_proba(scaled)},
         ask(bundle))  # fmt: skip
    assert [("predict", "INT64", (-1,)), ("predict_proba", "FP64", (-1, 2))] == [
        (spec.name, spec.datatype, spec.shape) for spec in bundle.probe.signature.outputs
    ]
    assert ["predict", "predict_proba"] == [*written["examples"][0]["outputs"]]
    assert bundle.signature.lenient


def test_metadata_lists_the_methods(tmp_path):
    """Clients see what they may ask for."""
    bundle = opened(bare(tmp_path / "one", FOREST))

    assert ["predict", "predict_proba", "predict_log_proba", "apply"] == (
        bundle.metadata()["methods"]
    )


@pytest.mark.parametrize(
    ("model", "methods", "said"),
    [
        (FOREST, ["predict_probas"], r"methods has 'predict_probas'; .* did you mean 'predict_pr"),
        (LinearRegression().fit(X, Y), BOTH, "methods has 'predict_proba'; component 'model' has"),
        (FOREST, "predict", "expected names in an array"),
        (FOREST, ["predict", "predict"], "methods has 'predict' twice"),
    ],
)
def test_methods_that_the_model_lacks_are_not_saved(tmp_path, model, methods, said):
    """The sentence has the methods that there are; nothing is published."""
    store = BundleStore(tmp_path)
    with pytest.raises(StoreError, match=said):
        store.save("m", model, methods=methods)

    assert () == store.versions("m")


def test_methods_stand_in_the_place_of_steps(tmp_path):
    """Both would say the same thing twice; outputs must be among the methods."""
    store = BundleStore(tmp_path)
    with pytest.raises(StoreError, match="methods and steps cannot both be given"):
        store.save("m", FOREST, methods=BOTH, steps=[LABEL])
    with pytest.raises(ManifestError, match="label"):
        store.save("m", FOREST, methods=BOTH, outputs=[{"name": "label"}])
    with pytest.raises(StoreError, match=r"methods has 'predict', which makes 'label', 'score'; "):
        store.save("m", votes("A", "B"), methods=["predict"])


def test_an_unknown_output_is_told_with_outputs_and_methods(tmp_path):
    """Nothing is run for it where the outputs are known before."""
    bundle = opened(chain(tmp_path))
    known = "'forest' version 1 has the outputs 'output-0' and the methods 'predict', 'predict_pr"
    with pytest.raises(InvalidInput, match=f"unknown output 'odds'; {known}"):
        bundle.answering(["odds", "predict_proba"])


def test_no_method_is_offered_where_it_would_not_be_the_bundles_answer(tmp_path):
    """What an operation makes of a score is no method of the component before it."""
    above = {"op": "threshold", "inputs": ["label"], "outputs": ["best"], "params": {"above": 0.5}}
    bundle = opened(of_manifest(tmp_path, steps=[SCALE, LABEL, above]))

    assert () == bundle.methods.names
    with pytest.raises(InvalidInput, match=r"has the outputs 'best'$"):
        bundle.answering(["predict_proba"])


def test_where_added_calls_run_is_measured_once(tmp_path):
    """They run in the thread pool until their own traits and cost are known."""
    bundle = opened(bare(tmp_path / "one", LogisticRegression().fit(X, Y)))
    view = bundle.answering(["predict_proba"])
    before = view.placement.runs
    view.measure_calls()
    placement = view.placement
    view.measure_calls()

    assert ("threads", "inline") == (before, placement.runs)
    assert placement is view.placement
    assert placement is not bundle.placement


def test_a_clusters_distances_are_its_transform(tmp_path):
    """Any method of the model that takes what the default takes may be asked for."""
    model = KMeans(3, n_init=1, random_state=0).fit(X)
    bundle = opened(bare(tmp_path / "one", model))

    same({"transform": model.transform(X[:5])}, ask(bundle, "transform"))


@pytest.mark.parametrize("has_manifest", [False, True])
def test_probabilities_are_the_answer_if_the_operator_says_so(tmp_path, has_manifest):
    """Under the name that KServe's server gives to its only output."""
    directory = of_manifest(tmp_path) if has_manifest else chain(tmp_path)
    bundle = opened(directory, predict_proba=True)

    same({"output-0": FOREST.predict_proba(SCALER.transform(X[:5]))}, ask(bundle))
    assert [(-1, 2)] == [spec.shape for spec in bundle.probe.signature.outputs]
    assert ("sklearn", "predict_proba") in bundle.interface().methods.values()


def test_a_model_without_probabilities_answers_as_ever(tmp_path):
    """As KServe's server does."""
    model = LinearRegression().fit(X, Y)

    same({"output-0": model.predict(X[:5])}, ask(opened(bare(tmp_path, model), predict_proba=True)))


def test_what_a_manifest_says_counts_more(tmp_path):
    """Its steps and outputs were written for its clients."""
    bundle = opened(of_manifest(tmp_path, steps=[SCALE, LABEL]), predict_proba=True)

    same({"label": FOREST.predict(SCALER.transform(X[:5]))}, ask(bundle))


def test_examples_are_compared_with_the_method_that_recorded_them(tmp_path):
    """A version saved with examples of ``predict`` is served with probabilities too."""
    store = BundleStore(tmp_path)
    store.save("forest", {"scaler": SCALER, "model": FOREST}, examples=X[:3])
    directory = store.path("forest", "v1")
    bundle = opened(directory, predict_proba=True)

    same({"output-0": FOREST.predict_proba(SCALER.transform(X[:5]))}, ask(bundle))

    manifest = json.loads((directory / MANIFEST_NAME).read_text())
    manifest["examples"][0]["outputs"]["output-0"] = [7, 7, 7]
    (directory / MANIFEST_NAME).write_text(json.dumps(manifest))
    with pytest.raises(WarmUpError, match="output-0"):
        opened(directory, predict_proba=True)


def test_several_threads_may_ask_for_different_outputs(tmp_path):
    """Each gets its own."""
    bundle = opened(chain(tmp_path))
    scaled = SCALER.transform(X[:5])
    sets = [("predict",), ("predict_proba",), ("apply", "predict"), ("output-0",)] * 4
    answers = {}

    def run(index, asked):
        answers[index] = ask(bundle, *asked)

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(sets)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    for index, asked in enumerate(sets):
        expected = {
            name: getattr(FOREST, "predict" if name == "output-0" else name)(scaled)
            for name in asked
        }
        same(expected, answers[index])
