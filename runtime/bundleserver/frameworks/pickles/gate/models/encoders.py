"""What turns categories and words into columns: the places that it keeps are those that it has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np

from bundleserver.frameworks.pickles.gate.models.checking import check, is_count, within
from bundleserver.frameworks.pickles.gate.session import Rule, Session

_MOST_DEGREES = 1_000


def _check_one_hot(_session: Session, made: object) -> None:
    """Check that each category has a place of its own, and each place is a column."""
    attributes: Any = vars(made)
    if "categories_" not in attributes:
        return
    categories = attributes["categories_"]
    is_sound = type(categories) is list and all(type(of) is np.ndarray for of in categories)
    if is_sound:
        sizes = [_columns_of(attributes, at, len(of)) for at, of in enumerate(categories)]
        outs = attributes.get("_n_features_outs")
        is_sound = type(outs) is list and None not in sizes
        is_sound = is_sound and all(map(is_count, outs)) and outs == sizes
    check(holds=is_sound, what="the categories of an encoder, and its columns,")


def _columns_of(attributes: Any, at: int, count: int) -> int | None:
    """Return how many columns a number of categories become; None if they do not agree."""
    if attributes.get("_infrequent_enabled"):
        seldom = attributes["_infrequent_indices"][at]
        places = attributes["_default_to_infrequent_mappings"][at]
        if (seldom is None) != (places is None):
            return None
        if seldom is not None:
            of, count = count, count - np.size(seldom) + 1
            if not (np.shape(places) == (of,) and within(places, 0, count)):
                return None
            if not (np.size(seldom) and within(seldom, 0, of)):
                return None
    dropped = attributes.get("_drop_idx_after_grouping")
    if dropped is None or dropped[at] is None:
        return count
    return count - 1 if is_count(dropped[at], 0, count - 1) else None


def _check_words(_session: Session, made: object) -> None:
    """Check that each word has a place of its own among all words."""
    for name in ("vocabulary_", "_cached_dict"):
        places = vars(made).get(name)
        if places is not None:
            is_sound = type(places) is dict
            kinds = {*map(type, places.values())} if is_sound else set()
            is_sound = is_sound and all(
                kind is int or issubclass(kind, np.integer) for kind in kinds
            )
            is_sound = is_sound and {*places.values()} == {*range(len(places))}
            check(holds=is_sound, what="the places of words")


def _check_hasher(_session: Session, made: object) -> None:
    is_sound = is_count(vars(made).get("n_features"), 1)
    check(holds=is_sound, what="the columns of what hashes words")


def _check_powers(_session: Session, made: object) -> None:
    """Check that all columns of powers are computed; else memory would be shown."""
    attributes, maker = cast(Any, vars(made)), cast(Any, made)
    if "n_output_features_" not in attributes:
        return
    names = ("_min_degree", "_max_degree", "n_features_in_")
    lowest, highest, width = (attributes.get(name) for name in names)
    is_sound = is_count(width, 1) and is_count(lowest) and is_count(highest, 0, _MOST_DEGREES)
    if is_sound:
        switches = {name: attributes.get(name) for name in ("interaction_only", "include_bias")}
        is_sound = all(type(value) in (bool, np.bool_) for value in switches.values())
        for name, least in (("n_output_features_", lowest), ("_n_out_full", 0)):
            count = maker._num_combinations(
                n_features=width, min_degree=least, max_degree=highest, **switches
            )
            is_sound = is_sound and attributes.get(name, count) == count
    check(holds=is_sound, what="the powers of columns")


def _check_targets(_session: Session, made: object) -> None:
    """Check that each column that stands for categories is filled; else memory would be shown."""
    attributes: Any = vars(made)
    if "encodings_" not in attributes:
        return
    encodings, categories = attributes["encodings_"], attributes.get("categories_")
    is_sound = type(encodings) is type(categories) is list
    if is_sound:
        is_of_many = attributes.get("target_type_") == "multiclass"
        times = len(attributes["classes_"]) if is_of_many else 1
        is_sound = len(encodings) == len(categories) * times
        is_sound = is_sound and attributes.get("n_features_in_") == len(categories)
        is_sound = is_sound and all(
            np.shape(encoding) == (len(categories[at // times]),)
            for at, encoding in enumerate(encodings)
        )
    check(holds=is_sound, what="the categories of an encoder, and what stands for them,")


ENCODER_AUDITS: Mapping[str, Rule] = {
    "sklearn.feature_extraction._dict_vectorizer.DictVectorizer": _check_words,
    "sklearn.feature_extraction._hash.FeatureHasher": _check_hasher,
    "sklearn.feature_extraction.text.CountVectorizer": _check_words,
    "sklearn.feature_extraction.text.HashingVectorizer": _check_hasher,
    "sklearn.preprocessing._encoders.OneHotEncoder": _check_one_hot,
    "sklearn.preprocessing._label.MultiLabelBinarizer": _check_words,
    "sklearn.preprocessing._polynomial.PolynomialFeatures": _check_powers,
    "sklearn.preprocessing._target_encoder.TargetEncoder": _check_targets,
}
"""Checks of finished objects, by the names of their classes or of what those extend."""
