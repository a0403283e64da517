"""The part of a tree ensemble that costs: per row, the sum of one leaf's values of every tree.

scikit-learn reaches that sum through joblib, once per tree. The two engines here reach it without:
the trees' own ``apply`` called one after the other, and treelite's GTIL, which walks all trees in
one call. Both add the same leaf values in the same order as scikit-learn does, so that the sum has
the same bits.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt

from bundleserver.frameworks.sklearn.fast import gtil

FloatArray = npt.NDArray[np.float64]
Rows = npt.NDArray[Any]
"""Finite rows ``[n, f]`` in the datatype of :attr:`TreeSum.datatype`."""

Engine = Callable[[Rows], FloatArray]
"""From rows to sums ``[n, columns]``."""

LOG = logging.getLogger(__name__)

MAX_NODES = 1_000_000
"""The largest ensemble that is converted; its copy takes about 100 MB."""

_BYTES_PER_NODE = 96  # as treelite 4.8 serializes one


@dataclass(frozen=True)
class Tree:
    """One tree as arrays over its nodes; ``left`` is -1 at a leaf, and rows go left at ``<=``.

    ``values`` is ``[nodes]``, or ``[nodes, columns]`` where each leaf has a value per column.
    ``find`` tells the leaf of each row, where the library's own tree can be asked.
    """

    left: Rows
    right: Rows
    feature: Rows
    threshold: FloatArray
    values: FloatArray
    find: Callable[[Rows], Rows] | None = None


@dataclass(frozen=True)
class TreeSum:
    """Trees in the order in which their leaves are added up.

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
        """How many nodes all trees have."""
        return sum(len(tree.left) for tree in self.trees)

    @property
    def treelite_bytes(self) -> int:
        """About how much memory treelite's copy takes."""
        return self.nodes * _BYTES_PER_NODE


def direct_engine(total: TreeSum) -> Engine | None:
    """Ask the library's own trees one after the other; None where they cannot be asked."""
    finders = [(tree.find, tree.values) for tree in total.trees if tree.find is not None]
    if len(finders) < len(total.trees):
        return None
    count = len(finders)

    def engine(rows: Rows) -> FloatArray:
        sums = np.zeros((len(rows), total.columns) if total.vectors else len(rows))
        for find, values in finders:
            sums += values.take(find(rows), axis=0)
        if total.averaged:
            sums /= count
        return sums.reshape(len(rows), total.columns)

    return engine


def treelite_engine(total: TreeSum) -> Engine | None:
    """Convert the trees for treelite; None where it is not installed or the trees are too many."""
    if total.nodes > MAX_NODES:
        LOG.debug("an ensemble of %d nodes is too large to be converted", total.nodes)
        return None
    try:
        import treelite.sklearn
    except (ImportError, OSError) as error:
        LOG.debug("treelite cannot be imported: %s", error)
        return None
    shell = _averaging_shell(total) if total.averaged else _adding_shell(total)
    # One thread: requests run side by side already.
    return gtil.raw_predictor(treelite.sklearn.import_model(shell), total.width, total.columns)


def treelite_version() -> str:
    """Return the version of the installed treelite."""
    from importlib.metadata import version

    return version("treelite")


def _averaging_shell(total: TreeSum) -> Any:
    """Make the estimator whose import gives a model that averages."""
    from sklearn.ensemble import RandomForestRegressor

    shell = RandomForestRegressor(n_estimators=len(total.trees))
    shell.n_features_in_, shell.n_outputs_ = total.width, total.columns
    shell.estimators_ = [_stand_in(tree, total.columns) for tree in total.trees]
    return shell


def _adding_shell(total: TreeSum) -> Any:
    """Make the estimator whose import gives a model that adds, and nothing before or after."""
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
    """Show a tree as treelite expects to find it in an estimator.

    Where missing values go is left out: only finite rows come here.
    """
    count = len(tree.left)
    values = np.ascontiguousarray(tree.values).reshape(count, columns, 1)
    arrays = SimpleNamespace(
        node_count=count,
        children_left=_contiguous(tree.left, np.int64),
        children_right=_contiguous(tree.right, np.int64),
        feature=_contiguous(tree.feature, np.int64),
        threshold=_contiguous(tree.threshold, np.float64),
        value=values,
        missing_go_to_left=np.zeros(count, np.uint8),
        n_node_samples=np.ones(count, np.int64),
        weighted_n_node_samples=np.ones(count),
        impurity=np.zeros(count),
    )
    return SimpleNamespace(tree_=arrays)


def _contiguous(values: Rows, datatype: Any) -> Rows:
    return np.ascontiguousarray(values, dtype=datatype)


def draw_rows(total: TreeSum, count: int) -> FloatArray:
    """Draw rows where trees decide: on their thresholds, a last bit beside them, and far away.

    Half of the values come from the roots, whose decision every row meets.
    """
    generator = np.random.default_rng(0)
    rows = generator.normal(size=(count, total.width))
    inner = [tree.left != -1 for tree in total.trees]
    roots = [tree.left[:1] != -1 for tree in total.trees]
    for chosen, share in ((inner, 1.0), (roots, 0.5)):
        feature, threshold = _decisions(total.trees, chosen)
        for column in range(total.width):
            # Trees that learned from missing values have infinite thresholds, too.
            if len(known := threshold[(feature == column) & np.isfinite(threshold)]):
                hit = generator.random(count) < share
                rows[hit, column] = generator.choice(known, size=int(hit.sum()))
    return _beside(rows, generator)


def _decisions(trees: Sequence[Tree], chosen: Sequence[Rows]) -> tuple[Rows, FloatArray]:
    pairs = list(zip(trees, chosen, strict=True))
    feature = np.concatenate([tree.feature[: len(mask)][mask] for tree, mask in pairs])
    return feature, np.concatenate([tree.threshold[: len(mask)][mask] for tree, mask in pairs])


def _beside(rows: FloatArray, generator: np.random.Generator) -> FloatArray:
    single = rows.astype(np.float32)
    spread = rows.std(axis=0)
    variants = [
        rows,
        single,
        np.nextafter(single, np.float32(np.inf)),
        np.nextafter(single, np.float32(-np.inf)),
        np.nextafter(rows, np.inf),
        np.nextafter(rows, -np.inf),
        rows + spread * generator.normal(size=rows.shape),
        np.broadcast_to(generator.choice([0.0, -0.0, 1e-40, 3e38, -3e38], rows.shape), rows.shape),
    ]
    which = generator.integers(len(variants), size=rows.shape)
    drawn: FloatArray = np.choose(which, variants).astype(np.float64)
    return np.where(np.abs(drawn) < 3.1e38, drawn, 0.0)  # float32, as trees take them, ends there
