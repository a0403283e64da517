"""The trees of a LightGBM text: every number that the library uses as a place is compared.

All trees are checked at once: their arrays are joined, and ``base`` says where each begins.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np

from bundleserver.frameworks.lightgbm_text.numbers import (
    Integers,
    Malformed,
    check_in_range,
    check_numbers,
    integers,
    size_of,
)

Fields = Mapping[str, bytes]
Flags = np.ndarray[Any, np.dtype[np.bool_]]

_OF_SPLITS = ("split_feature", "threshold", "decision_type", "left_child", "right_child")
"""Arrays with a value for each split, without which there is no tree."""

_UNUSED_OF_SPLITS = ("split_gain", "internal_value", "internal_weight", "internal_count")
_UNUSED_OF_LEAVES = ("leaf_weight", "leaf_count")
"""Arrays that no prediction reads."""

_SINGLE = ("num_leaves", "num_cat", "is_linear", "shrinkage")
_OF_CATEGORIES = ("cat_boundaries", "cat_threshold")
_SPACED = ("leaf_features", "leaf_coeff")
_LINEAR = ("leaf_const", "num_features", *_SPACED)

_KNOWN = (
    *(*_SINGLE, *_OF_SPLITS, *_UNUSED_OF_SPLITS, "leaf_value", *_UNUSED_OF_LEAVES),
    *(*_OF_CATEGORIES, *_LINEAR),
)
_MOST_LINES = 22
"""The library reads no more lines of one tree."""

_CHILDREN = "left_child' or 'right_child"
_CATEGORICAL = 1
_MOST_DECISION = 11
"""A bit each for a split by category and for what is missing, and a kind of missing of 0 to 2."""
_BITS = 1 << 32


def fields_of(section: bytes, number: int) -> Fields:
    """Take the text of one tree apart: ``Tree=0``, a line for each field, and an empty line.

    Raises:
        Malformed: a line is unknown, there twice, or missing.
    """
    first, *lines = section.split(b"\n")
    if first != b"Tree=%d" % number:
        raise Malformed(f"has no tree {number} where its sizes say")
    while lines and not lines[-1]:
        lines.pop()
    pairs = [line.partition(b"=") for line in lines]
    fields = {key.decode("latin-1"): value for key, sign, value in pairs if sign}
    if unknown := [key for key in fields if key not in _KNOWN]:
        raise Malformed(f"has the unknown field '{unknown[0][:40]}' in tree {number}")
    if len(fields) < len(pairs) or len(pairs) > _MOST_LINES:
        raise Malformed(f"has a line in tree {number} that is not a field, or is there twice")
    return fields


def check_trees(trees: Sequence[Fields], width: int) -> None:
    """Check that all trees are trees, of this many features.

    Raises:
        Malformed: one is not; says what does not agree.
    """
    for what in _KNOWN:
        values = [tree[what] for tree in trees if tree.get(what)]
        if what in _SPACED:
            values = [b" ".join(value.split()) for value in values if value.strip()]
        check_numbers(b" ".join(values), what)
    leaves = _singles(trees, "num_leaves")
    categories = _singles(trees, "num_cat")
    is_linear = _singles(trees, "is_linear", b"0")
    _agree(leaves >= 1, "num_leaves")
    _agree((categories >= 0) & ((leaves > 1) | (categories == 0)), "num_cat")
    _agree((is_linear >= 0) & (is_linear <= 1), "is_linear")
    _check_sizes(trees, leaves, is_linear)
    split = [tree for tree, count in zip(trees, leaves, strict=True) if count > 1]
    if split:
        _check_splits(split, leaves[leaves > 1], categories[leaves > 1], width)
    linear = [tree for tree, is_one in zip(trees, is_linear, strict=True) if is_one]
    if linear:
        _check_linear(linear, leaves[is_linear == 1], width)


def _agree(holds: object, what: str) -> None:
    """Raise unless a condition holds for all trees."""
    if not (holds.all() if isinstance(holds, np.ndarray) else holds):
        raise Malformed(f"has trees whose '{what}' is not consistent")


def _singles(trees: Sequence[Fields], what: str, default: bytes = b"") -> Integers:
    values = [tree.get(what, default) for tree in trees]
    _agree(not any(b" " in value for value in values), what)
    found = integers(b" ".join(values), what)
    _agree(len(found) == len(trees), what)
    return found


def _joined(trees: Sequence[Fields], what: str) -> Integers:
    return integers(b" ".join(filter(None, (tree.get(what, b"") for tree in trees))), what)


def _check_sizes(trees: Sequence[Fields], leaves: Integers, is_linear: Integers) -> None:
    """Compare the length of each array; what no prediction reads may be missing."""
    for tree, count, linear in zip(trees, leaves.tolist(), is_linear.tolist(), strict=True):
        _agree(size_of(tree.get("leaf_value", b"")) == count, "leaf_value")
        if count == 1 and not linear:
            continue  # the library reads no more of it
        for what in _OF_SPLITS:
            _agree(what in tree and size_of(tree[what]) == count - 1, what)
        for what in _UNUSED_OF_SPLITS:
            _agree(what not in tree or size_of(tree[what]) == count - 1, what)
        for what in _UNUSED_OF_LEAVES:
            _agree(what not in tree or size_of(tree[what]) == count, what)


def _check_splits(
    trees: Sequence[Fields], leaves: Integers, categories: Integers, width: int
) -> None:
    """Check the nodes of trees that have some.

    A node leads to later nodes, and each node but the first, and each leaf, has one parent.
    """
    splits, sizes = leaves - 1, 2 * leaves - 2
    base = np.cumsum(splits) - splits
    own = np.arange(int(splits.sum())) - np.repeat(base, splits)
    feature = _joined(trees, "split_feature")
    _agree((feature >= 0) & (feature < width), "split_feature")
    children = np.concatenate([_joined(trees, "left_child"), _joined(trees, "right_child")])
    parents, tree = np.tile(own, 2), np.tile(np.repeat(np.arange(len(trees)), splits), 2)
    is_leaf = children < 0
    is_there = np.where(is_leaf, ~children < leaves[tree], children < splits[tree])
    _agree(is_there & (is_leaf | (children > parents)), _CHILDREN)
    # Of each tree its leaves, and then its nodes but the first.
    places = np.where(is_leaf, ~children, leaves[tree] + children - 1)
    places += (np.cumsum(sizes) - sizes)[tree]
    _agree(np.bincount(places, minlength=len(places)) == 1, _CHILDREN)
    decision = _joined(trees, "decision_type")
    _agree((decision >= 0) & (decision <= _MOST_DECISION), "decision_type")
    chosen = [tree for tree, count in zip(trees, categories, strict=True) if count]
    is_one = (decision & _CATEGORICAL).astype(bool)
    of_tree = np.repeat(np.arange(len(trees)), splits)
    _agree(~is_one | (categories[of_tree] > 0), "num_cat")
    if chosen:
        _check_categories(chosen, is_one[categories[of_tree] > 0], categories[categories > 0])


def _check_categories(trees: Sequence[Fields], is_one: Flags, categories: Integers) -> None:
    """Check the splits by category: the threshold of one is the number of a set of bits.

    Args:
        trees: those that have such splits.
        is_one: for each split of them, whether it is one.
        categories: the number of sets of each tree.
    """
    words = list(chain.from_iterable(tree["threshold"].split(b" ") for tree in trees))
    of_tree = np.repeat(np.arange(len(trees)), [size_of(tree["threshold"]) for tree in trees])
    places = np.flatnonzero(is_one)
    numbers = integers(b" ".join(words[place] for place in places), "threshold")
    _agree((numbers >= 0) & (numbers < categories[of_tree[places]]), "threshold")
    for tree, count in zip(trees, categories.tolist(), strict=True):
        bounds = integers(tree.get("cat_boundaries", b""), "cat_boundaries")
        is_sound = len(bounds) == count + 1 and bounds[0] == 0 and (np.diff(bounds) >= 0).all()
        is_sound = is_sound and bounds[-1] == size_of(tree.get("cat_threshold", b""))
        _agree(is_sound, "cat_boundaries")
    bits = _joined(trees, "cat_threshold")
    _agree((bits >= 0) & (bits < _BITS), "cat_threshold")


def _check_linear(trees: Sequence[Fields], leaves: Integers, width: int) -> None:
    """Check the linear models in leaves: how many features each has, which, and a number for each.

    Their values have spaces of any number between them, since each leaf ends with one.
    """
    for tree, count in zip(trees, leaves.tolist(), strict=True):
        _agree(size_of(tree.get("leaf_const", b"")) == count, "leaf_const")
        counts = integers(tree.get("num_features", b""), "num_features")
        _agree(len(counts) == count and (counts >= 0).all(), "num_features")
        words = tree.get("leaf_features", b"").split()
        features = integers(b" ".join(words), "leaf_features")
        _agree(len(features) == counts.sum(), "leaf_features")
        _agree((features >= 0) & (features < width), "leaf_features")
        coefficients = tree.get("leaf_coeff", b"").split()
        _agree(len(coefficients) == counts.sum(), "leaf_coeff")
        check_in_range(b" ".join(coefficients), "leaf_coeff")
        check_in_range(tree["leaf_const"], "leaf_const")
