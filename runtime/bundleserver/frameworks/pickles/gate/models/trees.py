"""Decision trees, and what adds them up: compiled code that believes the numbers in nodes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from bundleserver.frameworks.pickles.gate.models.checking import (
    check,
    is_count,
    own_arrays,
    within,
)
from bundleserver.frameworks.pickles.gate.models.watched import Watched
from bundleserver.frameworks.pickles.gate.session import Rule, Session


def _check_tree(_session: Session, made: object) -> None:
    """Check that each node of a tree leads to later nodes, and asks for a column that is there."""
    tree: Any = made
    left, right, count = tree.children_left, tree.children_right, tree.node_count
    inner = np.flatnonzero(left != -1)
    is_sound = (
        count >= 1
        and within(left[inner], inner + 1, count)
        and within(right[inner], inner + 1, count)
        and within(tree.feature[inner], 0, tree.n_features)
    )
    check(holds=is_sound, what="the nodes of a decision tree")


def _check_tree_estimator(_session: Session, made: object) -> None:
    attributes: Any = vars(made)
    tree = attributes.get("tree_")
    if tree is not None:
        width = attributes.get("n_features_in_")
        is_tree = type(tree).__module__ == "sklearn.tree._tree" and is_count(width, 1)
        check(holds=is_tree and tree.n_features == width, what="the columns of a decision tree")


def _width_of(member: Any) -> object:
    """Return how many columns the tree of a forest's member reads; None if it is no tree."""
    tree = vars(member).get("tree_")
    return tree.n_features if type(tree).__module__ == "sklearn.tree._tree" else None


def _check_forest(_session: Session, made: object) -> None:
    """Check that all trees of a forest read the columns that the forest is asked with."""
    attributes: Any = vars(made)
    members = attributes.get("estimators_")
    if members is None:
        return
    width = attributes.get("n_features_in_")
    is_sound = type(members) is list and members and is_count(width, 1)
    is_sound = is_sound and all(_width_of(member) == width for member in members)
    check(holds=is_sound, what="the columns of a forest and of its trees")


def _check_isolation_forest(_session: Session, made: object) -> None:
    """Check that each tree reads the columns that are chosen for it."""
    attributes: Any = vars(made)
    members, columns = attributes.get("estimators_"), attributes.get("estimators_features_")
    if members is None:
        return
    width, most = attributes.get("n_features_in_"), attributes.get("_max_features")
    is_sound = type(members) is type(columns) is list and len(members) == len(columns)
    is_sound = is_sound and members and is_count(width, 1) and is_count(most, 1)
    is_sound = is_sound and all(
        np.shape(chosen) == (most,) and within(chosen, 0, width) and _width_of(member) == most
        for member, chosen in zip(members, columns, strict=True)
    )
    check(holds=is_sound, what="the columns of a forest and of its trees")


def _check_boosted_trees(_session: Session, made: object) -> None:
    """Check gradient boosting, whose compiled code adds each tree to a column of its sums."""
    attributes: Any = vars(made)
    trees = attributes.get("estimators_")
    if trees is None:
        return
    own_arrays(made)
    trees = attributes["estimators_"]
    of_all = getattr(made, "n_trees_per_iteration_", None)
    is_table = isinstance(trees, np.ndarray) and trees.dtype == object and trees.ndim == 2
    is_sound = is_table and trees.size > 0 and trees.shape[1] == of_all
    if is_sound:
        width = trees[0, 0].n_features_in_
        is_sound = all(_width_of(tree) == width for tree in trees.flat)
        first = attributes.get("init_")
        if type(first) is not str and not _is_constant(first, trees.shape[1]):
            attributes["init_"] = Watched(first, _start_of(trees.shape[1]))
        is_sound = is_sound and (type(first) is not str or first == "zero")
    check(holds=is_sound, what="the trees of a gradient boosting model")


def _is_constant(first: Any, columns: int) -> bool:
    """Ask whether boosting starts with numbers that are the same for each row."""
    if type(first).__module__ != "sklearn.dummy" or vars(first).get("n_outputs_") != 1:
        return False
    if type(first).__name__ == "DummyRegressor":
        return columns == 1 and np.shape(first.constant_) == (1, 1)
    is_prior = first.strategy in ("prior", "most_frequent")
    return is_prior and np.shape(first.class_prior_) == (max(2, columns),)


