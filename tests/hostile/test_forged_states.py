"""Listed models of compiled code, with forged states: no process that asks them dies."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.sparse
from sklearn import cluster, decomposition, ensemble, feature_extraction, mixture, neighbors, svm
from sklearn import preprocessing as pre
from sklearn.feature_extraction import text

from tests.hostile.forging import Death, deaths

X = np.random.default_rng(21).normal(size=(30, 3))
Y = np.arange(30) % 3
SPARSE = scipy.sparse.csr_matrix(X)
TEXTS = ["one two", "two three four"] * 15
EVERY = 3
"""Every so many of the forged states is tried, from another one for each model."""

MODELS: dict[str, Callable[[], tuple[Any, Any]]] = {
    "forest": lambda: (ensemble.RandomForestClassifier(2, max_depth=2).fit(X, Y), X),
    "isolation": lambda: (ensemble.IsolationForest(n_estimators=2).fit(X), X),
    "boosting": lambda: (ensemble.GradientBoostingClassifier(n_estimators=2).fit(X, Y), X),
    "histograms": lambda: (
        ensemble.HistGradientBoostingRegressor(
            max_iter=2, min_samples_leaf=3, categorical_features=[0]
        ).fit(np.column_stack([Y, X]), X[:, 0]),
        np.column_stack([Y, X]),
    ),
    "machine": lambda: (svm.SVC().fit(X, Y), X),
    "sparse machine": lambda: (svm.SVC(kernel="linear").fit(SPARSE, Y), SPARSE),
    "regression": lambda: (svm.NuSVR().fit(X, X[:, 0]), X),
    "one class": lambda: (svm.OneClassSVM().fit(X), X),
    "neighbors": lambda: (neighbors.KNeighborsClassifier(2, algorithm="kd_tree").fit(X, Y), X),
    "all rows": lambda: (
        neighbors.KNeighborsClassifier(2, algorithm="brute", metric="manhattan").fit(X, Y),
        X,
    ),
    "radius": lambda: (
        neighbors.RadiusNeighborsClassifier(9.0, algorithm="brute", metric="manhattan").fit(X, Y),
        X,
    ),
    "density": lambda: (neighbors.KernelDensity(leaf_size=4).fit(X, None, np.ones(30)), X),
    "outliers": lambda: (neighbors.LocalOutlierFactor(2, novelty=True).fit(X), X),
    "clusters": lambda: (cluster.KMeans(2, n_init=1).fit(X), X),
    "bisected": lambda: (cluster.BisectingKMeans(3).fit(X), X),
    "mixture": lambda: (mixture.GaussianMixture(2).fit(X), X),
    "factors": lambda: (decomposition.NMF(2, max_iter=20).fit(np.abs(X)), np.abs(X)),
    "topics": lambda: (decomposition.LatentDirichletAllocation(2, max_iter=2).fit(np.abs(X)), X),
    "dictionary": lambda: (
        decomposition.DictionaryLearning(2, max_iter=2, transform_algorithm="lasso_cd").fit(X),
        X,
    ),
    "categories": lambda: (
        pre.OneHotEncoder(min_frequency=3, handle_unknown="infrequent_if_exist").fit(np.round(X)),
        np.round(X),
    ),
    "dropped": lambda: (pre.OneHotEncoder(drop="first").fit(np.round(X)), np.round(X)),
    "bins": lambda: (pre.KBinsDiscretizer(3, quantile_method="linear").fit(X), X),
    "targets": lambda: (pre.TargetEncoder().fit(np.round(X), Y), np.round(X)),
    "splines": lambda: (pre.SplineTransformer().fit(X), X),
    "sparse splines": lambda: (pre.SplineTransformer(sparse_output=True).fit(X), X),
    "powers": lambda: (pre.PolynomialFeatures(3).fit(X), X),
    "sparse powers": lambda: (pre.PolynomialFeatures().fit(SPARSE), SPARSE),
    "sets": lambda: (pre.MultiLabelBinarizer().fit([["a"], ["b"]]), [["a"], ["b"]]),
    "words": lambda: (text.TfidfVectorizer().fit(TEXTS), TEXTS),
    "hashes": lambda: (text.HashingVectorizer(n_features=8).fit(TEXTS), TEXTS),
    "keys": lambda: (
        feature_extraction.DictVectorizer().fit([{"a": 1, "b": 2}]),
        [{"a": 1, "b": 2}],
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_no_forged_state_ends_a_process(name: str) -> None:
    """Whatever one attribute is instead, the file is refused, or asking ends in an answer."""
    model, rows = MODELS[name]()
    assert [*deaths(name, model, rows, EVERY, [*MODELS].index(name) % EVERY)] == []


def test_a_death_is_seen() -> None:
    """The test above fails where a process dies."""
    model, rows = MODELS["hashes"]()

    def die(_model: Any, _rows: Any) -> None:
        os.abort()

    found = [*deaths("hashes", model, rows, 40, 0, die)]
    assert found
    assert all(type(death) is Death and death.signal == 6 for death in found)
