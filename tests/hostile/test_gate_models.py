"""What models of a hostile pickle are made of: other objects, other methods, other sizes."""

from __future__ import annotations

import functools
import io
import pickle
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import BaggingClassifier, HistGradientBoostingClassifier
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from bundleserver.frameworks.pickles.gate import open_stream
from bundleserver.frameworks.pickles.gate.refusal import Refused
from bundleserver.frameworks.trust import CodeTrust, PicklePolicy

X = np.random.default_rng(3).normal(size=(40, 3))
Y = (X[:, 0] > 0).astype(int)


def opened(model: object, protocol: int = 4) -> Any:
    """Save an object, and open it through the gate."""
    data = io.BytesIO(pickle.dumps(model, protocol))
    return open_stream(data, CodeTrust(PicklePolicy.LISTED))


def with_state(model: object, **state: object) -> object:
    """Give an object more attributes."""
    vars(model).update(state)
    return model


SERIES = pd.Series([1.0, 2.0])
PARTS = {
    "namespace_in_steps": lambda: Pipeline([("a", SimpleNamespace(transform=np.log))]),
    "table_in_steps": lambda: Pipeline([("a", pd.DataFrame({"a": [1]}))]),
    "tree_in_steps": lambda: Pipeline([("a", KNeighborsClassifier().fit(X, Y)._tree)]),
    "series_in_a_scaler": lambda: with_state(StandardScaler(), mean_=SERIES),
    "namespace_deep": lambda: with_state(StandardScaler(), a={"b": [(SimpleNamespace(),)]}),
    "namespace_in_an_array": lambda: with_state(
        BaggingClassifier(), estimators_=np.array([SimpleNamespace()], object)
    ),
    "method": lambda: with_state(BaggingClassifier(), _parallel_args=functools.partial(np.log)),
    "predict": lambda: with_state(LogisticRegression(), predict=np.log),
    "estimator_as_method": lambda: with_state(BaggingClassifier(), predict=LogisticRegression()),
    "class_as_function": lambda: FunctionTransformer(dict),
    "out": lambda: FunctionTransformer(np.negative, kw_args={"out": X}),
    "out_in_a_tuple": lambda: FunctionTransformer(np.negative, kw_args={"out": (X,)}),
    "where": lambda: FunctionTransformer(np.negative, kw_args={"where": True}),
    "casting": lambda: FunctionTransformer(np.negative, inv_kw_args={"casting": "unsafe"}),
    "array_keyword": lambda: FunctionTransformer(np.negative, kw_args={"a": X}),
    "partial_out": lambda: functools.partial(np.negative, out=X),
    "partial_array": lambda: functools.partial(np.negative, X),
    "metric_out": lambda: with_state(KNeighborsClassifier(), metric_params={"out": X}),
    "threads": lambda: with_state(KMeans(2).fit(X), _n_threads=1 << 20),
    "input_array": lambda: with_state(CountVectorizer(), input=np.array("content")),
    "input_of_strings": lambda: with_state(CountVectorizer(), input=np.str_("content")),
}  # fmt: skip


@pytest.mark.parametrize("name", PARTS)
def test_a_model_is_made_of_estimators_and_plain_values(name: str) -> None:
    """Nothing else answers where a model asks its parts, and nothing says where results go."""
    with pytest.raises(Refused):
        opened(PARTS[name]())


def test_functions_with_plain_keywords_open() -> None:
    """What honest transformers are called with is kept."""
    model = FunctionTransformer(np.negative, kw_args={"order": "K"}).fit(X)
    assert np.array_equal(-X, opened(model).transform(X))
    assert opened(functools.partial(np.log1p, order="K"))(1.0) == np.log1p(1.0)


def test_a_checked_array_is_the_models_own() -> None:
    """Whoever has an array that was checked, in another place, does not change the model."""
    model = HistGradientBoostingClassifier(max_iter=2, min_samples_leaf=3).fit(X, Y)
    nodes = model._predictors[0][0].nodes
    shared, again = opened([nodes, model])
    before = again.predict_proba(X)
    shared["left"] = 1 << 20
    shared["value"] = 9
    assert np.array_equal(before, again.predict_proba(X))


def test_a_wrapper_of_statsmodels_has_results() -> None:
    """A table is not asked to evaluate a text that a request or a file has."""
    from statsmodels.regression.linear_model import OLS, RegressionResultsWrapper

    results = OLS(X[:, 0], X[:, 1:]).fit()
    assert np.allclose(results.predict(X[:, 1:]), opened(results).predict(X[:, 1:]))
    bare = object.__new__(RegressionResultsWrapper)
    object.__getattribute__(bare, "__dict__").update(_results=pd.DataFrame({"a": [1]}))
    with pytest.raises(Refused):
        opened(bare)


