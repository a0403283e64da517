from __future__ import annotations

import collections
import copyreg
import io
import os
import pickle
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    VotingClassifier,
)
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from statsmodels.tsa.api import ExponentialSmoothing

from bundleserver.errors import LoadError
from bundleserver.frameworks import pickles
from bundleserver.frameworks.pickles.gate import Refused, open_stream
from bundleserver.frameworks.trust import CodeTrust, PicklePolicy

LISTED = CodeTrust(PicklePolicy.LISTED)
DENY = CodeTrust(PicklePolicy.DENY)
X = np.random.default_rng(0).normal(size=(60, 3))
Y = (X[:, 0] > 0).astype(int)
FRAME = pd.DataFrame(X, columns=["a", "b", "c"]).assign(t=np.where(Y, "u", "v"))


def opened(data: bytes, *allowed: str) -> object:
    """Open a pickle under the lists and these names of an operator."""
    return open_stream(io.BytesIO(data), CodeTrust(PicklePolicy.LISTED, frozenset(allowed)))


MODELS = [
    make_pipeline(StandardScaler(), LogisticRegression()).fit(X, Y),
    RandomForestClassifier(3, random_state=0).fit(X, Y),
    HistGradientBoostingClassifier(max_iter=3).fit(X, Y),
    KNeighborsClassifier(algorithm="kd_tree").fit(X, Y),
    KNeighborsClassifier(algorithm="ball_tree").fit(X, Y),
    VotingClassifier([("a", LogisticRegression())]).fit(X, np.where(Y, "yes", "no")),
    make_pipeline(FunctionTransformer(np.sign), LogisticRegression()).fit(X, Y),
]


@pytest.mark.parametrize("model", MODELS, ids=lambda model: type(model).__name__)
@pytest.mark.parametrize("protocol", range(6))
def test_a_listed_estimator_opens_with_the_same_predictions(
    model: object, protocol: int, tmp_path: Path
) -> None:
    """Whatever wrote the file, the gate makes the model that was saved."""
    plain, by_joblib = tmp_path / "plain.pkl", tmp_path / "model.joblib"
    plain.write_bytes(pickle.dumps(model, protocol))
    joblib.dump(model, by_joblib, protocol=protocol)

    for path in (plain, by_joblib):
        again = pickles.load(path, LISTED)
        assert type(model) is type(again)
        assert np.array_equal(model.predict(X), again.predict(X))


@pytest.mark.parametrize("method", ["zlib", "gzip", "bz2", "lzma", "xz"])
def test_every_compression_of_joblib_ends_in_the_same_gate(method: str, tmp_path: Path) -> None:
    """A compressed file opens if its pickle may, and is refused if not."""
    good, bad = tmp_path / "good.joblib", tmp_path / "bad.joblib"
    joblib.dump(MODELS[1], good, compress=(method, 3))
    joblib.dump([X, os.getcwd], bad, compress=(method, 3))

    assert np.array_equal(MODELS[1].predict(X), pickles.load(good, LISTED).predict(X))
    with pytest.raises(LoadError, match=r"'posix\.getcwd', which no list can allow \(.*\); use"):
        pickles.load(bad, LISTED)


def test_columns_of_a_table_open(tmp_path: Path) -> None:
    """A pipeline that was fitted on a table opens with its columns."""
    columns = ColumnTransformer(
        [("n", StandardScaler(), ["a", "b"]), ("c", OneHotEncoder(), ["t"])]
    )
    model = make_pipeline(columns, LogisticRegression()).fit(FRAME, Y)
    joblib.dump(model, tmp_path / "m.joblib")

    again = pickles.load(tmp_path / "m.joblib", LISTED)
    assert np.array_equal(model.predict(FRAME), again.predict(FRAME))


def test_deny_opens_no_pickle(tmp_path: Path) -> None:
    """Under deny a pickle is refused unread, with the formats that are not."""
    joblib.dump(MODELS[0], tmp_path / "m.joblib")

    with pytest.raises(LoadError, match="--pickle_policy=deny opens none; save it in a format"):
        pickles.load(tmp_path / "m.joblib", DENY)


