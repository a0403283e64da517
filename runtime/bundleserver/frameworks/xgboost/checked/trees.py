"""Trees: every number that leads from a node to another, to a column or to categories.

All trees of a model are compared at once, as one long array for each key.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bundleserver.frameworks.boosting.soundness import demand
from bundleserver.frameworks.xgboost.checked.recorded import Version
from bundleserver.frameworks.xgboost.checked.values import (
    Array,
    count,
    flags,
    length_of_numbers,
    member,
    whole_numbers,
)

DEEPEST = 10_000
"""The most levels of a tree."""

_MOST_BITS = 1 << 31
"""The most categories that the splits of all trees have room for: a bit each, up to the highest."""

_HIGHEST_CATEGORY = 1 << 24
_ROOT = (1 << 31) - 1
_VECTORS_SINCE = (3, 2)
"""Since when trees of several outputs have the numbers of leaves apart from those of nodes."""

_OF_CATEGORIES = ("categories", "categories_nodes", "categories_segments", "categories_sizes")

Tree = Mapping[str, object]


@dataclass(frozen=True)
class Layout:
    """The trees of a model side by side: where each begins, and how long the vector of a leaf is.

    ``starts`` has one more entry than there are trees: the number of all nodes.
    """

    starts: Array
    leaf_size: int

    @property
    def nodes(self) -> int:
        """The number of all nodes."""
        return int(self.starts[-1])

    @property
    def sizes(self) -> Array:
        """The number of nodes of each tree."""
        return np.diff(self.starts)

    @property
    def base(self) -> Array:
        """For each node the place where its tree begins."""
        return np.repeat(self.starts[:-1], self.sizes)


def leaf_size(trees: Sequence[Tree]) -> int:
    """Return how many numbers the leaves of a model's trees have, at most.

    Raises:
        NotSound: a tree does not say it.
    """
    params = [member(tree, "tree_param", dict) for tree in trees]
    return max(max(1, count(param, "size_leaf_vector", 0)) for param in params)


def check_trees(trees: Sequence[Tree], columns: int, outputs: int, installed: Version) -> None:
    """Check the trees of a model.

    Args:
        trees: their objects.
        columns: how many columns a row of the model's table has.
        outputs: how many numbers the model has for a row.
        installed: the version of XGBoost that is to read them.

    Raises:
        NotSound: they do not agree with themselves, with each other or with the model.
    """
    layout = _layout(trees, columns, outputs)
    left, right = _joined(trees, "left_children", layout), _joined(trees, "right_children", layout)
    is_leaf = left == -1
    has_vectors = layout.leaf_size > 1 and installed[:2] >= _VECTORS_SINCE
    if has_vectors:
        _check_leaves(trees, right, is_leaf, layout)
    else:
        demand(holds=(right[is_leaf] == -1).all(), what="a leaf has a right child and no left one")
    _check_ways(left, right, is_leaf, layout)
    _check_parents(_joined(trees, "parents", layout), left, right, is_leaf, layout)
    split = _joined(trees, "split_indices", layout)
    demand(
        holds=((split >= 0) & (split < np.where(is_leaf, 1 << 32, columns))).all(),
        what=f"a split is on a column that is none of the model's {columns}",
    )
    _joined_flags(trees, "default_left", layout)
    _check_lengths(trees, layout, has_gains=layout.leaf_size == 1 or has_vectors)
    _check_categories(trees, layout)


def _layout(trees: Sequence[Tree], columns: int, outputs: int) -> Layout:
    params = [member(tree, "tree_param", dict) for tree in trees]
    sizes = [count(param, "num_nodes", 1) for param in params]
    widths = {count(param, "num_feature", 0) for param in params} - {0, columns}
    demand(
        holds=not widths,
        what=f"a tree is for {max(widths, default=0)} columns; the model has {columns}",
    )
    of_leaves = {max(1, count(param, "size_leaf_vector", 0)) for param in params}
    demand(
        holds=of_leaves in ({1}, {outputs}),
        what=f"leaves have {max(of_leaves)} numbers; the model has {outputs} for a row",
    )
    ids = [member(tree, "id", int) for tree in trees]
    demand(holds=ids == [*range(len(trees))], what="the trees are not numbered from 0 on")
    return Layout(np.concatenate(([0], np.cumsum(sizes))), of_leaves.pop())


def _joined(trees: Sequence[Tree], key: str, layout: Layout) -> Array:
    parts = [whole_numbers(tree.get(key), key) for tree in trees]
    return _whole(parts, key, layout)


def _joined_flags(trees: Sequence[Tree], key: str, layout: Layout) -> Array:
    return _whole([flags(tree.get(key), key) for tree in trees], key, layout)


def _whole(parts: Sequence[Array], key: str, layout: Layout) -> Array:
    lengths = np.fromiter(map(len, parts), np.int64, len(parts))
    demand(
        holds=np.array_equal(lengths, layout.sizes),
        what=f"'{key}' of a tree has not one number for each node",
    )
    return np.concatenate(parts)


def _check_ways(left: Array, right: Array, is_leaf: Array, layout: Layout) -> None:
    """Check that each node is reached in one way at most, and none leads back to a root."""
    inner = np.flatnonzero(~is_leaf)
    base, sizes = layout.base[inner], np.repeat(layout.sizes, layout.sizes)[inner]
    for children in (left[inner], right[inner]):
        demand(
            holds=((children > 0) & (children < sizes)).all(),
            what="a node leads to another that its tree does not have",
        )
    led_to = np.concatenate((left[inner] + base, right[inner] + base))
    once = np.bincount(led_to, minlength=layout.nodes).max(initial=0) <= 1
    demand(holds=once, what="a node is reached in two ways, or is its own end")
    reached, deep = layout.starts[:-1], 0
    ahead = [side + layout.base for side in (left, right)]
    while reached.size:
        demand(holds=(deep := deep + 1) <= DEEPEST, what=f"a tree has more than {DEEPEST} levels")
        reached = reached[~is_leaf[reached]]
        reached = np.concatenate([side[reached] for side in ahead])


def _check_parents(
    parents: Array, left: Array, right: Array, is_leaf: Array, layout: Layout
) -> None:
    sizes = np.repeat(layout.sizes, layout.sizes)
    roots = layout.starts[:-1]
    demand(
        holds=np.isin(parents[roots], (-1, _ROOT)).all(),
        what="the first node of a tree has a parent",
    )
    is_known = (parents >= -1) & (parents < sizes) | (parents == _ROOT)
    inner = np.flatnonzero(~is_leaf)
    own = inner - layout.base[inner]
    is_known[inner] &= parents[left[inner] + layout.base[inner]] == own
    is_known[inner] &= parents[right[inner] + layout.base[inner]] == own
    demand(holds=is_known.all(), what="a node has another parent than the one that leads to it")


def _check_leaves(trees: Sequence[Tree], right: Array, is_leaf: Array, layout: Layout) -> None:
    """Check the vectors of leaves; what would be a leaf's right child says which is its own."""
    lengths = [length_of_numbers(tree.get("leaf_weights"), "leaf_weights") for tree in trees]
    vectors = np.repeat(np.array(lengths) // layout.leaf_size, layout.sizes)
    demand(
        holds=all(length % layout.leaf_size == 0 for length in lengths)
        and ((right >= 0) & (right < vectors))[is_leaf].all(),
        what="a leaf has no numbers in 'leaf_weights'",
    )


def _check_lengths(trees: Sequence[Tree], layout: Layout, *, has_gains: bool) -> None:
    times = {"split_conditions": 1, "base_weights": layout.leaf_size}
    gains = {"loss_changes": 1, "sum_hessian": 1} if has_gains else {}
    for key, each in {**times, **gains}.items():
        lengths = [length_of_numbers(tree.get(key), key) for tree in trees]
        demand(
            holds=np.array_equal(lengths, layout.sizes * each),
            what=f"'{key}' of a tree has not {each} for each node",
        )


def _check_categories(trees: Sequence[Tree], layout: Layout) -> None:
    """Check the categories of splits; models from before there were any have no such keys."""
    keys = {key for tree in trees for key in (*_OF_CATEGORIES, "split_type") if key in tree}
    if not keys:
        return
    is_category = _joined_flags(trees, "split_type", layout)
    bits = 0
    for place, tree in enumerate(trees):
        values, nodes, starts, sizes = (whole_numbers(tree.get(k), k) for k in _OF_CATEGORIES)
        own = is_category[layout.starts[place] : layout.starts[place + 1]]
        demand(
            holds=np.array_equal(nodes, np.flatnonzero(own)),
            what="'categories_nodes' are not the nodes that split by categories",
        )
        if not len(nodes):
            continue
        demand(
            holds=len(starts) == len(sizes) == len(nodes)
            and ((starts >= 0) & (sizes > 0) & (starts <= len(values))).all()
            and (sizes <= len(values) - starts).all(),
            what="a split is by categories that its tree does not have",
        )
        demand(
            holds=((values >= 0) & (values < _HIGHEST_CATEGORY)).all(),
            what=f"a category is not a number from 0 to {_HIGHEST_CATEGORY}",
        )
        bits += sum(int(values[a : a + n].max()) + 32 for a, n in zip(starts, sizes, strict=True))
        demand(holds=bits <= _MOST_BITS, what="the categories of splits need too much memory")
