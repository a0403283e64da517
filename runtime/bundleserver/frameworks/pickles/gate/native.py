"""Objects of compiled code that believes its numbers: indexes in them are compared with lengths.

Without these rules a file could make a prediction read, or write, outside of its arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np

from bundleserver.frameworks.pickles.gate.refusal import Refused

Array = np.ndarray[Any, Any]


def _check(*, holds: bool, what: str) -> None:
    if not holds:
        raise Refused(f"{what} are not consistent")


def _within(values: Any, lowest: Any, highest: int) -> bool:
    """Ask whether all integers are from the lowest (a number, or one for each) to below highest."""
    array = np.asarray(values)
    if array.size == 0:
        return True
    return bool(array.dtype.kind in "iu" and (array >= lowest).all() and (array < highest).all())


def _check_tree(made: object) -> None:
    """Check that each node of a tree leads to later nodes, and asks for a column that is there."""
    tree: Any = made
    left, right, count = tree.children_left, tree.children_right, tree.node_count
    inner = np.flatnonzero(left != -1)
    is_sound = (
        count >= 1
        and _within(left[inner], inner + 1, count)
        and _within(right[inner], inner + 1, count)
        and _within(tree.feature[inner], 0, tree.n_features)
    )
    _check(holds=is_sound, what="the nodes of a decision tree")


def _check_tree_estimator(made: object) -> None:
    attributes = vars(made)
    tree = attributes.get("tree_")
    if tree is not None:
        width = attributes.get("n_features_in_")
        _check(holds=tree.n_features == width, what="the columns of a decision tree")


def _check_boosted_trees(made: object) -> None:
    """Check gradient boosting, whose compiled code adds each tree to a column of its sums."""
    attributes = vars(made)
    trees = attributes.get("estimators_")
    if trees is None:
        return
    of_all = getattr(made, "n_trees_per_iteration_", None)
    is_table = isinstance(trees, np.ndarray) and trees.dtype == object and trees.ndim == 2
    is_sound = is_table and trees.size > 0 and trees.shape[1] == of_all
    if is_sound:
        width = trees[0, 0].n_features_in_
        is_sound = all(tree.tree_.n_features == width for tree in trees.flat)
        is_sound = is_sound and _starts_with(attributes.get("init_"), trees.shape[1])
    _check(holds=bool(is_sound), what="the trees of a gradient boosting model")


def _starts_with(first: Any, columns: int) -> bool:
    """Ask whether the model that boosting starts with has as many columns as there are trees."""
    if isinstance(first, str):
        return first == "zero"
    name = type(first).__name__
    if type(first).__module__ != "sklearn.dummy" or first.n_outputs_ != 1:
        return False
    if name == "DummyRegressor":
        return columns == 1 and np.shape(first.constant_) == (1, 1)
    is_prior = first.strategy in ("prior", "most_frequent")
    return is_prior and np.shape(first.class_prior_) == (max(2, columns),)


def _check_histogram_trees(made: object) -> None:
    """Check the trees of histogram gradient boosting."""
    attributes = vars(made)
    width = attributes.get("n_features_in_")
    categorical = attributes.get("is_categorical_")
    for row in attributes.get("_predictors", ()):
        for tree in row:
            _check_histogram_tree(tree, cast(int, width), categorical)


def _check_histogram_tree(tree: Any, width: int, categorical: Any) -> None:
    nodes = tree.nodes
    is_sound = isinstance(nodes, np.ndarray) and nodes.ndim == 1 and nodes.size > 0
    if is_sound:
        inner = np.flatnonzero(nodes["is_leaf"] == 0)
        after, columns = inner.astype(np.int64) + 1, nodes["feature_idx"][inner]
        is_sound = (
            _within(nodes["left"][inner].astype(np.int64), after, nodes.size)
            and _within(nodes["right"][inner].astype(np.int64), after, nodes.size)
            and _within(columns, 0, width)
        )
        chosen = nodes[inner][nodes["is_categorical"][inner] != 0]
        if is_sound and chosen.size:
            known = np.asarray(categorical)
            is_sound = (
                known.shape == (width,)
                and bool(known[chosen["feature_idx"]].all())
                and _within(chosen["bitset_idx"], 0, len(tree.raw_left_cat_bitsets))
            )
    _check(holds=bool(is_sound), what="the nodes of a gradient boosting model")


def _check_neighbors_tree(made: object) -> None:
    """Check a KD tree or ball tree."""
    data, order, nodes, bounds, _, _, count = cast(Any, made).__getstate__()[:7]
    data, order, bounds = np.asarray(data), np.asarray(order), np.asarray(bounds)
    nodes = np.asarray(nodes)
    start, end = nodes["idx_start"], nodes["idx_end"]
    inner = np.flatnonzero(nodes["is_leaf"] == 0)
    is_sound = (
        data.ndim == 2
        and order.shape == (len(data),)
        and _within(order, 0, len(data))
        and nodes.shape == (count,)
        and _within(start, 0, len(data) + 1)
        and _within(end, start, len(data) + 1)
        and _within(2 * inner + 2, 0, count)
        and bounds.ndim == 3
        and bounds.shape[1:] == (count, data.shape[1])
        and bounds.shape[0] >= (2 if "KDTree" in type(made).__name__ else 1)
    )
    _check(holds=bool(is_sound), what="the nodes of a tree of neighbors")


def _check_sparse(made: object) -> None:
    """Check that a sparse matrix has its values inside of its shape."""
    matrix: Any = made
    check = getattr(matrix, "check_format", None)
    try:
        if check is not None:
            check(full_check=True)
        elif matrix.format == "coo":
            rows, columns = matrix.row, matrix.col
            is_sound = _within(rows, 0, matrix.shape[0]) and _within(columns, 0, matrix.shape[1])
            is_sound = is_sound and len(rows) == len(columns) == len(matrix.data)
            _check(holds=is_sound, what="the values of a sparse matrix")
    except ValueError as error:
        raise Refused(f"a sparse matrix is not consistent: {error}") from error


def _check_support_vectors(made: object) -> None:
    """Check the arrays that libsvm reads side by side."""
    attributes = vars(made)
    if "support_vectors_" not in attributes:
        return
    vectors, own = attributes["support_vectors_"], np.asarray(attributes["_n_support"])
    count, width = vectors.shape
    weights = attributes["_dual_coef_"]
    classes = len(attributes["classes_"]) if "classes_" in attributes else 2
    pairs = classes * (classes - 1) // 2
    is_sound = (
        np.shape(attributes["support_"]) == (count,)
        and weights.shape == (classes - 1, count)
        and _within(own, 0, count + 1)
        and (own.size == classes if "classes_" in attributes else own.size <= 2)
        and (int(own.sum()) == count or "classes_" not in attributes)
        and np.shape(attributes["_intercept_"]) == (pairs,)
        and all(np.size(attributes.get(name, ())) in (0, pairs) for name in ("_probA", "_probB"))
        and attributes.get("n_features_in_", width) in (width, attributes["shape_fit_"][1])
    )
    _check(holds=bool(is_sound), what="the support vectors of a model")


def _check_spline(made: object) -> None:
    """Check that a spline has a coefficient for each of its functions."""
    spline: Any = made
    knots, degree = np.asarray(spline.t), spline.k
    is_sound = type(degree) is int and degree >= 0 and knots.ndim == 1
    is_sound = is_sound and knots.size >= 2 * (degree + 1)
    is_sound = is_sound and len(spline.c) >= knots.size - degree - 1
    _check(holds=bool(is_sound), what="the coefficients of a spline")


NATIVE_AUDITS: Mapping[str, Callable[[object], None]] = {
    "sklearn.tree._tree.Tree": _check_tree,
    "sklearn.tree._classes.BaseDecisionTree": _check_tree_estimator,
    "sklearn.ensemble._gb.BaseGradientBoosting": _check_boosted_trees,
    "sklearn.ensemble._hist_gradient_boosting.gradient_boosting.BaseHistGradientBoosting": (
        _check_histogram_trees
    ),
    "sklearn.neighbors._kd_tree.BinaryTree64": _check_neighbors_tree,
    "sklearn.neighbors._kd_tree.BinaryTree32": _check_neighbors_tree,
    "sklearn.neighbors._ball_tree.BinaryTree64": _check_neighbors_tree,
    "sklearn.neighbors._ball_tree.BinaryTree32": _check_neighbors_tree,
    "scipy.sparse._base._spbase": _check_sparse,
    "sklearn.svm._base.BaseLibSVM": _check_support_vectors,
    "scipy.interpolate._bsplines.BSpline": _check_spline,
}
"""Checks of finished objects, by the names of their classes or of what those extend."""