def boosted() -> HistGradientBoostingClassifier:
    """Return boosting with a column of categories."""
    model = HistGradientBoostingClassifier(
        max_iter=5, min_samples_leaf=2, categorical_features=[True, False, False]
    )
    return model.fit(np.column_stack([np.arange(40) % 4, X[:, :2]]), (np.arange(40) % 4 > 1) * 1)


def other_bins(model: Any) -> Any:
    """Let the bins have other categories than the trees."""
    model._bin_mapper.is_categorical_ = np.zeros(1, np.uint8)
    return model


def fewer_columns(model: Any) -> Any:
    """Let what prepares the columns answer with one of them."""
    rows = np.column_stack([np.arange(40) % 4, X[:, :2]])
    model._preprocessor = ColumnTransformer([("a", "passthrough", [1])]).fit(rows)
    return model


@pytest.mark.parametrize("categorical", [[0], [1, 2], [2]])
def test_columns_of_categories_may_be_anywhere(categorical: list[int]) -> None:
    """Trees have them before the others, and the rows come to them in that order."""
    rows = np.column_stack([X[:, 0], np.arange(40) % 4, np.arange(40) % 3])
    rows[:, categorical] = rows[:, categorical].round() % 4
    kind = HistGradientBoostingClassifier
    model = kind(max_iter=5, min_samples_leaf=2, categorical_features=categorical)
    model.fit(rows, np.arange(40) % 2)

    assert np.array_equal(model.predict_proba(rows), opened(model).predict_proba(rows))


def test_trees_get_as_many_columns_as_they_read() -> None:
    """What prepares the columns of a model does not leave some out; nor for another model."""
    model, rows = boosted(), np.column_stack([np.arange(40) % 4, X[:, :2]])
    same, other = opened([model, fewer_columns(boosted())])

    assert np.array_equal(model.predict(rows), same.predict(rows))
    with pytest.raises(ValueError, match=r"expected \(40, 3\)"):
        other.predict(rows)


def weights(model: Any) -> Any:
    """Let a metric have fewer weights than the data have columns."""
    state = list(model._tree.__getstate__())
    metric = state[11]
    maker, args, (power, _, inverse) = (*metric.__reduce__()[:2], metric.__getstate__())
    state[11] = Forged(maker, args, (power, np.ones(1), inverse))
    maker, args, *_ = model._tree.__reduce__()
    return Forged(maker, args, tuple(state))


class Forged:
    """An object with another state than its own."""

    def __init__(self, *parts: object) -> None:
        self.parts = parts

    def __reduce__(self) -> object:
        return self.parts


def lil_outside() -> object:
    """Return a sparse matrix with a value outside of its columns."""
    matrix = scipy.sparse.lil_array(np.eye(3))
    matrix.rows[0] = [1 << 20]
    return matrix


SIZES = {
    "bins": lambda: other_bins(boosted()),
    "weights": lambda: weights(
        KNeighborsClassifier(
            algorithm="ball_tree", metric="seuclidean", metric_params={"V": np.ones(3)}
        ).fit(X, Y)
    ),
    "sparse": lil_outside,
}


@pytest.mark.parametrize("name", SIZES)
def test_compiled_code_gets_sizes_that_agree(name: str) -> None:
    """Categories, weights and columns are those that the model has."""
    with pytest.raises(Refused):
        opened(SIZES[name]())
    assert opened(boosted()) is not None


def test_the_state_space_makes_its_compiled_parts_itself() -> None:
    """What a file has of them is dropped, the forecast is the same, and blocks are inside."""
    from statsmodels.tsa.arima.model import ARIMA

    results = ARIMA(X[:, 0].cumsum(), order=(1, 1, 1)).fit()
    again = opened(results)
    assert again.model.ssm._kalman_filters == {}
    assert np.allclose(results.forecast(3), again.forecast(3))
    assert again.model.ssm.prefix_statespace_map == results.model.ssm.prefix_statespace_map

    results.model.ssm.prefix_statespace_map["d"] = dict
    assert opened(results).model.ssm.prefix_statespace_map["d"] is not dict
    blocks = results.model.ssm.initialization.blocks
    blocks[(np.int64(1 << 20),)] = blocks.pop(next(iter(blocks)))
    with pytest.raises(Refused, match="begins with"):
        opened(results)
