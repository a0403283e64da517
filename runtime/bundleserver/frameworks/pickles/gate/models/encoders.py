"""Transformers that write places into sparse matrices, which compiled code believes later on.

scipy makes a matrix of whatever places it gets, and multiplies by it without looking again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from bundleserver.frameworks.pickles.gate.refusal import Refused
from bundleserver.frameworks.pickles.gate.session import Rule, Session

_MOST_COLUMNS = (1 << 31) - 1


def _check(*, holds: bool, what: str) -> None:
    if not holds:
        raise Refused(f"{what} are not consistent")


def _is_within(value: object, size: int) -> bool:
    return isinstance(value, (int, np.integer)) and 0 <= int(value) < size


def _check_vocabulary(_session: Session, made: object) -> None:
    """Check that each term of a vocabulary has a column of the matrix that is made with it."""
    for name in ("vocabulary_", "vocabulary"):
        words = vars(made).get(name)
        if isinstance(words, dict):
            size = dict.__len__(words)
            is_sound = all(_is_within(place, size) for place in dict.values(words))
            _check(holds=is_sound, what="the columns of a vocabulary")


def _check_hashed(_session: Session, made: object) -> None:
    """Check the number of columns by which compiled code divides."""
    count = vars(made).get("n_features", 1)
    is_sound = isinstance(count, (int, np.integer)) and 1 <= int(count) <= _MOST_COLUMNS
    _check(holds=is_sound, what="the columns of a hasher")


def _check_one_hot(_session: Session, made: object) -> None:
    """Check that the place of every category is inside of the columns of its feature."""
    attributes = vars(made)
    categories = attributes.get("categories_")
    if categories is None:
        return
    try:
        is_sound = _are_places_inside(attributes, [len(one) for one in categories])
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        raise Refused("the categories of an encoder are not consistent") from error
    _check(holds=is_sound, what="the categories of an encoder")


def _are_places_inside(attributes: Mapping[str, Any], sizes: list[int]) -> bool:
    nothing = [None] * len(sizes)
    # Those of scikit-learn before 1.2 have other names for it, and cannot transform.
    dropped = _each(attributes.get("_drop_idx_after_grouping", attributes.get("drop_idx_")), sizes)
    widths = attributes.get("_n_features_outs")
    rare = attributes.get("_infrequent_indices") or nothing
    mappings = attributes.get("_default_to_infrequent_mappings") or nothing
    parts = (dropped, sizes if widths is None else widths, rare, mappings)
    if any(len(part) != len(sizes) for part in parts):
        return False
    for size, drop, width, few, mapping in zip(sizes, *parts, strict=True):
        places = np.arange(size) if mapping is None else np.asarray(mapping)
        top = int(places.max()) if places.size else -1
        is_sound = places.dtype.kind in "iu" and (not places.size or int(places.min()) >= 0)
        if few is not None:
            is_sound = is_sound and all(_is_within(place, size) for place in np.ravel(few))
            # What is unknown gets this place, which no mapping may change.
            top = max(top, int(np.max(few))) if mapping is None else top
        if drop is not None:
            is_sound = is_sound and _is_within(drop, top + 1)
            top -= 1
        if not (is_sound and isinstance(width, (int, np.integer)) and top < int(width)):
            return False
    return True


def _each(dropped: Any, sizes: list[int]) -> list[Any]:
    return [None] * len(sizes) if dropped is None else [*np.asarray(dropped, object)]


ENCODER_AUDITS: Mapping[str, Rule] = {
    "sklearn.feature_extraction._dict_vectorizer.DictVectorizer": _check_vocabulary,
    "sklearn.feature_extraction._hash.FeatureHasher": _check_hashed,
    "sklearn.feature_extraction.text.CountVectorizer": _check_vocabulary,
    "sklearn.feature_extraction.text.HashingVectorizer": _check_hashed,
    "sklearn.preprocessing._encoders.OneHotEncoder": _check_one_hot,
}
"""Checks of finished transformers, by the names of their classes."""
