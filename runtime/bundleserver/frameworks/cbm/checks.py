"""What the numbers of a CatBoost model promise each other, checked before the library sees them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from bundleserver.frameworks.cbm.flatbuffer import Damaged, Numbers
from bundleserver.frameworks.cbm.model import Model, Trees, is_ascending

_DEEPEST = 16
"""The library's own limit of symmetric trees."""

_MOST_COLUMNS = 1 << 21
_MOST_LEFT_OUT = 1 << 16
"""The columns of a table of which a small model may know only a few."""
_MOST_CLASSES = 1 << 16
_DEEPEST_JSON = 64
_UNCERTAIN = "RMSEWithUncertainty"

_PARTS = {
    "static_provider": "statistics of categories",
    "text_process": "dictionaries of texts",
    "embed_process": "what is computed of embeddings",
}
"""The parts that follow the trees, by how their names begin."""

_COMPUTED = "columns that are computed of others"
_COMPUTED_OF = ("text", "embedding")


def check_model(model: Model) -> None:
    """Check what the library believes: every index, count and length of the trees and features.

    Raises:
        Damaged: they do not agree; says what.
    """
    if model.trees is None or not len(model.trees.sizes):
        raise Damaged("has no trees")
    _check_features(model)
    _check_trees(model.trees, _bins(model))
    _check_info(model)
    if not model.parts and model.rest:
        raise Damaged(f"has {model.rest} bytes after its end")


def unchecked_parts(model: Model) -> tuple[str, ...]:
    """Name what a model has that :func:`check_model` does not look into; empty: nothing."""
    found = [_part(name) for name in model.parts]
    if not found and (model.computed or any(f.kind in _COMPUTED_OF for f in model.features)):
        found = [_COMPUTED]
    return tuple(found)


def _part(name: str) -> str:
    known = (what for begins, what in _PARTS.items() if name.startswith(begins))
    return next(known, f"{name!r:.40}, which is not known")


def _require(*, holds: object, what: str) -> None:
    if not holds:
        raise Damaged(f"{what} are not consistent")


def _bins(model: Model) -> int:
    """Count all bounds, each of which a split may name."""
    own = sum(feature.bins for feature in model.features)
    return own + model.computed + sum(values for _, values in model.one_hot)


def _check_features(model: Model) -> None:
    places = sorted(feature.place for feature in model.features)
    most = min(_MOST_COLUMNS, max(_MOST_LEFT_OUT, 4 * len(places)))
    is_sound = is_ascending(np.array(places, np.int64), most)
    for kind in ("number", "category", "text", "embedding"):
        of_kind = [feature for feature in model.features if feature.kind == kind]
        for values in ([f.index for f in of_kind], [f.place for f in of_kind]):
            is_sound = is_sound and is_ascending(np.array(values, np.int64), _MOST_COLUMNS)
    is_sound = is_sound and all(
        feature.index <= feature.place and feature.missing in (0, 1, 2)
        for feature in model.features
    )
    used = {f.index for f in model.features if f.kind == "category" and f.is_used}
    is_sound = is_sound and all(index in used for index, _ in model.one_hot)
    _require(holds=is_sound, what="its columns")