def _start_of(columns: int) -> Mapping[str, tuple[int, ...]]:
    """Return the shapes that the model has with which boosting starts: its sums are of that."""
    return {"predict": (), "predict_proba": (max(2, columns),)}


def _check_histogram_trees(_session: Session, made: object) -> None:
    """Check the trees of histogram gradient boosting."""
    attributes: Any = vars(made)
    if "_predictors" not in attributes:
        return
    width, first = attributes.get("n_features_in_"), attributes.get("_preprocessor")
    check(holds=is_count(width, 1), what="the columns of a gradient boosting model")
    if first is not None:
        attributes["_preprocessor"] = Watched(first, {"transform": (width,)})
    # In the order of its trees, which have the columns of categories before the others.
    places = getattr(attributes.get("_bin_mapper"), "is_categorical_", None)
    attributes["_predictors"] = [[*row] for row in attributes["_predictors"]]
    for row in attributes["_predictors"]:
        for tree in row:
            check(holds=type(tree).__name__ == "TreePredictor", what="the trees of a model")
            own_arrays(tree)
            _check_histogram_tree(tree, width, places)


def _check_histogram_tree(tree: Any, width: Any, places: Any) -> None:
    nodes = tree.nodes
    is_sound = isinstance(nodes, np.ndarray) and nodes.ndim == 1 and nodes.size > 0
    if is_sound:
        inner = np.flatnonzero(nodes["is_leaf"] == 0)
        after, columns = inner.astype(np.int64) + 1, nodes["feature_idx"][inner]
        is_sound = (
            within(nodes["left"][inner].astype(np.int64), after, nodes.size)
            and within(nodes["right"][inner].astype(np.int64), after, nodes.size)
            and within(columns, 0, width)
        )
        chosen = nodes[inner][nodes["is_categorical"][inner] != 0]
        if is_sound and chosen.size:
            known = np.asarray(places)
            is_sound = (
                known.shape == (width,)
                and bool(np.isin(chosen["feature_idx"], np.flatnonzero(known)).all())
                and within(chosen["bitset_idx"], 0, len(tree.raw_left_cat_bitsets))
                and np.shape(tree.raw_left_cat_bitsets)[1:] == (8,)
            )
    check(holds=is_sound, what="the nodes of a gradient boosting model")


def _check_bins(_session: Session, made: object) -> None:
    """Check the bins by which histogram boosting sorts its columns."""
    attributes: Any = vars(made)
    if "bin_thresholds_" not in attributes:
        return
    own_arrays(made)
    edges = attributes["bin_thresholds_"]
    width = len(edges) if type(edges) is list else -1
    is_sound = all(
        type(attributes.get(name)) is np.ndarray and attributes[name].shape == (width,)
        for name in ("is_categorical_", "n_bins_non_missing_")
    )
    is_sound = is_sound and all(type(edge) is np.ndarray and edge.ndim == 1 for edge in edges)
    if is_sound:
        places = np.flatnonzero(attributes["is_categorical_"])
        # Each category is a bit of 256; NaN is below no number.
        is_sound = all(bool(((edges[at] >= 0) & (edges[at] < 256)).all()) for at in places)
    check(holds=is_sound, what="the bins of a gradient boosting model")


TREE_AUDITS: Mapping[str, Rule] = {
    "sklearn.tree._tree.Tree": _check_tree,
    "sklearn.tree._classes.BaseDecisionTree": _check_tree_estimator,
    "sklearn.ensemble._forest.BaseForest": _check_forest,
    "sklearn.ensemble._iforest.IsolationForest": _check_isolation_forest,
    "sklearn.ensemble._gb.BaseGradientBoosting": _check_boosted_trees,
    "sklearn.ensemble._hist_gradient_boosting.gradient_boosting.BaseHistGradientBoosting": (
        _check_histogram_trees
    ),
    "sklearn.ensemble._hist_gradient_boosting.binning._BinMapper": _check_bins,
}
"""Checks of finished objects, by the names of their classes or of what those extend."""
