import json
import pickle
from contextlib import contextmanager

import joblib
import numpy as np
import pytest
from sklearn.ensemble import IsolationForest
from sklearn.linear_model import LinearRegression
from sklearn.preprocessing import StandardScaler

from bundleserver.bundle import Bundle, opening
from bundleserver.bundle.reading import read_manifest
from bundleserver.errors import (
    BundleError,
    FrameworkError,
    IntegrityError,
    InvalidInput,
    ManifestError,
    PredictionError,
    WarmUpError,
)
from bundleserver.manifest import Component, Manifest
from bundleserver.tensors import NamedTensor

RNG = np.random.default_rng(7)
X = RNG.normal(size=(200, 3))
ROW = [[0.5, 0.3, 0.8]]


@pytest.fixture(scope="module")
def scaler():
    """Fit a scaler once."""
    return StandardScaler().fit(X)


@pytest.fixture(scope="module")
def forest(scaler):
    """Fit a forest on scaled rows once."""
    return IsolationForest(n_estimators=10, random_state=0).fit(scaler.transform(X))


@pytest.fixture
def directory(tmp_path, scaler, forest):
    """Lay a scaler and a forest into a directory."""
    joblib.dump(scaler, tmp_path / "scaler.pkl")
    joblib.dump(forest, tmp_path / "model.pkl")
    return tmp_path


CHAIN = {
    "scaler": {"framework": "sklearn", "path": "scaler.pkl"},
    "model": {"framework": "sklearn", "path": "model.pkl"},
}
STEPS = [
    {"component": "scaler", "method": "transform", "inputs": ["features"], "outputs": ["scaled"]},
    {"component": "model", "method": "predict", "inputs": ["scaled"], "outputs": ["label"]},
    {
        "component": "model",
        "method": "decision_function",
        "inputs": ["scaled"],
        "outputs": ["score"],
    },
]


def open_bundle(directory, members=None, **manifest):
    """Write a manifest and open its directory."""
    manifest = {"format": "bundle/v1", "components": CHAIN} | manifest
    (directory / "manifest.json").write_text(json.dumps(manifest))
    read = read_manifest(directory)
    return Bundle.open(directory, read, model="fraud", version="7", members=members)


def ask(bundle, rows, **parameters):
    """Bind V1 rows and predict."""
    return bundle.predict(bundle.signature.validate_rows(rows, bundle.identity), parameters)


def test_a_directory_without_manifest_has_none(tmp_path):
    """No manifest.json is told apart from a broken one."""
    assert read_manifest(tmp_path) is None


def test_an_unreadable_manifest_is_named(tmp_path):
    """A manifest that is no file is reported with its path."""
    (tmp_path / "manifest.json").mkdir()

    with pytest.raises(IntegrityError, match=r"manifest\.json cannot be read"):
        read_manifest(tmp_path)


def test_steps_answer_what_the_objects_answer_in_process(directory, scaler, forest):
    """Written steps give exactly the numbers of the same objects called by hand."""
    bundle = open_bundle(directory, steps=STEPS)

    answers = ask(bundle, X[:5].tolist())

    scaled = scaler.transform(X[:5])
    assert ["label", "score"] == list(answers)
    np.testing.assert_array_equal(forest.predict(scaled), answers["label"])
    np.testing.assert_array_equal(forest.decision_function(scaled), answers["score"])


def test_without_steps_transformers_run_first_and_the_model_predicts(directory, scaler, forest):
    """Missing steps are every transformer in order, then the model's predict."""
    answers = ask(open_bundle(directory), ROW)

    np.testing.assert_array_equal(forest.predict(scaler.transform(ROW)), answers["output-0"])


def test_without_inputs_the_fitted_objects_say_what_is_taken(directory):
    """The number of features comes from the scaler."""
    (taken,) = open_bundle(directory, steps=STEPS).signature.inputs

    assert ("features", (-1, 3)) == (taken.name, taken.shape)


def test_declared_columns_bind_objects_by_name(directory, scaler, forest):
    """Rows keyed by column arrive in the declared order."""
    declared = [{"name": "features", "datatype": "FP64", "columns": ["cpu", "memory", "io"]}]
    bundle = open_bundle(directory, steps=STEPS, inputs=declared)

    answers = ask(bundle, [{"io": 0.8, "cpu": 0.5, "memory": 0.3}])

    np.testing.assert_array_equal(forest.predict(scaler.transform(ROW)), answers["label"])


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"steps": [STEPS[0] | {"method": "transfrom"}]}, "did you mean 'transform'?"),
        (
            {"inputs": [{"name": "features", "shape": [-1, 4]}], "steps": STEPS},
            "declared with shape [-1, 4]; the fitted component expects [-1, 3]",
        ),
        ({"components": CHAIN | {"other": CHAIN["model"]}}, "cannot be combined automatically"),
    ],
)
def test_parts_that_do_not_fit_are_refused_when_opened(directory, change, part):
    """What the components contradict is refused before any request comes."""
    with pytest.raises(BundleError) as refused:
        open_bundle(directory, **change)

    assert part in str(refused.value)


@pytest.mark.parametrize("nested", [False, True])
def test_an_unknown_framework_is_told_with_all_other_problems(directory, nested):
    """The file to fix is named, with every problem in it and the frameworks that exist."""
    components = {"model": {"framework": "sklern", "path": "model.pkl", "size": -1}}
    wrong = {"format": "bundle/v1", "components": components, "mood": "good"}
    inner = directory / "inner" if nested else directory
    inner.mkdir(exist_ok=True)
    (inner / "manifest.json").write_text(json.dumps(wrong))
    if nested:
        outer = {**wrong, "components": {"part": {"framework": "bundle", "path": "inner"}}}
        del outer["mood"]
        (directory / "manifest.json").write_text(json.dumps(outer))

    with pytest.raises(ManifestError) as refused:
        opening.open_bundle(directory)

    assert str(inner / "manifest.json") in str(refused.value)
    problems = {problem.where: problem.what for problem in refused.value.problems}
    assert {"components.model.framework", "components.model.size", "mood"} == set(problems)
    assert problems["components.model.framework"] == (
        "is 'sklern'; expected one of 'bundle', 'ensemble', 'model', 'prophet', 'pyfunc', "
        "'sklearn', 'skops', 'statsmodels', 'torch'; did you mean 'sklearn'?"
    )