def _check_trees(trees: Trees, bins: int) -> None:
    sizes = trees.sizes.astype(np.int64)
    dimensions = trees.dimensions
    _require(
        holds=1 <= dimensions <= max(1, trees.leaf_values)
        and trees.biases in (0, dimensions)
        and len(trees.starts) == len(sizes)
        and (sizes >= 0).all()
        and sizes.sum() == len(trees.splits)
        and np.array_equal(trees.starts, np.cumsum(sizes) - sizes)
        and trees.leaf_values % dimensions == 0
        and trees.leaf_weights in (0, trees.leaf_values // dimensions)
        and trees.repacked in (0, len(trees.splits)),
        what="its trees and their leaves",
    )
    if len(trees.splits):
        _require(holds=_are_places(trees.splits, max(1, bins)), what="its splits and their bounds")
    if len(trees.steps) or len(trees.leaves):
        _check_nodes(trees, sizes)
        # Without a bound the library reads what it has not computed.
        _require(holds=bins, what="its nodes and their bounds")
        return
    _require(holds=(sizes <= _DEEPEST).all() and (bins or not sizes.any()), what="its depths")
    leaves = int((np.int64(1) << sizes).sum())
    _require(holds=leaves * dimensions == trees.leaf_values, what="its trees and their leaves")


def _check_nodes(trees: Trees, sizes: Numbers) -> None:
    """Check that every step stays in its tree, and ends at a leaf that has values."""
    count = len(trees.splits)
    is_sound = len(trees.steps) == len(trees.leaves) == count and bool((sizes > 0).all())
    if is_sound:
        ends = np.repeat(np.cumsum(sizes), sizes)
        reached = np.arange(count)[:, np.newaxis] + trees.steps
        at_leaf = (trees.steps == 0).any(axis=1)
        leaves = trees.leaves[at_leaf].astype(np.int64)
        is_sound = bool(
            (reached < ends[:, np.newaxis]).all()
            and (leaves % trees.dimensions == 0).all()
            and (leaves + trees.dimensions <= trees.leaf_values).all()
            and _has_a_leaf_each(at_leaf, sizes)
        )
    _require(holds=is_sound, what="its nodes and their leaves")


def _has_a_leaf_each(at_leaf: Numbers, sizes: Numbers) -> bool:
    per_tree = np.add.reduceat(at_leaf.astype(np.int64), np.cumsum(sizes) - sizes)
    return bool((per_tree > 0).all())


def _are_places(values: Numbers, count: int) -> bool:
    return bool((values >= 0).all() and (values < count).all())


def _check_info(model: Model) -> None:
    """Check the texts that decide how many numbers an answer has."""
    dimensions = model.trees.dimensions if model.trees else 0
    for name, text in model.info.items():
        if _deepest(text) > _DEEPEST_JSON:
            raise Damaged(f"'{name:.40}' is nested more than {_DEEPEST_JSON} deep")
    for name in ("class_params", "multiclass_params"):
        if name in model.info:
            _check_classes(_parsed(model.info, name), dimensions)
    losses = (_parsed(model.info, "params").get("loss_function"), model.info.get("loss_function"))
    for given in losses:
        if given is not None and _UNCERTAIN in json.dumps(given):
            _require(holds=dimensions == 2, what="its loss function and its leaves")


def _check_classes(given: Mapping[str, Any], dimensions: int) -> None:
    names, count = given.get("class_names", []), given.get("classes_count", 0)
    to_label = given.get("class_to_label", [])
    is_sound = type(names) is list and type(to_label) is list and type(count) is int
    if is_sound:
        most = max(count, len(names)) or len(to_label)
        is_sound = 0 <= count <= _MOST_CLASSES and most <= _MOST_CLASSES
        is_sound = is_sound and all(type(at) in (int, float) and 0 <= at < most for at in to_label)
        is_sound = is_sound and (dimensions == 1 or len(to_label) >= dimensions)
        is_sound = is_sound and (not names or not count or len(names) == count)
    _require(holds=is_sound, what="its classes and their labels")


def _parsed(info: Mapping[str, str], name: str) -> Mapping[str, Any]:
    """Parse an object of JSON; empty if it is not there."""
    try:
        found = json.loads(info.get(name, "{}"))
    except (ValueError, RecursionError):
        raise Damaged(f"'{name}' is not valid JSON") from None
    if type(found) is not dict:
        raise Damaged(f"'{name}' is not an object")
    return found


def _deepest(text: str) -> int:
    """Return how deep brackets are nested at most; those in strings count too."""
    codes = np.frombuffer(text.encode("utf-8", "replace"), np.uint8)
    steps = np.isin(codes, (0x5B, 0x7B)).astype(np.int64) - np.isin(codes, (0x5D, 0x7D))
    return int(np.cumsum(steps).max(initial=0))
