"""The probe: what was never answered is never READY."""

import json
import logging
import re

import joblib
import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from bundleserver.bundle import warming
from bundleserver.bundle.opening import open_bundle
from bundleserver.errors import BundleError, ProbeError, WarmUpError
from bundleserver.store import BundleStore
from tests.bundle.warming import odd_estimators as odd

RNG = np.random.default_rng(17)
X = RNG.normal(size=(60, 3))
ROWS = [[1.0, 2.0, 3.0], [-4.0, 0.5, -1.0]]
MODEL = {"model": {"framework": "sklearn", "path": "model.pkl"}}


def put(directory, manifest=None, **objects):
    """Write fitted objects, and a manifest if there is one."""
    directory.mkdir(exist_ok=True)
    for stem, fitted in objects.items():
        joblib.dump(fitted, directory / f"{stem}.pkl")
    if manifest is not None:
        text = json.dumps({"format": "bundle/v1", "components": MODEL} | manifest)
        (directory / "manifest.json").write_text(text)
    return directory


def step(*outputs):
    """Write the one step of a model with these outputs."""
    return {"component": "model", "method": "predict", "inputs": ["x"], "outputs": [*outputs]}


def ask(bundle, rows=ROWS):
    """Send V1 rows."""
    return bundle.predict(bundle.signature.validate_rows(rows, bundle.identity), {})


def described(specs):
    """Return what metadata say of tensors."""
    return [(spec.name, spec.datatype, spec.shape) for spec in specs]


def without_an_attribute():
    """Fit a pipeline, and take from it what another version of the library did not write."""
    model = make_pipeline(SimpleImputer(), LogisticRegression()).fit(X, X[:, 0] > 0)
    del model[0]._fill_dtype
    return model


def test_a_version_that_answers_is_probed_and_its_signature_is_complete(tmp_path):
    """Datatypes and shapes come from what came out."""
    model = LogisticRegression().fit(X, np.where(X[:, 0] > 0, "high", "low"))

    with_probe = open_bundle(put(tmp_path, model=model)).probe

    assert (True, "", "") == (with_probe.answered, with_probe.reason, with_probe.problem)
    assert [("input-0", "FP64", (-1, 3))] == described(with_probe.signature.inputs)
    assert [("output-0", "BYTES", (-1,))] == described(with_probe.signature.outputs)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (without_an_attribute(), "AttributeError: 'SimpleImputer' object has no attribute"),
        (odd.Missing(), "AttributeError: 'Missing' object has no attribute 'weights_'"),
        (odd.Crashing(), "SystemExit: 3"),
    ],
)
def test_a_version_that_can_answer_nothing_is_refused(tmp_path, model, reason):
    """The reason names the step, the inputs and the library's own words."""
    with pytest.raises(ProbeError, match=re.escape(reason)) as refused:
        open_bundle(put(tmp_path, model=model))

    assert "steps[0] (model.predict) cannot answer made-up inputs ('input-0'" in str(refused.value)


def test_a_refusal_names_recorded_and_installed_versions(tmp_path):
    """Where libraries differ from the recorded ones, that is probably why."""
    requirements = {"packages": {"scikit-learn": "0.19.2"}}
    put(tmp_path, {"requirements": requirements}, model=without_an_attribute())

    with pytest.raises(ProbeError, match=r"scikit-learn: was 0\.19\.2 .*; here it is \d"):
        open_bundle(tmp_path)


def test_a_chain_that_does_not_fit_is_refused(tmp_path):
    """A scaler of two columns before a model of three answers no width."""
    scaler, model = StandardScaler().fit(X[:, :2]), LinearRegression().fit(X, X[:, 0])
    components = {"scaler": {"framework": "sklearn", "path": "scaler.pkl"}, **MODEL}
    put(tmp_path, {"components": components}, scaler=scaler, model=model)

    with pytest.raises(BundleError, match="2"):
        open_bundle(tmp_path)


def test_a_refused_value_leaves_a_version_ready_and_unprobed(tmp_path, caplog):
    """Others may be accepted, so metadata and log say that it has not answered, and why."""
    caplog.set_level(logging.INFO)

    bundle = open_bundle(put(tmp_path, model=odd.Domain()))

    metadata = bundle.metadata()
    assert metadata["probed"] is False
    assert "ages are from 18 to 120 years" in metadata["probe"]
    assert "not probed: steps[0] (model.predict) refuses made-up inputs" in caplog.text
    np.testing.assert_array_equal([90.0], ask(bundle, [[20.0, 30.0, 40.0]])["output-0"])


