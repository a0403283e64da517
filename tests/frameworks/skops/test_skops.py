"""Estimators in skops' format: as the library in process, under every policy."""

from __future__ import annotations

import logging
from contextlib import closing
from dataclasses import replace

import joblib
import numpy as np
import pytest
import skops.io
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.preprocessing import FunctionTransformer, LabelEncoder, StandardScaler

from bundleserver.bundle.inferring import infer_manifest
from bundleserver.bundle.opening import open_bundle
from bundleserver.bundle.trust import Trust
from bundleserver.errors import LoadError, StoreError
from bundleserver.frameworks import LoadContext, facts_of_file, framework_of_file
from bundleserver.frameworks.skops import framework, outline
from bundleserver.frameworks.trust import CodeTrust, PicklePolicy
from bundleserver.store import BundleStore
from bundleserver.tensors import NamedTensor
from tests.frameworks.skops.files import skops_with
from tests.frameworks.skops.models import FRAME, MODELS, OTHER_MODELS, TEXTS, X, Y

POLICIES = [PicklePolicy.ANY, PicklePolicy.LISTED, PicklePolicy.DENY]
by_policy = pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.value)


class Own(ClassifierMixin, BaseEstimator):
    """A class that no list has."""

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        self.n_features_in_ = X.shape[1]
        return self

    def predict(self, X):
        return self.classes_[(X[:, 0] > 0).astype(int)]


def opened(path, policy=PicklePolicy.ANY, allowed=(), **options):
    """Open a file as a server with that policy does."""
    return framework.load(path, LoadContext(options, trust=CodeTrust(policy, frozenset(allowed))))


def dumped(model, path):
    """Write a file as skops does."""
    skops.io.dump(model, path)
    return path


def asked(predictor, *values, method=None):
    """Call a method on a table's columns, or on one array."""
    method = method or next(iter(predictor.methods))
    signature = predictor.methods[method]
    names = signature.inputs[0].columns or [spec.name for spec in signature.inputs]
    if len(values) == 1:
        names = ["x"]
    inputs = [NamedTensor(name, np.asarray(one)) for name, one in zip(names, values, strict=True)]
    (answer,) = predictor.call(method, inputs, {})
    return answer


@by_policy
@pytest.mark.parametrize("name", MODELS)
def test_a_model_answers_as_in_process(tmp_path, name, policy):
    """Every method has the library's answers, to the bit, and needs no list of the operator."""
    model = MODELS[name]()
    predictor = opened(dumped(model, tmp_path / "model.skops"), policy)

    for method in predictor.methods:
        expected = getattr(model, method)(X)
        np.testing.assert_array_equal(expected, asked(predictor, X, method=method))


@by_policy
def test_tables_and_texts_are_taken_as_from_a_pickle(tmp_path, policy):
    """Columns have their names and kinds, whichever format a model has."""
    for name, values in {"a table": (FRAME["area"], FRAME["town"]), "texts": (TEXTS,)}.items():
        model = OTHER_MODELS[name]()
        path = dumped(model, tmp_path / f"{len(values)}.skops")
        joblib.dump(model, tmp_path / f"{len(values)}.joblib")
        predictor = opened(path, policy)
        objects = [np.asarray(one, dtype=object if name == "texts" else None) for one in values]

        expected = model.predict(FRAME if name == "a table" else TEXTS)
        np.testing.assert_array_equal(expected, asked(predictor, *objects))


def test_options_are_those_of_scikit_learns_framework(tmp_path):
    """A forest is accelerated unless told otherwise, and an unknown option is refused."""
    path = dumped(MODELS["a forest"](), tmp_path / "model.skops")

    assert "accelerated" in opened(path).metadata
    assert {} == opened(path, accelerate="off").metadata
    with pytest.raises(LoadError, match=r"options\.acelerate is not a known option"):
        opened(path, acelerate="off")


def test_an_own_class_needs_any_or_the_list(tmp_path):
    """What neither skops nor we know is opened where all is, or where the operator lists it."""
    path = dumped(Own().fit(X, Y), tmp_path / "model.skops")
    name = f"{__name__}.Own"

    np.testing.assert_array_equal(Y, asked(opened(path), X))
    np.testing.assert_array_equal(Y, asked(opened(path, PicklePolicy.LISTED, [name]), X))
    for policy in POLICIES[1:]:
        with pytest.raises(LoadError, match=rf"uses '{name}', which neither skops nor .*_allow"):
            opened(path, policy)


def test_a_class_that_is_not_installed_is_named(tmp_path):
    """The package that a file needs is said, and what adds it."""
    path = dumped(Own().fit(X, Y), tmp_path / "model.skops")
    skops_with(path, lambda schema: schema.update(__module__="mine.models"))

    with pytest.raises(LoadError, match="needs the module 'mine', which is neither in"):
        opened(path)