def test_a_framework_that_only_code_names_is_refused(directory):
    """A manifest that was never in a file names no framework either that nobody has."""
    manifest = Manifest(components={"m": Component("m", "sklern", "model.pkl")})
    with pytest.raises(FrameworkError, match="did you mean 'sklearn'"):
        Bundle.open(directory, manifest, model="fraud", version="7")


def test_a_declared_output_holds_the_model_to_its_datatype(directory):
    """A model that gives another kind of number than declared fails its own request."""
    bundle = open_bundle(directory, steps=STEPS, outputs=[{"name": "score", "datatype": "INT64"}])

    with pytest.raises(PredictionError, match="the manifest declares INT64"):
        ask(bundle, ROW)


def test_a_declared_output_may_be_narrower(directory):
    """A manifest may ask for FP32 of a model that computes in FP64."""
    bundle = open_bundle(directory, steps=STEPS, outputs=[{"name": "score", "datatype": "FP32"}])

    assert np.float32 == ask(bundle, ROW)["score"].dtype


def test_examples_are_checked_when_warming_up(directory):
    """An example whose record differs fails the warm-up and shows both answers."""
    example = {"inputs": {"features": ROW}, "outputs": {"label": [-1]}}
    bundle = open_bundle(directory, steps=STEPS, examples=[example])

    with pytest.raises(WarmUpError, match=r"output 'label' is \[1\]; expected \[-1\]"):
        bundle.warm_up()


def test_examples_that_agree_pass(directory, scaler, forest):
    """Numbers agree within the example's relative tolerance."""
    score = forest.decision_function(scaler.transform(ROW)) * (1 + 1e-8)
    example = {"inputs": {"features": ROW}, "outputs": {"label": [1], "score": score.tolist()}}
    bundle = open_bundle(directory, steps=STEPS, examples=[example])

    bundle.warm_up()

    assert [1] == ask(bundle, ROW)["label"].tolist()


class Moody(LinearRegression):
    """A model whose own code fails."""

    def predict(self, X):
        """Fail."""
        raise RuntimeError("out of luck\nwith details")


def test_a_models_own_failure_has_an_incident_that_the_log_repeats(tmp_path, caplog):
    """The caller gets one sentence and a number, the log the traceback under that number."""
    model = Moody().fit(X, X[:, 0])
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(model))
    bundle = open_bundle(tmp_path, components={"model": CHAIN["model"]})

    with pytest.raises(PredictionError) as failed:
        ask(bundle, ROW)

    assert "RuntimeError: out of luck (incident" in str(failed.value)
    assert failed.value.incident in caplog.text
    assert "Traceback" in caplog.text


def test_a_value_that_the_model_refuses_is_the_callers(directory):
    """Infinity for a scaler that takes none is bad input and no failure."""
    bundle = open_bundle(directory)

    with pytest.raises(InvalidInput, match="infinity"):
        ask(bundle, [[float("inf"), 0.0, 0.0]])


def test_bundles_nest(directory, scaler, forest):
    """A component may be a bundle, which takes and gives tensors by position."""
    inner = directory / "inner"
    inner.mkdir()
    for name in ("scaler.pkl", "model.pkl"):
        (directory / name).rename(inner / name)
    (inner / "manifest.json").write_text(
        json.dumps({"format": "bundle/v1", "components": CHAIN, "steps": STEPS})
    )
    bundle = open_bundle(
        directory,
        components={"system": {"framework": "bundle", "path": "inner"}},
        steps=[{"component": "system", "inputs": ["x"], "outputs": ["verdict", "strength"]}],
    )

    answers = ask(bundle, ROW)

    assert ["verdict", "strength"] == list(answers)
    np.testing.assert_array_equal(forest.predict(scaler.transform(ROW)), answers["verdict"])


def test_a_component_may_be_another_model_of_the_process(directory, tmp_path_factory):
    """A model member is borrowed for the call and given back."""
    other = open_bundle(directory, steps=STEPS)
    borrowed = []

    @contextmanager
    def members(model):
        borrowed.append(model)
        yield other

    voter = {"framework": "model", "model": "predictive-analytics"}
    bundle = open_bundle(
        tmp_path_factory.mktemp("voter"),
        members,
        components={"member": voter},
        steps=[{"component": "member", "inputs": ["x"], "outputs": ["label", "score"]}],
    )

    answers = ask(bundle, ROW)

    assert ["predictive-analytics"] == borrowed
    assert [1] == answers["label"].tolist()


def test_models_that_call_each_other_are_found_out(tmp_path):
    """Two models that name each other fail with the circle spelled out."""
    opened = {}

    @contextmanager
    def members(model):
        yield opened[model]

    for name, other in (("a", "b"), ("b", "a")):
        place = tmp_path / name
        place.mkdir()
        opened[name] = open_bundle(
            place,
            members,
            components={"member": {"framework": "model", "model": other}},
            steps=[{"component": "member", "inputs": ["x"], "outputs": ["y"]}],
        )

    with pytest.raises(BundleError, match="b → a → b"):
        opened["a"].predict({"x": NamedTensor("x", np.ones(1))}, {})
