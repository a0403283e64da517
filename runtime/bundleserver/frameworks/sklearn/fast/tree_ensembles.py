"""scikit-learn's tree ensembles, each taken apart into a sum over trees and what follows from it.

Every method is the library's own, step by step, so that its answers have the same bits; whoever
uses it compares the two on rows of the model at hand, since the library may change its steps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    IsolationForest,
    RandomForestClassifier,
    RandomForestRegressor,
)

from bundleserver.frameworks.sklearn.fast.tree_sums import FloatArray, Tree, TreeSum
from bundleserver.tensors import Array

Finish = Callable[[FloatArray], Array]
"""From the sums ``[n, columns]`` to a method's answer."""


@dataclass(frozen=True)
class TreeEnsemble:
    """An ensemble in parts: its sum over trees, and for each method what it makes of the sum."""

    total: TreeSum
    finish: Mapping[str, Finish]


def take_apart(model: Any) -> TreeEnsemble | None:
    """Take a fitted ensemble apart; None for an estimator, or an option of one, not known here.

    The class must be the library's own: a subclass may have changed any step.
    """
    reader = _READERS.get(type(model))
    return None if reader is None else reader(model)


def is_forest(model: object) -> bool:
    """Ask whether an estimator is a forest, which adds its trees up in threads."""
    return isinstance(
        model,
        RandomForestClassifier | RandomForestRegressor | ExtraTreesClassifier | ExtraTreesRegressor,
    )


def _forest(model: Any) -> TreeEnsemble | None:
    if model.n_outputs_ != 1:
        return None
    classes = getattr(model, "n_classes_", 1)
    trees = tuple(_tree(part.tree_, part.tree_.value[:, 0, :classes]) for part in model.estimators_)
    total = TreeSum(trees, classes, model.n_features_in_, np.float32, vectors=True, averaged=True)
    if not hasattr(model, "classes_"):
        return TreeEnsemble(total, {"predict": lambda mean: mean[:, 0]})
    return TreeEnsemble(
        total,
        {
            "predict": lambda proba: model.classes_.take(np.argmax(proba, axis=1), axis=0),
            "predict_proba": lambda proba: proba,
            "predict_log_proba": lambda proba: np.log(proba),
        },
    )


def _isolation_forest(model: Any) -> TreeEnsemble:
    trees = tuple(
        _tree(part.tree_, path + beyond - 1.0, features)
        for part, features, path, beyond in zip(
            model.estimators_,
            model.estimators_features_,
            model._decision_path_lengths,
            model._average_path_length_per_tree,
            strict=True,
        )
    )
    sample = model._max_samples
    longest = len(trees) * _average_path_length(sample)

    def scores(depths: FloatArray) -> FloatArray:
        depth = depths[:, 0]
        share = depth / longest if longest else np.ones_like(depth)
        return -(2**-share)

    return TreeEnsemble(
        TreeSum(trees, 1, model.n_features_in_, np.float32),
        {
            "predict": lambda depths: np.where(scores(depths) - model.offset_ < 0, -1, 1),
            "decision_function": lambda depths: scores(depths) - model.offset_,
            "score_samples": scores,
        },
    )


def _average_path_length(sample: int) -> float:
    """Give the length of an unsuccessful search in a binary tree of so many samples."""
    if sample <= 2:
        return float(sample == 2)
    count = np.float64(sample)
    return float(2.0 * (np.log(count - 1.0) + np.euler_gamma) - 2.0 * (count - 1.0) / count)


def _gradient_boosting(model: Any) -> TreeEnsemble | None:
    constant = isinstance(model.init_, DummyClassifier | DummyRegressor) or (
        isinstance(model.init_, str) and model.init_ == "zero"
    )
    if not constant:
        return None
    start = model._raw_predict_init(np.zeros((1, model.n_features_in_), np.float32))[0]
    rate, trees = model.learning_rate, []
    for stage, parts in enumerate(model.estimators_):
        for column, part in enumerate(parts):
            values = rate * part.tree_.value[:, 0, 0]
            trees.append(_tree(part.tree_, start[column] + values if stage == 0 else values))
    total = TreeSum(tuple(_unasked(trees)), len(start), model.n_features_in_, np.float32)
    if not hasattr(model, "classes_"):
        return TreeEnsemble(total, {"predict": lambda raw: raw[:, 0]})
    return TreeEnsemble(total, _boosted_classes(model, lambda raw: raw >= 0))