def test_an_unknown_width_is_no_reason_to_refuse(tmp_path):
    """Nobody knows how wide its rows are, so a width that it refuses says nothing."""
    bundle = open_bundle(put(tmp_path, model=odd.UnknownWidth()))

    assert not bundle.probe.answered
    np.testing.assert_array_equal([10.0], ask(bundle, [[1.0] * 5])["output-0"])


def test_the_probe_says_what_it_is_about_to_call(tmp_path, caplog):
    """Native code may end the process; the last line of the log then names it."""
    caplog.set_level(logging.INFO)

    open_bundle(put(tmp_path, model=odd.Estimator()), model="fraud", version="7")

    line = "'fraud' version 7: probing steps[0] (model.predict) with 'input-0' FP64 [1, 3]"
    assert line in caplog.text


def test_warn_keeps_a_version_that_cannot_answer(tmp_path, caplog):
    """Whoever upgrades keeps what was READY before, and reads why it should not be."""
    bundle = open_bundle(put(tmp_path, model=odd.Missing()), probe="warn")

    assert not bundle.probe.answered
    assert "has no attribute 'weights_'" in bundle.probe.problem
    assert "ready although its probe failed: steps[0]" in caplog.text


def test_off_calls_nothing(tmp_path):
    """The version is not called, and says so."""
    bundle = open_bundle(put(tmp_path, model=odd.Crashing()), probe="off")

    assert (False, "") == (bundle.probe.answered, bundle.probe.problem)
    assert "--probe=off" in str(bundle.metadata()["probe"])


def test_a_call_that_hangs_ends_with_the_deadline(tmp_path, monkeypatch):
    """What never returns is refused, and does not keep the load."""
    monkeypatch.setattr(warming, "DEADLINE_SECONDS", 0.5)

    with pytest.raises(ProbeError, match=r"did not answer within 0\.5 s"):
        open_bundle(put(tmp_path, model=odd.Hanging()))


def test_examples_are_the_probe_where_there_are_some(tmp_path):
    """They are called instead of made-up inputs, and complete the signature too."""
    examples = [{"inputs": {"x": [[20, 30, 40]]}, "outputs": {"total": [90.0]}}]
    manifest = {"inputs": [{"name": "x"}], "steps": [step("total")], "examples": examples}

    bundle = open_bundle(put(tmp_path, manifest, model=odd.Domain()))

    assert bundle.metadata()["probed"] is True
    assert [("total", "FP64", (-1,))] == described(bundle.probe.signature.outputs)


def test_an_example_that_fails_is_refused_whatever_the_probe_may_be(tmp_path):
    """An example is the author's own promise."""
    examples = [{"inputs": {"x": [[1, 2, 3]]}}]
    manifest = {"inputs": [{"name": "x"}], "steps": [step("total")], "examples": examples}
    put(tmp_path, manifest, model=odd.Domain())

    with pytest.raises(WarmUpError, match="ages are from 18 to 120 years"):
        open_bundle(tmp_path, probe="off")


def test_text_is_made_up_for_models_of_text(tmp_path):
    """A vectorizer gets words."""
    words = ["red wine", "white wine", "red beer", "dark beer"]
    model = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(words, [0, 0, 1, 1])

    assert open_bundle(put(tmp_path, model=model)).probe.answered


@pytest.mark.parametrize(
    ("model", "outputs"),
    [
        (odd.Pair(), [("output-0", "FP64", (-1,)), ("output-1", "FP64", (-1, 3))]),
        (odd.Named(), [("label", "INT64", (-1,)), ("score", "FP64", (-1,))]),
        (odd.Table(), [("label", "BYTES", (-1,)), ("score", "FP64", (-1,))]),
    ],
)
def test_all_outputs_are_served_under_their_names(tmp_path, model, outputs):
    """A tuple has numbers, a dict and a table have names, each with its own datatype."""
    bundle = open_bundle(put(tmp_path, model=model))

    answer = ask(bundle)

    assert outputs == described(bundle.probe.signature.outputs)
    assert [name for name, _, _ in outputs] == list(answer)
    expected = model.predict(np.array(ROWS))
    for got, name in zip(answer.values(), answer, strict=True):
        wanted = expected[int(name[-1])] if isinstance(expected, tuple) else expected[name]
        np.testing.assert_array_equal(np.asarray(wanted), got)


