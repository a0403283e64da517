"""scikit-learn's tree ensembles, each as a sum over trees and a function of the sum per method.

Every method follows the library's own steps, so that its results have the same bits; the caller
compares the two for each model, since the library may change its steps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bundleserver.frameworks.sklearn.fast.tree_sums import FloatArray, Tree, TreeSum
from bundleserver.frameworks.sklearn.imported import classes, is_of
from bundleserver.tensors import Array

Finish = Callable[[FloatArray], Array]
"""From the sums ``[n, columns]`` to a method's answer."""


@dataclass(frozen=True)
class TreeEnsemble:
    """An ensemble: its sum over trees, and for each method the function of the sum."""

    total: TreeSum
    finish: Mapping[str, Finish]


def take_apart(model: Any) -> TreeEnsemble | None:
    """Convert a fitted ensemble; None for an unsupported class or option."""
    return _READERS[type(model).__name__](model) if is_ensemble(model) else None


def is_ensemble(model: object) -> bool:
    """Ask whether an object is a supported ensemble.

    Its class must be the library's own: a subclass may have changed any step.
    """
    kind = type(model)
    return kind.__name__ in _READERS and classes(f"ensemble.{kind.__name__}") == (kind,)


def is_forest(model: object) -> bool:
    """Ask whether an estimator is a forest, which sums its trees in threads."""
    return is_of(model, *(f"ensemble.{name}" for name in _FORESTS))


def _forest(model: Any) -> TreeEnsemble | None:
    if model.n_outputs_ != 1:
        return None
    classes = getattr(model, "n_classes_", 1)
    width = model.n_features_in_
    trees = tuple(
        _tree(part.tree_, part.tree_.value[:, 0, :classes], width) for part in model.estimators_
    )
    total = TreeSum(trees, classes, width, np.float32, vectors=True, averaged=True)
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
    width = model.n_features_in_
    trees = tuple(
        _tree(part.tree_, path + beyond - 1.0, width, features)
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
        TreeSum(trees, 1, width, np.float32),
        {
            "predict": lambda depths: np.where(scores(depths) - model.offset_ < 0, -1, 1),
            "decision_function": lambda depths: scores(depths) - model.offset_,
            "score_samples": scores,
        },
    )


def _average_path_length(sample: int) -> float:
    """Return the mean length of an unsuccessful search in a binary tree of so many samples."""
    if sample <= 2:
        return float(sample == 2)
    count = np.float64(sample)
    return float(2.0 * (np.log(count - 1.0) + np.euler_gamma) - 2.0 * (count - 1.0) / count)


def _gradient_boosting(model: Any) -> TreeEnsemble | None:
    constant = is_of(model.init_, "dummy.DummyClassifier", "dummy.DummyRegressor") or (
        isinstance(model.init_, str) and model.init_ == "zero"
    )
    if not constant:
        return None
    start = model._raw_predict_init(np.zeros((1, model.n_features_in_), np.float32))[0]
    rate, trees = model.learning_rate, []
    for stage, parts in enumerate(model.estimators_):
        for column, part in enumerate(parts):
            values = rate * part.tree_.value[:, 0, 0]
            sums = start[column] + values if stage == 0 else values
            trees.append(_tree(part.tree_, sums, model.n_features_in_))
    # Without ``find``: boosting evaluates all trees in one call already.
    trees = [replace(tree, find=None) for tree in trees]
    total = TreeSum(tuple(trees), len(start), model.n_features_in_, np.float32)
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
    """Return a boosted classifier's methods; ``second`` chooses between two classes by the sum."""

    def decision(raw: FloatArray) -> FloatArray:
        return raw[:, 0] if raw.shape[1] == 1 else raw

    def labels(raw: FloatArray) -> Array:
        one = raw.shape[1] == 1
        return np.asarray(
            model.classes_[second(raw[:, 0]).astype(int) if one else np.argmax(raw, axis=1)]
        )

    finish: dict[str, Finish] = {"predict": labels, "decision_function": decision}
    if hasattr(model, "predict_proba"):  # not every custom loss has it
        finish["predict_proba"] = lambda raw: model._loss.predict_proba(decision(raw))
    if hasattr(model, "predict_log_proba"):
        finish["predict_log_proba"] = lambda raw: np.log(model._loss.predict_proba(decision(raw)))
    return finish


def _tree(tree: Any, values: FloatArray, width: int, features: Array | None = None) -> Tree:
    """Convert a tree for tables of some width; ``features`` are its columns of those, in order.

    Raises:
        ValueError: it reads other columns. The library finds that at each call; ``apply`` does not,
            and would read what is behind the table in memory.
    """
    count = width if features is None else len(features)
    if tree.n_features != count:
        raise ValueError(f"a tree reads {tree.n_features} columns; expected {count}")
    if features is None or (count == width and np.array_equal(features, np.arange(width))):
        find = tree.apply
        feature = tree.feature
    else:
        chosen: Any = np.asarray(features)
        if chosen.dtype.kind not in "iu" or not ((chosen >= 0) & (chosen < width)).all():
            raise ValueError("a tree reads columns that the table does not have")
        find = lambda rows: tree.apply(rows[:, chosen])  # noqa: E731 - one of two ways to ask
        feature = np.where(tree.children_left == -1, -2, chosen[tree.feature])
    return Tree(tree.children_left, tree.children_right, feature, tree.threshold, values, find)


def _binned(nodes: Any, values: FloatArray) -> Tree:
    """Convert a tree of histogram boosting, whose leaves point to node 0."""
    leaf = nodes["is_leaf"].astype(bool)
    left, right = (np.where(leaf, -1, nodes[side].astype(np.int64)) for side in ("left", "right"))
    feature = np.where(leaf, -2, nodes["feature_idx"].astype(np.int64))
    return Tree(left, right, feature, np.where(leaf, -2.0, nodes["num_threshold"]), values)


_FORESTS = (
    "RandomForestClassifier",
    "RandomForestRegressor",
    "ExtraTreesClassifier",
    "ExtraTreesRegressor",
)
_READERS: Mapping[str, Callable[[Any], TreeEnsemble | None]] = {
    "IsolationForest": _isolation_forest,
    **dict.fromkeys(_FORESTS, _forest),
    "GradientBoostingClassifier": _gradient_boosting,
    "GradientBoostingRegressor": _gradient_boosting,
    "HistGradientBoostingClassifier": _hist_gradient_boosting,
    "HistGradientBoostingRegressor": _hist_gradient_boosting,
}
"""The supported classes, each with the function that converts a fitted one."""
