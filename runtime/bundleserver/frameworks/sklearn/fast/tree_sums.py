"""The expensive part of a tree ensemble: per row, the sum of one leaf's values of every tree.

scikit-learn computes it through joblib, once per tree. The two engines here do not: one calls the
trees' own ``apply`` one after the other, the other treelite's GTIL for all trees in one call. Both
add the same leaf values in the same order as scikit-learn, so that the sum has the same bits.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt

from bundleserver.frameworks.fast import gtil

FloatArray = npt.NDArray[np.float64]
Rows = npt.NDArray[Any]
"""Finite rows ``[n, f]`` in the datatype of :attr:`TreeSum.datatype`."""

Engine = Callable[[Rows], FloatArray]
"""From rows to sums ``[n, columns]``."""

LOG = logging.getLogger(__name__)

MAX_NODES = 1_000_000
"""The largest ensemble that is converted; its copy needs about 100 MB."""

_BYTES_PER_NODE = 96  # as treelite 4.8 serializes one


@dataclass(frozen=True)
class Tree:
    """One tree as arrays over its nodes; ``left`` is -1 at a leaf, and rows go left at ``<=``.

    ``values`` is ``[nodes]``, or ``[nodes, columns]`` if each leaf has a value per column. ``find``
    returns the leaf of each row, if the library's own tree can be called.
    """

    left: Rows
    right: Rows
    feature: Rows
    threshold: FloatArray
    values: FloatArray
    find: Callable[[Rows], Rows] | None = None


@dataclass(frozen=True)
class TreeSum:
    """Trees in the order in which their leaves are summed.

    Tree ``i`` adds to column ``i % columns``, or with ``vectors`` to all columns. ``averaged`` sums
    are divided by the number of trees.
    """

    trees: tuple[Tree, ...] = field(repr=False)
    columns: int
    width: int
    datatype: type
    vectors: bool = False
    averaged: bool = False

    @property
    def nodes(self) -> int:
        """The number of nodes of all trees."""
        return sum(len(tree.left) for tree in self.trees)

    @property
    def treelite_bytes(self) -> int:
        """The approximate memory of treelite's copy."""
        return self.nodes * _BYTES_PER_NODE


def direct_engine(total: TreeSum) -> Engine | None:
    """Call the library's own trees one after the other; None if they cannot be called."""
    finders = [(tree.find, tree.values) for tree in total.trees if tree.find is not None]
    if len(finders) < len(total.trees):
        return None

    def engine(rows: Rows) -> FloatArray:
        sums = np.zeros((len(rows), total.columns) if total.vectors else len(rows))
        for find, values in finders:
            sums += values.take(find(rows), axis=0)
        if total.averaged:
            sums /= len(finders)
        return sums.reshape(len(rows), total.columns)

    return engine


def treelite_engine(total: TreeSum) -> Engine | None:
    """Convert the trees for treelite; None if it is not installed or there are too many nodes."""
    if total.nodes > MAX_NODES:
        LOG.debug("an ensemble of %d nodes is too large for treelite", total.nodes)
        return None
    try:
        import treelite.sklearn
    except (ImportError, OSError) as error:
        LOG.debug("treelite cannot be imported: %s", error)
        return None
    shell = _averaging_shell(total) if total.averaged else _adding_shell(total)
    # One thread: requests are concurrent already.
    return gtil.predictor(treelite.sklearn.import_model(shell), total.width, total.columns)


def _averaging_shell(total: TreeSum) -> Any:
    """Make the estimator that treelite imports as a model that averages."""
    from sklearn.ensemble import RandomForestRegressor

    shell = RandomForestRegressor(n_estimators=len(total.trees))
    shell.n_features_in_, shell.n_outputs_ = total.width, total.columns
    shell.estimators_ = [_stand_in(tree, total.columns) for tree in total.trees]
    return shell


def _adding_shell(total: TreeSum) -> Any:
    """Make the estimator that treelite imports as a model that sums, without other operations."""
    from sklearn.ensemble import GradientBoostingClassifier, GradientBoostingRegressor

    stages = len(total.trees) // total.columns
    one = total.columns == 1
    kind = GradientBoostingRegressor if one else GradientBoostingClassifier
    shell = kind(n_estimators=stages, learning_rate=1.0)
    shell.init_, shell.n_features_in_ = "zero", total.width
    if not one:
        shell.n_classes_ = total.columns
    trees = [_stand_in(tree, 1) for tree in total.trees]
    shell.estimators_ = [trees[i : i + total.columns] for i in range(0, len(trees), total.columns)]
    return shell


def _stand_in(tree: Tree, columns: int) -> Any:
    """Wrap a tree as treelite expects it in an estimator; all rows are finite."""
    count = len(tree.left)
    values = np.ascontiguousarray(tree.values).reshape(count, columns, 1)
    arrays = SimpleNamespace(
        node_count=count,
        children_left=np.ascontiguousarray(tree.left, np.int64),
        children_right=np.ascontiguousarray(tree.right, np.int64),
        feature=np.ascontiguousarray(tree.feature, np.int64),
        threshold=np.ascontiguousarray(tree.threshold, np.float64),
        value=values,
        missing_go_to_left=np.zeros(count, np.uint8),
        n_node_samples=np.ones(count, np.int64),
        weighted_n_node_samples=np.ones(count),
        impurity=np.zeros(count),
    )
    return SimpleNamespace(tree_=arrays)
