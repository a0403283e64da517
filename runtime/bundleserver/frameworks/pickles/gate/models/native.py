"""Objects of compiled code that believes its numbers: indexes in them are compared with lengths.

Without these rules a file could make a prediction read, or write, outside of its arrays.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Mapping
from typing import Any, cast

import numpy as np

from bundleserver.frameworks.pickles.gate.listing import own_names
from bundleserver.frameworks.pickles.gate.refusal import Refused
from bundleserver.frameworks.pickles.gate.session import Rule, Session

Array = np.ndarray[Any, Any]
_BY_HISTOGRAM = "sklearn.ensemble._hist_gradient_boosting"
_OF_COLUMNS = "sklearn.compose._column_transformer.ColumnTransformer"


def _check(*, holds: bool, what: str) -> None:
    if not holds:
        raise Refused(f"{what} are not consistent")


def _within(values: Any, lowest: Any, highest: int) -> bool:
    """Ask whether all integers are from the lowest (a number, or one for each) to below highest."""
    array = np.asarray(values)
    if array.size == 0:
        return True
    return bool(array.dtype.kind in "iu" and (array >= lowest).all() and (array < highest).all())


def _check_tree(_session: Session, made: object) -> None:
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


def _check_tree_estimator(_session: Session, made: object) -> None:
    attributes = vars(made)
    tree = attributes.get("tree_")
    if tree is not None:
        width = attributes.get("n_features_in_")
        _check(holds=tree.n_features == width, what="the columns of a decision tree")


def _check_boosted_trees(_session: Session, made: object) -> None:
    """Check gradient boosting, whose compiled code adds each tree to a column of its sums."""
    attributes = vars(made)
    trees = attributes.get("estimators_")
    if trees is None:
        return
    _own_arrays(made)
    trees = attributes["estimators_"]
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


def _check_histogram_trees(_session: Session, made: object) -> None:
    """Check the trees of histogram gradient boosting."""
    attributes = vars(made)
    width = attributes.get("n_features_in_")
    # In the order of its trees, which have the columns of categories before the others.
    places = getattr(attributes.get("_bin_mapper"), "is_categorical_", None)
    attributes["_predictors"] = [[*row] for row in attributes.get("_predictors", ())]
    for row in attributes["_predictors"]:
        for tree in row:
            _check(holds=type(tree).__name__ == "TreePredictor", what="the trees of a model")
            _own_arrays(tree)
            _check_histogram_tree(tree, cast(int, width), places)
    if attributes.get("_preprocessor") is not None:
        _check_preparing(attributes, cast(int, width))


def _check_preparing(attributes: dict[str, Any], width: int) -> None:
    """Let what prepares the columns of a model answer with as many as its trees read."""
    preparing = attributes["_preprocessor"]
    _check(holds=own_names(type(preparing))[0] == _OF_COLUMNS, what="the columns of a model")
    own = attributes["_preprocessor"] = copy.copy(preparing)
    vars(own)["transform"] = functools.partial(_of_width, preparing, width)


def _of_width(preparing: Any, width: int, rows: object) -> object:
    """Return rows as they come to the trees, which read as many columns as they know."""
    made = type(preparing).transform(preparing, rows)
    if getattr(made, "shape", ())[1:] != (width,):
        raise ValueError(f"a gradient boosting model makes of its input other than {width} columns")
    return made


def _check_histogram_tree(tree: Any, width: int, places: Any) -> None:
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
            known = np.asarray(places)
            is_sound = (
                known.shape == (width,)
                and bool(np.isin(chosen["feature_idx"], np.flatnonzero(known)).all())
                and np.shape(tree.raw_left_cat_bitsets)[1:] == (8,)
                and _within(chosen["bitset_idx"], 0, len(tree.raw_left_cat_bitsets))
            )
    _check(holds=bool(is_sound), what="the nodes of a gradient boosting model")


def _own_arrays(made: object) -> None:
    """Give an object copies of its arrays, which nobody else can change after the check."""
    attributes = vars(made)
    for name, value in attributes.items():
        if type(value) is np.ndarray:
            attributes[name] = value.copy()
        elif type(value) is tuple and value and all(type(part) is np.ndarray for part in value):
            attributes[name] = tuple(part.copy() for part in value)


def _check_bins(_session: Session, made: object) -> None:
    """Check the bins by which histogram boosting sorts its columns."""
    attributes = vars(made)
    if "bin_thresholds_" not in attributes:
        return
    _own_arrays(made)
    edges = attributes["bin_thresholds_"]
    width = len(edges) if type(edges) is list else -1
    is_sound = all(
        type(attributes.get(name)) is np.ndarray and attributes[name].shape == (width,)
        for name in ("is_categorical_", "n_bins_non_missing_")
    )
    is_sound = is_sound and all(type(edge) is np.ndarray and edge.ndim == 1 for edge in edges)
    _check(holds=is_sound, what="the bins of a gradient boosting model")


def _set_neighbors_tree(session: Session, made: object, state: object) -> None:
    """Give a tree of neighbors arrays of its own: it keeps those that it gets."""
    if type(state) is not tuple:
        raise Refused("a tree of neighbors has a state that scikit-learn does not write")
    own = tuple(part.copy() if type(part) is np.ndarray else part for part in state)
    cast(Any, made).__setstate__(own)


def _is_metric_of(metric: Any, width: int) -> bool:
    """Ask whether a metric has a weight for each column, if it has any."""
    kind, names = type(metric), own_names(type(metric))
    if not any(name.startswith("sklearn.metrics._dist_metrics.DistanceMetric") for name in names):
        return False
    _, weights, inverse, *_ = metric.__getstate__()
    name = kind.__name__.rstrip("0123456789")
    if name == "MahalanobisDistance":
        return bool(np.shape(inverse) == (width, width))
    if name in ("SEuclideanDistance", "MinkowskiDistance", "WMinkowskiDistance"):
        return np.shape(weights) in (((0,), (width,)) if name[0] == "M" else ((width,),))
    return name not in ("HaversineDistance", "PyFuncDistance") or width == 2


def _check_neighbors_tree(_session: Session, made: object) -> None:
    """Check a KD tree or ball tree."""
    data, order, nodes, bounds, _, _, count = cast(Any, made).__getstate__()[:7]
    data, order, nodes, bounds = map(np.asarray, (data, order, nodes, bounds))
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
        and _is_metric_of(cast(Any, made).__getstate__()[11], data.shape[1])
        and bounds.shape[0] >= (2 if "KDTree" in type(made).__name__ else 1)
    )
    _check(holds=bool(is_sound), what="the nodes of a tree of neighbors")


def _check_sparse(_session: Session, made: object) -> None:
    """Check that a sparse matrix has its values inside of its shape."""
    matrix: Any = made
    _own_arrays(made)
    shape: Any = vars(made).get("_shape")
    is_shape = type(shape) is tuple and all(isinstance(size, (int, np.integer)) for size in shape)
    _check(holds=is_shape, what="the sizes of a sparse matrix")
    if matrix.format == "lil":
        columns = [column for row in matrix.rows for column in row]
        is_sound = len(matrix.rows) == len(matrix.data) == shape[0]
        _check(holds=is_sound and _within(columns, 0, shape[1]), what="the rows of a sparse matrix")
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


def _check_support_vectors(_session: Session, made: object) -> None:
    """Check the arrays that libsvm reads side by side."""
    attributes = vars(made)
    if "support_vectors_" not in attributes:
        return
    _own_arrays(made)
    vectors, own = attributes["support_vectors_"], np.asarray(attributes["_n_support"])
    count, width = vectors.shape
    of_rows, kernel = np.asarray(attributes["support_"]), attributes.get("kernel")
    if (callable(kernel) or kernel == "precomputed") and not vectors.size:
        # It keeps no vectors, but their places in the rows that it was fitted on.
        count = of_rows.size
        _check(holds=_within(of_rows, 0, attributes["shape_fit_"][0]), what="the rows of a model")
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


def _check_spline(_session: Session, made: object) -> None:
    """Check that a spline has a coefficient for each of its functions."""
    spline: Any = made
    _own_arrays(made)
    knots, degree = np.asarray(spline.t), spline.k
    is_sound = type(degree) is int and degree >= 0 and knots.ndim == 1
    is_sound = is_sound and knots.size >= 2 * (degree + 1)
    is_sound = is_sound and len(spline.c) >= knots.size - degree - 1
    _check(holds=bool(is_sound), what="the coefficients of a spline")


NATIVE_AUDITS: Mapping[str, Rule] = {
    "sklearn.tree._tree.Tree": _check_tree,
    "sklearn.tree._classes.BaseDecisionTree": _check_tree_estimator,
    "sklearn.ensemble._gb.BaseGradientBoosting": _check_boosted_trees,
    f"{_BY_HISTOGRAM}.gradient_boosting.BaseHistGradientBoosting": _check_histogram_trees,
    f"{_BY_HISTOGRAM}.binning._BinMapper": _check_bins,
    "sklearn.neighbors._kd_tree.BinaryTree64": _check_neighbors_tree,
    "sklearn.neighbors._kd_tree.BinaryTree32": _check_neighbors_tree,
    "sklearn.neighbors._ball_tree.BinaryTree64": _check_neighbors_tree,
    "sklearn.neighbors._ball_tree.BinaryTree32": _check_neighbors_tree,
    "scipy.sparse._base._spbase": _check_sparse,
    "sklearn.svm._base.BaseLibSVM": _check_support_vectors,
    "scipy.interpolate._bsplines.BSpline": _check_spline,
}
"""Checks of finished objects, by the names of their classes or of what those extend."""

NATIVE_SETTERS = {
    f"sklearn.neighbors.{module}.BinaryTree{bits}": _set_neighbors_tree
    for module in ("_kd_tree", "_ball_tree")
    for bits in ("64", "32")
}
"""Classes whose state is set by a function of ours."""
