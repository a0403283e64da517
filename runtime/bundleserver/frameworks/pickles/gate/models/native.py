"""Objects of compiled code that believes its numbers: indexes in them are compared with lengths.

Without these rules a file could make a prediction read, or write, outside of its arrays.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np

from bundleserver.frameworks.pickles.gate.listing import own_names
from bundleserver.frameworks.pickles.gate.models.checking import (
    check,
    has_shape,
    is_count,
    own_arrays,
    within,
)
from bundleserver.frameworks.pickles.gate.models.encoders import ENCODER_AUDITS
from bundleserver.frameworks.pickles.gate.models.sparse import check_sparse
from bundleserver.frameworks.pickles.gate.models.support_vectors import check_support_vectors
from bundleserver.frameworks.pickles.gate.models.trees import TREE_AUDITS
from bundleserver.frameworks.pickles.gate.refusal import Refused
from bundleserver.frameworks.pickles.gate.session import Rule, Session


def _set_neighbors_tree(session: Session, made: object, state: object) -> None:
    """Give a tree of neighbors arrays of its own: it keeps those that it gets."""
    if type(state) is not tuple or len(state) != 13:
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
    state = cast(Any, made).__getstate__()
    data, order, nodes, bounds, leaf, _, count = state[:7]
    data, order, bounds = np.asarray(data), np.asarray(order), np.asarray(bounds)
    nodes, weights = np.asarray(nodes), state[12]
    start, end = nodes["idx_start"], nodes["idx_end"]
    inner = np.flatnonzero(nodes["is_leaf"] == 0)
    is_sound = (
        data.ndim == 2
        and is_count(leaf, 1, 1 << 40)
        and order.shape == (len(data),)
        and within(order, 0, len(data))
        and nodes.shape == (count,)
        and within(start, 0, len(data) + 1)
        and within(end, start, len(data) + 1)
        and within(2 * inner + 2, 0, count)
        and bounds.ndim == 3
        and bounds.shape[1:] == (count, data.shape[1])
        and _is_metric_of(state[11], data.shape[1])
        and bounds.shape[0] >= (2 if "KDTree" in type(made).__name__ else 1)
        and (weights is None or np.shape(weights) == (len(data),))
    )
    check(holds=is_sound, what="the nodes of a tree of neighbors")


def _check_neighbors(_session: Session, made: object) -> None:
    """Check that rows which neighbors are looked for in have answers, and columns as requests."""
    attributes: Any = vars(made)
    if "_fit_X" not in attributes:
        return
    own_arrays(made)
    rows, answers, tree = (attributes.get(name) for name in ("_fit_X", "_y", "_tree"))
    is_array = type(rows) is np.ndarray or type(rows).__module__.startswith("scipy.sparse.")
    is_sound = is_array and len(cast(Any, rows).shape) == 2
    if is_sound:
        count, width = cast(Any, rows).shape
        asked = attributes.get("n_features_in_")
        is_sound = is_count(asked, 1) and asked == width
        is_sound = is_sound and attributes.get("n_samples_fit_", count) == count
        is_sound = is_sound and (answers is None or np.shape(answers)[:1] == (count,))
        if "classes_" in attributes and is_sound:
            is_sound = _are_classes(answers, attributes["classes_"])
        if tree is not None:
            data = np.asarray(cast(Any, tree).__getstate__()[0])
            is_sound = is_sound and data.shape == (count, width)
    check(holds=is_sound, what="the rows of a model of neighbors, and their answers,")


def _are_classes(answers: Any, classes: Any) -> bool:
    """Ask whether answers are places of classes: they are counted there."""
    if type(answers) is not np.ndarray:
        return False
    if answers.ndim == 1:
        return within(answers, 0, len(classes))
    return (
        type(classes) is list
        and answers.shape[1:] == (len(classes),)
        and all(within(answers[:, at], 0, len(of)) for at, of in enumerate(classes))
    )


def _check_centers(_session: Session, made: object) -> None:
    """Check that the centers of clusters have a number for each column."""
    attributes: Any = vars(made)
    if "cluster_centers_" not in attributes:
        return
    own_arrays(made)
    width, centers = attributes.get("n_features_in_"), attributes["cluster_centers_"]
    is_sound = is_count(width, 1) and type(centers) is np.ndarray and centers.dtype.kind == "f"
    is_sound = is_sound and centers.ndim == 2 and centers.shape[1] == width and len(centers)
    left, seen = [attributes.get("_bisecting_tree")], set()
    while is_sound and left:
        if (node := left.pop()) is None or id(node) in seen:
            continue
        seen.add(id(node))
        of_node = vars(node)
        is_sound = type(node).__name__ == "_BisectingTree"
        is_sound = is_sound and has_shape(of_node.get("center"), cast(int, width))
        left += [of_node.get("left"), of_node.get("right")]
    check(holds=is_sound, what="the centers of clusters")


def _check_spline(_session: Session, made: object) -> None:
    """Check that a spline has a coefficient for each of its functions."""
    spline: Any = made
    own_arrays(made)
    knots, degree = np.asarray(spline.t), spline.k
    is_sound = type(degree) is int and degree >= 0 and knots.ndim == 1
    is_sound = is_sound and knots.size >= 2 * (degree + 1)
    is_sound = is_sound and len(spline.c) >= knots.size - degree - 1
    check(holds=is_sound, what="the coefficients of a spline")


def _check_mixture(_session: Session, made: object) -> None:
    """Check that each part of a mixture has a mean and a precision; else memory would be shown."""
    attributes: Any = vars(made)
    if "means_" not in attributes:
        return
    means, kind = attributes["means_"], attributes.get("covariance_type")
    is_sound = type(means) is np.ndarray and means.ndim == 2 and type(kind) is str
    if is_sound:
        parts, width = means.shape
        shapes = {
            "full": (parts, width, width),
            "tied": (width, width),
            "diag": (parts, width),
            "spherical": (parts,),
        }
        is_sound = np.shape(attributes.get("weights_")) == (parts,) and kind in shapes
        is_sound = is_sound and np.shape(attributes["precisions_cholesky_"]) == shapes[kind]
    check(holds=is_sound, what="the parts of a mixture")


NATIVE_AUDITS: Mapping[str, Rule] = {
    **{
        f"sklearn.neighbors.{module}.BinaryTree{bits}": _check_neighbors_tree
        for module in ("_kd_tree", "_ball_tree")
        for bits in ("64", "32")
    },
    "scipy.interpolate._bsplines.BSpline": _check_spline,
    "scipy.sparse._base._spbase": check_sparse,
    "sklearn.cluster._kmeans._BaseKMeans": _check_centers,
    "sklearn.mixture._base.BaseMixture": _check_mixture,
    "sklearn.neighbors._base.NeighborsBase": _check_neighbors,
    "sklearn.svm._base.BaseLibSVM": check_support_vectors,
    **ENCODER_AUDITS,
    **TREE_AUDITS,
}
"""Checks of finished objects, by the names of their classes or of what those extend."""


NATIVE_SETTERS = {
    f"sklearn.neighbors.{module}.BinaryTree{bits}": _set_neighbors_tree
    for module in ("_kd_tree", "_ball_tree")
    for bits in ("64", "32")
}
"""Classes whose state is set by a function of ours."""