def test_the_refusal_names_all_that_is_not_listed(tmp_path: Path) -> None:
    """An operator sees at once everything that a file would need."""
    joblib.dump([Path, collections.UserDict, X], tmp_path / "m.joblib")

    with pytest.raises(LoadError, match=r"'collections.UserDict', 'pathlib\.") as refused:
        pickles.load(tmp_path / "m.joblib", LISTED)
    assert "bundleserver inspect --pickles" in str(refused.value)


def test_a_name_of_the_operator_opens(tmp_path: Path) -> None:
    """What the operator listed is resolved, and only in the loads that have his list."""
    joblib.dump(collections.UserDict(a=1), tmp_path / "m.joblib")
    mine = CodeTrust(PicklePolicy.LISTED, frozenset({"collections.UserDict"}))

    assert {"a": 1} == dict(pickles.load(tmp_path / "m.joblib", mine))
    with pytest.raises(LoadError, match="UserDict"):
        pickles.load(tmp_path / "m.joblib", LISTED)


def test_a_bound_method_is_taken_only_of_an_ets_model() -> None:
    """What honest ETS models keep opens; no method of anything else does."""
    import statsmodels.api as sm

    fitted = sm.tsa.ETSModel(np.arange(1.0, 30.0), trend="add").fit(disp=False, maxiter=2)
    assert np.allclose(fitted.forecast(2), opened(pickle.dumps(fitted)).forecast(2))

    for made in (fitted.model.predict, FRAME.to_pickle, MODELS[0].predict):
        with pytest.raises(Refused, match="attribute of what is no listed class"):
            opened(pickle.dumps(made))


def test_a_smoothing_of_compiled_code_gets_only_arrays_that_fit_together() -> None:
    """Whoever calls the smoothing of an ETS model with other sizes is told, before it reads."""
    import statsmodels.tsa.exponential_smoothing._ets_smooth as compiled

    smooth = opened(pickle.dumps(compiled._ets_smooth_mul_mul))
    params, fixed, values = np.ones(7), np.zeros(7, np.int64), np.ones(7)
    sound = [params, np.ones(4), np.ones(4), np.ones((4, 3)), fixed, values]
    smooth(*sound)

    others = [
        (0, np.ones(2)),
        (1, np.ones(3)),
        (2, np.ones(0)),
        (3, np.ones((9, 3))),
        (3, np.ones((4, 2))),
        (4, np.zeros(50, np.int64)),
        (5, [1.0] * 7),
    ]
    for at, wrong in others:
        with pytest.raises(ValueError, match="an ETS model"):
            smooth(*[wrong if place == at else value for place, value in enumerate(sound)])


@pytest.mark.parametrize("library", ["lightgbm.basic", "xgboost.core"])
def test_a_booster_has_its_trees_as_bytes_and_no_address(library: str) -> None:
    """What a booster frees in the end is never a number of the file."""
    kind = pytest.importorskip(library).Booster

    for state in ({"handle": 4096}, {"_handle": 4096, "handle": None}, collections.Counter(a=1)):
        data = pickle.dumps(_Built(kind, state), 2)
        with pytest.raises(Refused, match="a booster is a"):
            opened(data)


class _Built:
    """Pickles as a class that is given a state of our own."""

    def __init__(self, kind: type, state: object) -> None:
        self._what = kind, state

    def __reduce__(self) -> tuple[object, ...]:
        return copyreg._reconstructor, (self._what[0], object, None), self._what[1]


@pytest.mark.parametrize("protocol", range(6))
def test_what_was_smoothed_opens_in_each_protocol(protocol: int, tmp_path: Path) -> None:
    """A result holds scipy's inverse Hessian, a class that has a constructor of its own."""
    made = ExponentialSmoothing([3.0, 4.0, 6.0, 5.0, 7.0, 9.0], trend="add").fit()
    (tmp_path / "m.pkl").write_bytes(pickle.dumps(made, protocol))

    again = pickles.load(tmp_path / "m.pkl", LISTED)

    assert np.allclose(made.forecast(3), again.forecast(3))
