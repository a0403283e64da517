"""Which models may answer several requests by one call, or on the event loop."""

from __future__ import annotations

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.dummy import DummyRegressor
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    HistGradientBoostingRegressor,
    IsolationForest,
    RandomForestClassifier,
)
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sklearn.svm import SVC

from bundleserver.bundle import Bundle
from bundleserver.bundle.inferring import infer_manifest
from bundleserver.frameworks import LoadContext
from bundleserver.frameworks.sklearn.framework import SklearnPredictor, load
from bundleserver.frameworks.tables.row_by_row import random_rows, same_in_parts
from bundleserver.operations import OPERATIONS
from bundleserver.tensors import NamedTensor
from bundleserver.tensors.call_traits import UNKNOWN, CallTraits, combined

X = np.random.default_rng(0).normal(size=(80, 3))
Y = (X[:, 0] > 0).astype(int)
BOTH = CallTraits(predictable=True, batchable=True)
PREDICTABLE = CallTraits(predictable=True)


class OwnForest(IsolationForest):
    """A user's own class may do anything."""


def conduct_of(model, method="predict"):
    """Ask how a fitted model's calls behave."""
    return SklearnPredictor(model).call_traits(method)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (IsolationForest(n_estimators=5, random_state=0), BOTH),
        (RandomForestClassifier(5, random_state=0), BOTH),
        (ExtraTreesClassifier(5, random_state=0), BOTH),
        (GradientBoostingClassifier(n_estimators=3), BOTH),
        (HistGradientBoostingRegressor(max_iter=3), BOTH),
        (DummyRegressor(), BOTH),
        (make_pipeline(StandardScaler(), IsolationForest(n_estimators=5)), BOTH),
        (make_pipeline(StandardScaler(), "passthrough", IsolationForest(n_estimators=5)), BOTH),
        (LinearRegression(), PREDICTABLE),
        (LogisticRegression(), PREDICTABLE),
        (SVC(), PREDICTABLE),
        (MLPRegressor(hidden_layer_sizes=(4,), max_iter=5), PREDICTABLE),
        (make_pipeline(StandardScaler(), LogisticRegression()), PREDICTABLE),
        (GridSearchCV(LogisticRegression(), {"C": [1]}, cv=2), PREDICTABLE),
        (SVC(kernel=lambda a, b: a @ b.T), UNKNOWN),
        (KNeighborsClassifier(), UNKNOWN),
        (make_pipeline(FunctionTransformer(np.log1p), LogisticRegression()), UNKNOWN),
        (make_pipeline(OneHotEncoder(handle_unknown="ignore"), LogisticRegression()), UNKNOWN),
        (OwnForest(n_estimators=5), UNKNOWN),
        (RandomForestClassifier(5, n_jobs=2), UNKNOWN),
    ],
    ids=lambda value: str(value)[:28],
)
@pytest.mark.filterwarnings("ignore")
def test_only_models_that_are_known_well_have_a_conduct(model, expected):
    """Trees, scalers and chains of them are independent; what multiplies matrices is steady."""
    assert expected == conduct_of(model.fit(np.abs(X), Y))


@pytest.mark.parametrize("method", ["predict", "predict_proba", "apply"])
def test_every_method_of_a_forest_answers_row_by_row(method):
    """Labels, probabilities and leaves of a row do not depend on its neighbours."""
    assert conduct_of(RandomForestClassifier(5, random_state=0).fit(X, Y), method).batchable


def test_a_table_with_columns_is_put_to_the_test_as_one():
    """A model that was fitted with column names is asked with them."""
    frame = pd.DataFrame(X, columns=["a", "b", "c"])

    assert BOTH == conduct_of(IsolationForest(n_estimators=5, random_state=0).fit(frame))


def test_a_model_whose_rows_touch_each_other_fails_the_test():
    """Answers that depend on the other rows differ in their bits, or in their number."""
    assert same_in_parts(lambda rows: rows * 2, random_rows(3))
    assert not same_in_parts(lambda rows: rows - rows.mean(axis=0), random_rows(3))
    assert not same_in_parts(lambda rows: rows[:1], random_rows(3))


def test_a_model_that_cannot_answer_drawn_rows_is_left_alone():
    """An error during the test is no error of the model."""

    def broken(rows):
        raise ValueError("no")

    assert not same_in_parts(broken, random_rows(3))


def test_a_model_that_runs_as_it_was_saved_has_no_call_traits(tmp_path):
    """The option accelerate: off keeps everything off that is not the model's own."""
    path = tmp_path / "model.joblib"
    joblib.dump(IsolationForest(n_estimators=5, random_state=0).fit(X), path)

    assert UNKNOWN == load(path, LoadContext({"accelerate": "off"})).call_traits("predict")
    assert BOTH == load(path, LoadContext()).call_traits("predict")


@pytest.mark.parametrize(
    ("op", "params", "expected"),
    [
        ("threshold", {"above": 1.0}, BOTH),
        ("concat", {}, BOTH),
        ("concat", {"axis": 0}, PREDICTABLE),
        ("mean", {}, PREDICTABLE),
        ("vote", {}, PREDICTABLE),
        ("reconstruction_error", {}, PREDICTABLE),
    ],
)
def test_operations_that_add_up_are_not_batchable(op, params, expected):
    """A sum over more rows may be added up in another order."""
    operation = OPERATIONS[op]

    assert expected == operation.call_traits(operation.read((), params, operation.inputs[0], 1))


def test_steps_behave_as_the_least_known_of_them():
    """One step that is not independent makes the whole not independent."""
    assert combined([BOTH, BOTH]) == BOTH
    assert combined([BOTH, PREDICTABLE]) == PREDICTABLE
    assert combined([PREDICTABLE, CallTraits(batchable=True)]) == UNKNOWN


def test_a_bundle_says_in_its_metadata_whether_its_rows_are_independent(tmp_path):
    """Who reads the metadata sees whether requests may be joined, and joined rows are the same."""
    scaler = StandardScaler().fit(X)
    joblib.dump(scaler, tmp_path / "x_scaler.pkl")
    forest = IsolationForest(n_estimators=5, random_state=0).fit(scaler.transform(X))
    joblib.dump(forest, tmp_path / "x_model.pkl")
    manifest = infer_manifest(tmp_path, "x")
    bundle = Bundle.open(tmp_path, manifest, model="x", version="1")
    name = bundle.signature.inputs[0].name

    def ask(rows):
        (answer,) = bundle.predict({name: NamedTensor(name, rows)}, {}).values()
        return answer.tolist()

    assert BOTH == bundle.call_traits
    assert bundle.metadata()["rows_independent"] is True
    assert ask(X) == [ask(X[i : i + 1])[0] for i in range(len(X))]
    bundle.close()