def _hist_gradient_boosting(model: Any) -> TreeEnsemble | None:
    if getattr(model, "is_categorical_", None) is not None:
        return None
    start = model._baseline_prediction.reshape(-1)
    trees = []
    for stage, parts in enumerate(model._predictors):
        for column, part in enumerate(parts):
            values = part.nodes["value"]
            trees.append(_binned(part.nodes, start[column] + values if stage == 0 else values))
    total = TreeSum(tuple(trees), len(start), model.n_features_in_, np.float64)
    if not hasattr(model, "classes_"):
        inverse = model._loss.link.inverse
        return TreeEnsemble(total, {"predict": lambda raw: inverse(raw[:, 0])})
    return TreeEnsemble(total, _boosted_classes(model, lambda raw: raw > 0))


def _boosted_classes(model: Any, second: Callable[[FloatArray], Array]) -> dict[str, Finish]:
    """Describe a boosted classifier; ``second`` tells the second of two classes from the sum."""

    def decision(raw: FloatArray) -> FloatArray:
        return raw[:, 0] if raw.shape[1] == 1 else raw

    def labels(raw: FloatArray) -> Array:
        one = raw.shape[1] == 1
        return np.asarray(
            model.classes_[second(raw[:, 0]).astype(int) if one else np.argmax(raw, axis=1)]
        )

    finish: dict[str, Finish] = {"predict": labels, "decision_function": decision}
    if hasattr(model, "predict_proba"):  # the exponential loss has it, too; a custom one may not
        finish["predict_proba"] = lambda raw: model._loss.predict_proba(decision(raw))
    if hasattr(model, "predict_log_proba"):
        finish["predict_log_proba"] = lambda raw: np.log(model._loss.predict_proba(decision(raw)))
    return finish


def _tree(tree: Any, values: FloatArray, features: Array | None = None) -> Tree:
    """Read a tree; ``features`` are those of the table that it was fitted with, in its order."""
    every = features is None or np.array_equal(features, np.arange(len(features)))
    if features is None or (every and tree.n_features == len(features)):
        find = tree.apply
        feature = tree.feature
    else:
        chosen = np.asarray(features)
        find = lambda rows: tree.apply(rows[:, chosen])  # noqa: E731 - one of two ways to ask
        feature = np.where(tree.children_left == -1, -2, chosen[tree.feature])
    return Tree(tree.children_left, tree.children_right, feature, tree.threshold, values, find)


def _unasked(trees: list[Tree]) -> list[Tree]:
    """Leave out how to ask the trees: boosting asks all of them in one call already."""
    return [
        Tree(tree.left, tree.right, tree.feature, tree.threshold, tree.values) for tree in trees
    ]


def _binned(nodes: Any, values: FloatArray) -> Tree:
    """Read a tree of histogram boosting, whose leaves point to node 0."""
    leaf = nodes["is_leaf"].astype(bool)
    left, right = (np.where(leaf, -1, nodes[side].astype(np.int64)) for side in ("left", "right"))
    feature = np.where(leaf, -2, nodes["feature_idx"].astype(np.int64))
    return Tree(left, right, feature, np.where(leaf, -2.0, nodes["num_threshold"]), values)


_READERS: Mapping[type, Callable[[Any], TreeEnsemble | None]] = {
    IsolationForest: _isolation_forest,
    RandomForestClassifier: _forest,
    RandomForestRegressor: _forest,
    ExtraTreesClassifier: _forest,
    ExtraTreesRegressor: _forest,
    GradientBoostingClassifier: _gradient_boosting,
    GradientBoostingRegressor: _gradient_boosting,
    HistGradientBoostingClassifier: _hist_gradient_boosting,
    HistGradientBoostingRegressor: _hist_gradient_boosting,
}
