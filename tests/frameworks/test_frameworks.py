"""Who owns an object or a file is asked of the frameworks, and no accident decides it."""

from __future__ import annotations

import subprocess
import sys

import joblib
import lightgbm
import numpy as np
import pandas as pd
import pytest
import torch
import xgboost
from prophet import Prophet
from sklearn.base import BaseEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.preprocessing import StandardScaler
from statsmodels.tsa.arima.model import ARIMA

from bundleserver.errors import BundleError, FrameworkError, LoadError, StoreError
from bundleserver.frameworks import (
    LoadContext,
    framework_for,
    framework_named,
    framework_of_file,
    frameworks,
)

X = np.arange(12.0).reshape(6, 2)
Y = [0, 1, 0, 1, 0, 1]


class OnlyPredicts:
    """Answers tables and has nothing else of an estimator."""

    def predict(self, table):
        return table


class Both(torch.nn.Module, BaseEstimator):
    """A module and an estimator."""


@pytest.mark.parametrize(
    ("model", "owner"),
    [
        (LogisticRegression(), "sklearn"),
        (GridSearchCV(LogisticRegression(), {}), "sklearn"),
        (torch.nn.Linear(1, 1), "torch"),
        (torch.jit.script(torch.nn.ReLU()), "torch"),
        (ARIMA(np.arange(9.0)), "statsmodels"),
        (Prophet(), "prophet"),
        ({"methods": ["a"], "weights": [1.0]}, "ensemble"),
        ({"methods": []}, None),
        (OnlyPredicts(), None),
        (LogisticRegression, None),
        (pd.DataFrame(X), None),
        ("prophet", None),
        (None, None),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_one_framework_at_most_recognises_an_object(model, owner):
    """An object has one owner, so that the order of the frameworks decides nothing."""
    assert owner == framework_for(model)
    assert [owner] * bool(owner) == [n for n, row in frameworks().items() if row.recognises(model)]


def test_an_object_of_two_frameworks_has_to_be_given_one():
    """Where two frameworks recognise an object the caller names one; no order decides."""
    with pytest.raises(FrameworkError, match="by the frameworks 'torch', 'sklearn'; name one"):
        framework_for(Both())


def test_asking_for_an_owner_imports_no_library(tmp_path):
    """Whose an object or a file is can be told without any framework's library."""
    joblib.dump(LogisticRegression().fit(X, Y), tmp_path / "model.pkl")
    code = (
        "import sys; from pathlib import Path; from bundleserver import frameworks as f; "
        "assert f.framework_for({}) is None; "
        "assert f.framework_of_file(Path(sys.argv[1])) == ('sklearn', 'model'); "
        "names = ('sklearn', 'torch', 'prophet', 'statsmodels', 'mlflow', 'pandas', 'joblib'); "
        "sys.exit(str([name for name in names if name in sys.modules]))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "model.pkl")]

    done = subprocess.run(command, check=False, capture_output=True, text=True)

    assert "[]\n" == done.stderr


BOOSTED = {
    "xgboost": xgboost.XGBClassifier(n_estimators=2, max_depth=2).fit(X, Y),
    "lightgbm": lightgbm.LGBMClassifier(n_estimators=2, verbose=-1).fit(X, Y),
}


@pytest.mark.parametrize("library", BOOSTED)
def test_a_booster_is_its_librarys_wherever_it_is(library, tmp_path):
    """Alone it is the framework's of its library, and scikit-learn's neither saves nor opens it."""
    estimator = BOOSTED[library]
    booster = estimator.get_booster() if library == "xgboost" else estimator.booster_
    path = tmp_path / "model.pkl"
    joblib.dump(booster, path)

    assert library == framework_for(booster)
    assert (library, "model") == framework_of_file(path)
    with pytest.raises(StoreError, match=f"component 'm' is a {library}"):
        framework_named("sklearn").save(booster, tmp_path, "m")
    with pytest.raises(LoadError, match=f"model.pkl' has a {library}"):
        framework_named("sklearn").load(path, LoadContext())


@pytest.mark.parametrize("library", BOOSTED)
def test_a_boosting_librarys_estimator_is_sklearns(library, tmp_path):
    """What has scikit-learn's API is saved, found and opened as any estimator."""
    estimator = BOOSTED[library]
    path, _ = framework_named("sklearn").save(estimator, tmp_path, "model")

    assert "sklearn" == framework_for(estimator)
    assert ("sklearn", "model") == framework_of_file(path)
    assert "predict" in framework_named("sklearn").load(path, LoadContext()).methods


@pytest.mark.parametrize(
    ("name", "model", "found"),
    [
        ("a.joblib", StandardScaler().fit(X), ("sklearn", "preprocessor")),
        ("a.sav", OnlyPredicts(), ("sklearn", "model")),
        ("ensemble.pkl", {"methods": ["a"]}, ("ensemble", "model")),
        ("other.pkl", {"methods": ["a"]}, None),
        ("other.pkl", {"methods": ["a"], "weights": [1.0]}, ("ensemble", "model")),
        ("config.pkl", {"weights": {"a": 1.0}, "window": 24}, None),
        ("a.pkl", {"scaler": StandardScaler()}, ("sklearn", "model")),
        ("a.pkl", ["cpu", "memory"], None),
        ("a.pkl.gz", StandardScaler().fit(X), ("sklearn", "preprocessor")),
        ("a.z", StandardScaler().fit(X), ("sklearn", "preprocessor")),
        ("a.PKL", torch.nn.Linear(1, 1), ("torch", "model")),
        ("a.txt", StandardScaler(), None),
        ("a.json", {"growth": 1}, None),
    ],
)
def test_a_file_is_its_frameworks_by_suffix_and_content(tmp_path, name, model, found):
    """A suffix that several frameworks have is not enough: what the file holds decides."""
    joblib.dump(model, tmp_path / name)

    assert found == framework_of_file(tmp_path / name)


def test_json_is_a_model_only_with_a_models_keys(tmp_path):
    """Any other JSON beside a model is left alone."""
    heads = {
        "prophet": '{"growth": "linear", "changepoint_prior_scale": 0.05}',
        "ensemble": '{"methods": ["a"], "weights": [1]}',
        None: '{"notes": 1}',
    }
    for owner, head in heads.items():
        (tmp_path / "a.json").write_text(head)

        found = framework_of_file(tmp_path / "a.json")

        assert owner == (found and found[0])


@pytest.mark.parametrize("name", ["prophet", "statsmodels", "torch", "sklearn"])
def test_a_library_that_is_missing_is_named_with_its_extra(name, monkeypatch, tmp_path):
    """A framework whose library is not installed is refused before a file is opened."""
    monkeypatch.setitem(sys.modules, name, None)

    with pytest.raises(FrameworkError) as raised:
        framework_named(name).load(tmp_path / "missing", LoadContext())

    said = f"framework '{name}' needs the package '{name}', which is not installed; install it with"
    assert f"{said}: pip install 'bundleserver[{name}]'" == str(raised.value)


def test_an_unknown_framework_is_refused_with_the_nearest():
    """A misspelt name is answered with the known ones."""
    with pytest.raises(FrameworkError, match=r"is 'sklern'; expected one of .*mean 'sklearn'\?$"):
        framework_named("sklern")


class Leaves:
    """Ends the process while it is written, and while it is read."""

    def __init__(self, writes=False):
        self.writes = writes

    def __reduce__(self):
        if not self.writes:
            sys.exit("gone")
        return sys.exit, ("gone",)

    def fit(self):
        return self

    def predict(self, table):
        return table

    get_params = fit


def test_a_model_that_exits_ends_nothing(tmp_path):
    """sys.exit() in a model's code is an error of that model, when it is saved and when opened."""
    joblib.dump(Leaves(writes=True), tmp_path / "model.pkl")

    with pytest.raises(StoreError, match="SystemExit: gone"):
        framework_named("sklearn").save(Leaves(), tmp_path, "m")
    with pytest.raises(BundleError, match="SystemExit: gone"):
        framework_named("sklearn").load(tmp_path / "model.pkl", LoadContext())
