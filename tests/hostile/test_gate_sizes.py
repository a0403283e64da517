"""Sizes in the state of listed classes that do not agree: compiled code would believe them."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from sklearn.cluster import BisectingKMeans, KMeans
from sklearn.ensemble import (
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingRegressor,
    IsolationForest,
    RandomForestRegressor,
)
from sklearn.feature_extraction import DictVectorizer
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.mixture import GaussianMixture
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neighbors import KernelDensity, KNeighborsClassifier, NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    MultiLabelBinarizer,
    OneHotEncoder,
    PolynomialFeatures,
    StandardScaler,
    TargetEncoder,
)
from sklearn.svm import SVC, SVR

from bundleserver.frameworks.pickles.gate.refusal import Refused
from tests.hostile.test_gate_models import Forged, opened, with_state

DRAWN = np.random.default_rng(11)
X = DRAWN.normal(size=(60, 3))
NUMBERS = X @ [1.0, -2.0, 0.5]
Y = np.arange(60) % 3
WORDS = pd.DataFrame({"n": X[:, 0], "w": pd.Categorical([*"abc"] * 20), "m": X[:, 1]})


def other_tree(member: Any, width: int) -> None:
    """Let a tree of a forest read another number of columns."""
    make, (_, *rest), state = member.tree_.__reduce__()
    member.tree_, member.n_features_in_ = Forged(make, (width, *rest), state), width


def wide_forest(model: Any, width: int = 1 << 20) -> object:
    """Return a forest whose last tree reads many columns."""
    other_tree(model.estimators_[-1], width)
    return model


def other_density() -> object:
    """Return densities of more rows than there are weights."""
    model = KernelDensity(leaf_size=5).fit(X, sample_weight=np.ones(60))
    make, args, state = model.tree_.__reduce__()
    model.tree_ = Forged(make, args, (*state[:12], np.ones(2)))
    return model


def no_leaves() -> object:
    """Return neighbors in leaves of no rows."""
    model = NearestNeighbors(algorithm="kd_tree").fit(X)
    make, args, state = model._tree.__reduce__()
    model._tree = Forged(make, args, (*state[:4], 0, *state[5:]))
    return model


def sparse_machine(change: Callable[[Any], None]) -> object:
    """Return a machine that was fitted on sparse rows, changed."""
    model = SVC().fit(scipy.sparse.csr_matrix(X), Y)
    change(model)
    return model


def no_data(model: Any) -> None:
    """Take the values from a matrix, and leave its shape."""
    model._dual_coef_ = scipy.sparse.csr_matrix(model._dual_coef_.shape)


def short_kernel() -> object:
    """Return a machine whose own kernel gets fewer rows than it was fitted on."""
    from sklearn.metrics.pairwise import rbf_kernel

    model = SVC(kernel="precomputed").fit(rbf_kernel(X), Y)
    return with_state(model, kernel=np.clip, _BaseLibSVM__Xfit=X[:1])


def infrequent(**state: Any) -> object:
    """Return an encoder with seldom categories."""
    rows = np.array([["a"]] * 9 + [["b"], ["c"], ["d"]])
    return with_state(OneHotEncoder(min_frequency=3).fit(rows), **state)


def narrow_boosting() -> object:
    """Return boosting whose trees read a column that its first step drops."""
    model = HistGradientBoostingRegressor(max_iter=2, min_samples_leaf=3).fit(X, NUMBERS)
    return with_state(model, n_features_in_=np.array([3]))


def categories_beyond() -> object:
    """Return boosting with a category that is no bit."""
    model = HistGradientBoostingRegressor(max_iter=2, categorical_features=["w"]).fit(
        WORDS, NUMBERS
    )
    model._bin_mapper.bin_thresholds_[0] = np.array([1.0, 999.0])
    return model


def bisected() -> object:
    """Return clusters, one in a corner of the tree with fewer numbers."""
    model = BisectingKMeans(4, random_state=1).fit(X)
    model._bisecting_tree.right.center = np.zeros(1)
    return model


def no_width() -> object:
    """Return clusters that do not say how many columns they have."""
    model = KMeans(2, n_init=1).fit(X)
    del model.n_features_in_
    return model


SIZES: dict[str, Callable[[], object]] = {
    "outs": lambda: with_state(OneHotEncoder().fit(X), _n_features_outs=[1, 2, 3]),
    "outs_of_floats": lambda: with_state(OneHotEncoder().fit(X), _n_features_outs=[60.0] * 3),
    "one_out_less": lambda: with_state(OneHotEncoder().fit(X), _n_features_outs=[60, 60]),
    "dropped": lambda: with_state(
        OneHotEncoder(drop="first").fit(X[:, :1]), _drop_idx_after_grouping=np.array([70], object)
    ),
    "seldom": lambda: infrequent(_default_to_infrequent_mappings=[np.array([0, 1, 1, 9])]),
    "seldom_of_nothing": lambda: infrequent(_default_to_infrequent_mappings=[None]),
    "words": lambda: with_state(CountVectorizer().fit(["one two"]), vocabulary_={"one": 1 << 30}),
    "words_below": lambda: with_state(CountVectorizer().fit(["one two"]), vocabulary_={"one": -1}),
    "words_twice": lambda: with_state(
        CountVectorizer().fit(["one two"]), vocabulary_={"one": 1, "two": 1}
    ),
    "keys": lambda: with_state(DictVectorizer().fit([{"a": 1}]), vocabulary_={"a": np.int64(5)}),
    "labels": lambda: with_state(MultiLabelBinarizer().fit([["a"]]), _cached_dict={"a": 4096}),
    "hashes_to_none": lambda: HashingVectorizer(n_features=0),
    "hashes_below": lambda: HashingVectorizer(n_features=-1),
    "powers": lambda: with_state(PolynomialFeatures().fit(X), _n_out_full=4_000),
    "stands_for_more": lambda: with_state(
        TargetEncoder().fit(np.array([["a"], ["b"]] * 30), Y), classes_=np.arange(90)
    ),
    "forest": lambda: wide_forest(RandomForestRegressor(3).fit(X, NUMBERS)),
    "isolation": lambda: wide_forest(IsolationForest(n_estimators=3).fit(X)),
    "isolation_of_few": lambda: with_state(
        IsolationForest(n_estimators=3, max_features=2).fit(X), _max_features=3
    ),
    "boosting": narrow_boosting,
    "categories": categories_beyond,
    "answers": lambda: with_state(KNeighborsClassifier(algorithm="brute").fit(X, Y), _y=Y[:7]),
    "answers_of_no_class": lambda: with_state(
        KNeighborsClassifier(algorithm="brute").fit(X, Y), _y=np.full(60, 1 << 33)
    ),
    "fewer_classes": lambda: with_state(
        KNeighborsClassifier(algorithm="brute").fit(X, Y), classes_=np.arange(2)
    ),
    "rows": lambda: with_state(NearestNeighbors(algorithm="brute").fit(X), _fit_X=X[:, :1]),
    "rows_and_tree": lambda: with_state(NearestNeighbors(algorithm="kd_tree").fit(X), _fit_X=X[1:]),
    "no_leaves": no_leaves,
    "density": other_density,
    "sparse_machine": lambda: sparse_machine(no_data),
    "half_sparse": lambda: sparse_machine(lambda model: vars(model).update(_sparse=False)),
    "regression": lambda: with_state(SVR().fit(X, NUMBERS), _n_support=np.zeros(0, "i4")),
    "other_machine": lambda: with_state(SVR().fit(X, NUMBERS), _impl="c_svc"),
    "short_kernel": short_kernel,
    "clusters": lambda: with_state(KMeans(2, n_init=1).fit(X), cluster_centers_=np.zeros((2, 1))),
    "clusters_in_a_tree": bisected,
    "no_width": no_width,
    "threads": lambda: with_state(KMeans(2, n_init=1).fit(X), _n_threads=-1),
    "mixture": lambda: with_state(
        GaussianMixture(2).fit(X), precisions_cholesky_=np.zeros((1, 3, 3))
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SIZES)
def test_sizes_agree(name: str) -> None:
    """Places, widths and lengths are those of the arrays that the model has."""
    with pytest.raises(Refused, match=r"consistent|a number from"):
        opened(SIZES[name]())


def test_boosting_with_categories_of_a_table_answers() -> None:
    """The first step moves columns, and the trees read them where they are then."""
    model = HistGradientBoostingRegressor(
        max_iter=5, min_samples_leaf=2, categorical_features="from_dtype"
    ).fit(WORDS, NUMBERS + (WORDS["w"] == "b"))
    again = opened(model)
    assert np.array_equal(model.predict(WORDS), again.predict(WORDS))
    assert np.array_equal(model.predict(WORDS), opened(copy.deepcopy(again)).predict(WORDS))
    assert type(pickle.loads(pickle.dumps(again))._preprocessor) is type(model._preprocessor)


def test_boosting_gets_the_columns_that_its_trees_read() -> None:
    """A first step with fewer columns ends in an error, not behind the table."""
    model = HistGradientBoostingRegressor(
        max_iter=5, min_samples_leaf=2, categorical_features="from_dtype"
    ).fit(WORDS, NUMBERS)
    model._preprocessor = StandardScaler().fit(X[:, :2])
    with pytest.raises(ValueError, match=r"returns \(60, 2\) numbers; expected \(60, 3\)"):
        opened(model).predict(X[:, :2])


def test_boosting_from_another_model_answers() -> None:
    """Whatever boosting starts with opens, and is asked for a number for each row and tree."""
    models: list[Any] = [
        GradientBoostingRegressor(n_estimators=3, init=LinearRegression()).fit(X, NUMBERS),
        GradientBoostingClassifier(n_estimators=3, init=LogisticRegression()).fit(X, Y),
        GradientBoostingClassifier(n_estimators=3, init=LogisticRegression()).fit(X, Y > 0),
        GradientBoostingClassifier(n_estimators=3).fit(X, Y),
    ]
    for model in models:
        assert np.array_equal(model.predict(X), opened(model).predict(X))


def test_boosting_starts_with_a_number_for_each_row() -> None:
    """Compiled code adds to these numbers, and there are as many as it has rows."""
    start = LinearRegression().fit(X, NUMBERS)
    model = GradientBoostingRegressor(n_estimators=3, init=start).fit(X, NUMBERS)
    model.init_.coef_ = np.zeros((0, 3))
    with pytest.raises(ValueError, match=r"expected \(60,\)"):
        opened(model).predict(X)


_PLACES = "outside of its shape|do not rise|indices|index"


def test_no_sparse_matrix_is_made_with_values_outside_of_it() -> None:
    """A model that would make one ends in an error, however it comes to the place."""
    labels = np.stack([Y > 0, Y > 1], 1).astype(int)
    model = OneVsRestClassifier(LogisticRegression()).fit(X, labels)
    for member in model.estimators_:
        # One row is asked, and gets many answers.
        member.intercept_ = np.full((50_000, 1), 9.0)
    again = opened(model)
    with pytest.raises(ValueError, match=r"indices|outside"):
        again.predict(X[:1])
    for pointers, places in (([0, 1], [7]), ([0, 2], [0, -1]), ([0, 9, 0], [0])):
        rows = len(pointers) - 1
        data = (np.ones(len(places)), np.array(places), np.array(pointers))
        for matrix in (scipy.sparse.csr_matrix, scipy.sparse.csr_array):
            with pytest.raises(ValueError, match=_PLACES):
                matrix(data, shape=(rows, 3))
        with pytest.raises(ValueError, match=_PLACES):
            scipy.sparse.csc_matrix(data, shape=(3, rows))


def test_words_and_sparse_rows_answer_as_before() -> None:
    """Honest models that make sparse matrices are not in the way of the check."""
    texts = ["one two", "two three", "four"] * 20
    model = make_pipeline(CountVectorizer(), SVC()).fit(texts, Y)
    assert np.array_equal(model.predict(texts), opened(model).predict(texts))
    encoder = OneHotEncoder(min_frequency=3, drop="first").fit(np.round(X))
    assert (encoder.transform(np.round(X)) != opened(encoder).transform(np.round(X))).nnz == 0