def test_all_outputs_are_served_before_any_was_seen(tmp_path):
    """Without a probe too nothing is left out."""
    bundle = open_bundle(put(tmp_path, model=odd.Named()), probe="off")

    assert ["label", "score"] == list(ask(bundle))


@pytest.mark.parametrize("model", [odd.Pair(), odd.Named(), odd.Table()])
def test_a_step_that_names_fewer_outputs_is_refused_with_both_numbers(tmp_path, model):
    """Nothing is left out silently."""
    put(tmp_path, {"steps": [step("total")]}, model=model)

    with pytest.raises(ProbeError, match=r"names 1 outputs, its component returns 2"):
        open_bundle(tmp_path)


def test_outputs_of_the_manifest_choose_among_those_of_its_steps(tmp_path):
    """A step names all, the manifest the ones that are answered."""
    manifest = {"steps": [step("total", "twice")], "outputs": [{"name": "twice"}]}

    answer = ask(open_bundle(put(tmp_path, manifest, model=odd.Pair())))

    assert ["twice"] == list(answer)
    np.testing.assert_array_equal(np.array(ROWS) * 2, answer["twice"])


def test_outputs_of_a_manifest_without_steps_choose_by_name(tmp_path):
    """What the component calls by that name is answered, not what comes first."""
    bundle = open_bundle(put(tmp_path, {"outputs": [{"name": "score"}]}, model=odd.Named()))

    answer = ask(bundle)

    assert ["score"] == list(answer)
    np.testing.assert_array_equal([6.0, -4.5], answer["score"])


def test_outputs_that_a_component_does_not_have_are_refused(tmp_path):
    """One name for a tuple of two chooses nothing."""
    put(tmp_path, {"outputs": [{"name": "score"}]}, model=odd.Pair())

    with pytest.raises(ProbeError, match="names 1 outputs, its component returns 2"):
        open_bundle(tmp_path)


def test_an_announced_number_stays_a_floating_point_number(tmp_path):
    """Answers that happen to be whole have the datatype that metadata say."""
    bundle = open_bundle(put(tmp_path, model=odd.Rounding()))

    (output,) = bundle.probe.signature.outputs
    whole = ask(bundle, [[1.0, 2.0, 3.0]])["output-0"]

    assert ("FP64", np.float64) == (output.datatype, whole.dtype)


def test_a_nested_bundle_is_probed_with_the_one_around_it(tmp_path):
    """A bundle whose member can answer nothing answers nothing."""
    put(tmp_path / "inner", {}, model=odd.Missing())
    components = {"inner": {"framework": "bundle", "path": "inner"}}
    put(tmp_path, {"components": components})

    with pytest.raises(ProbeError, match="has no attribute 'weights_'"):
        open_bundle(tmp_path)


def test_publishing_a_chain_keeps_the_names_of_its_outputs(tmp_path):
    """What a bare directory answers, its published version answers too."""
    scaler = StandardScaler().fit(X)
    source = put(tmp_path / "source", model=odd.Named(), scaler=scaler)
    store = BundleStore(tmp_path / "store")

    version = store.publish(source, "named")

    published = open_bundle(store.path("named", version))
    bare, answer = ask(open_bundle(source)), ask(published)
    assert ["label", "score"] == list(bare) == list(answer)
    np.testing.assert_array_equal(bare["score"], answer["score"])


def test_a_step_may_choose_among_the_outputs_of_another_bundle(tmp_path):
    """A vote needs a member's label and not its score; the member's own manifest names both."""
    put(tmp_path / "inner", {"steps": [step("label", "score")]}, model=odd.Named())
    inner = {"inner": {"framework": "bundle", "path": "inner"}}
    steps = [{"component": "inner", "inputs": ["x"], "outputs": ["vote"]}]

    bundle = open_bundle(put(tmp_path, {"components": inner, "steps": steps}))

    assert ["vote"] == list(ask(bundle))
    assert bundle.probe.answered