def test_facts_are_those_of_a_pickle(tmp_path):
    """Role and widths are told from the description, without skops, as from a pickle."""
    for number, model in enumerate(
        [StandardScaler().fit(X), LabelEncoder().fit(Y), *(make() for make in MODELS.values())]
    ):
        path = dumped(model, tmp_path / f"{number}.skops")
        pickled = tmp_path / f"{number}.joblib"
        joblib.dump(model, pickled)
        (name, role), (_, expected_role) = framework_of_file(path), framework_of_file(pickled)

        assert ("skops", expected_role) == (name, role)
        facts, told = facts_of_file(path, "skops", role), facts_of_file(pickled, "sklearn", role)
        assert type(model).__module__ in facts.modules & told.modules
        assert replace(told, modules=facts.modules) == facts


def test_a_large_description_is_not_read_for_its_facts(tmp_path, monkeypatch):
    """Only the class is told of a vocabulary of millions of words."""
    path = dumped(MODELS["a pipeline"](), tmp_path / "large.skops")
    monkeypatch.setattr(outline, "_MOST_BYTES", 1000)

    facts = facts_of_file(path, "skops", "model")
    assert ("a Pipeline", None) == (facts.what, facts.takes)


def test_plain_data_is_no_model(tmp_path):
    """A dict of numbers in skops' format is data beside a model."""
    assert framework_of_file(dumped({"mean": X}, tmp_path / "data.skops")) is None


@pytest.mark.parametrize("name", MODELS)
def test_save_writes_skops_if_it_is_told_to(tmp_path, name, caplog):
    """Joblib stays the default; the component says its framework, and no list is needed."""
    store = BundleStore(tmp_path)
    model = MODELS[name]()
    store.save("m", model, examples=X[:3])
    store.save("m", model, examples=X[:3], frameworks={"model": "skops"})

    assert ["model.joblib"] == [path.name for path in store.path("m", "v1").glob("model.*")]
    assert ["model.skops"] == [path.name for path in store.path("m", "v2").glob("model.*")]
    assert not [record for record in caplog.records if "neither" in record.message]
    bundle = open_bundle(store.path("m", "v2"), trust=Trust(CodeTrust(PicklePolicy.DENY)))
    rows = bundle.signature.validate_rows(X.tolist(), "x")
    np.testing.assert_array_equal(model.predict(X), bundle.predict(rows, {})["output-0"])
    bundle.close()


def test_a_directory_of_a_scaler_and_a_model_is_a_chain(tmp_path):
    """A plain dump of two files is inferred as pickles are."""
    scaler = StandardScaler().fit(X)
    model = LogisticRegression().fit(scaler.transform(X), Y)
    dumped(scaler, tmp_path / "scaler.skops")
    dumped(model, tmp_path / "model.skops")

    manifest = infer_manifest(tmp_path, "m")
    with closing(open_bundle(tmp_path, manifest)) as bundle:
        rows = bundle.signature.validate_rows(X.tolist(), "x")
        np.testing.assert_array_equal(
            model.predict(scaler.transform(X)), bundle.predict(rows, {})["output-0"]
        )


def test_what_needs_a_list_is_said_when_it_is_saved(tmp_path, caplog):
    """The log names the types that a server does not open by itself."""
    with caplog.at_level(logging.WARNING):
        framework.save(Own().fit(X, Y), tmp_path, "model")

    assert f"'{__name__}.Own', which neither skops" in caplog.text


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (LinearRegression(), "not fitted"),
        ({"a": 1}, "component 'model' is"),
        (FunctionTransformer(kw_args={"a": memoryview(b"x")}), "cannot be saved by skops"),
    ],
    ids=["not fitted", "a dict", "what skops does not know"],
)
def test_what_cannot_be_saved_is_refused(tmp_path, model, reason):
    """The sentence names the component, and nothing is left behind."""
    with pytest.raises(StoreError, match=reason):
        framework.save(model, tmp_path, "model")
    assert [] == [*tmp_path.iterdir()]


def test_a_notebooks_class_is_refused(tmp_path):
    """What only a notebook has cannot be imported where it is served."""
    notebook = type("Mine", (Own,), {"__module__": "__main__"})
    model = notebook().fit(X, Y)
    import __main__

    __main__.Mine = notebook
    try:
        with pytest.raises(StoreError, match=r"uses __main__\.Mine, defined in a notebook"):
            framework.save(model, tmp_path, "model")
        dumped(model, tmp_path / "model.skops")
        with pytest.raises(LoadError, match=r"'__main__\.Mine', defined in the notebook"):
            opened(tmp_path / "model.skops")
    finally:
        del __main__.Mine


def test_another_scikit_learn_is_said(tmp_path, caplog, monkeypatch):
    """A file of other versions opens, and the log names both."""
    path = dumped(LogisticRegression().fit(X, Y), tmp_path / "model.skops")
    monkeypatch.setattr("sklearn.__version__", "1.0.0")

    opened(path)

    assert "saved with scikit-learn" in caplog.text
    assert "predictions may differ" in caplog.text
