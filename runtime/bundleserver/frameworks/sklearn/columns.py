"""The columns of a fitted estimator's table: which it uses, and what kind of values it knows.

Everything is read from what fitting left in the estimator and its parts. What a request's values
look like never decides: a row alone would then be another table than the row among others.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
from sklearn import preprocessing
from sklearn.pipeline import FeatureUnion, Pipeline

from bundleserver.frameworks.sklearn import boosters
from bundleserver.frameworks.sklearn.imported import is_of
from bundleserver.frameworks.tables.columns import NUMBERS, UNKNOWN, Column, is_na, of_values

TEXT = ("feature_extraction.text.CountVectorizer", "feature_extraction.text.HashingVectorizer")
_IMPUTER = "impute.SimpleImputer"
_ACCEPT_STRINGS = (
    *TEXT,
    "compose.ColumnTransformer",
    "feature_extraction.DictVectorizer",
    "feature_extraction.FeatureHasher",
    "impute.MissingIndicator",
    _IMPUTER,
    "preprocessing.FunctionTransformer",
    "preprocessing.OneHotEncoder",
    "preprocessing.OrdinalEncoder",
    "preprocessing.TargetEncoder",
)
_LIBRARIES = frozenset({"sklearn", "xgboost", "lightgbm"})
_ALIKE = (
    "best_estimator_",
    "estimators_",
    "estimator_",
    "regressor_",
    "calibrated_classifiers_",
    "estimator",
)
"""The attributes in which estimators keep those that get the same table as they do."""

_HANDING_ON = frozenset(
    {
        "CalibratedClassifierCV",
        "_CalibratedClassifier",
        "FixedThresholdClassifier",
        "FrozenEstimator",
        "GridSearchCV",
        "HalvingGridSearchCV",
        "HalvingRandomSearchCV",
        "MultiOutputClassifier",
        "MultiOutputRegressor",
        "RandomizedSearchCV",
        "StackingClassifier",
        "StackingRegressor",
        "TransformedTargetRegressor",
        "TunedThresholdClassifierCV",
        "VotingClassifier",
        "VotingRegressor",
    }
)
"""Estimators of scikit-learn that hand their table on without a check of its columns."""


_FEW = 32

_UNUSED = Column(is_used=False)
_PASSED = Column(is_passed=True)


def columns_of(model: Any, width: int) -> tuple[Column, ...]:
    """Return what a fitted estimator knows of each column of its table."""
    try:
        found = _of(model, width)
    except Exception:  # noqa: BLE001 - an estimator's own code, or another library's attributes
        return (UNKNOWN,) * width
    return found if len(found) == width else (UNKNOWN,) * width


def accepts_only_numbers(model: Any) -> bool:
    """Ask whether every part of an estimator is of a known library and rejects strings."""
    try:
        fitted = getattr(model, "best_estimator_", model)
        parts = [model, fitted, *fitted.get_params(deep=True).values()]
    except Exception:  # noqa: BLE001 - an estimator's own code may raise anything
        return False
    return not any(_may_accept_strings(part) for part in parts if hasattr(part, "fit"))


def _may_accept_strings(part: Any) -> bool:
    if is_of(part, *_ACCEPT_STRINGS) or type(part).__module__.split(".")[0] not in _LIBRARIES:
        return True
    # Histogram gradient boosting knows only once fitted whether there are categories.
    may_have_categories = hasattr(part, "categorical_features")
    return may_have_categories and getattr(part, "is_categorical_", "not fitted") is not None


def _of(step: Any, width: int) -> tuple[Column, ...]:
    if is_of(step, "compose.ColumnTransformer"):
        return _of_split(step, width)
    if isinstance(step, Pipeline):
        return _of_steps([part for _, part in step.steps], width)
    if isinstance(step, FeatureUnion):
        return _combined((part for _, part in step.transformer_list), width)
    if handed := list(_handed_on(step)):
        return _combined(handed, width)
    if is_of(step, _IMPUTER):
        return tuple(_of_imputer(step))
    if is_of(step, *TEXT):
        return (Column("strings", categories=words_of(step)),) * width
    if len(lists := getattr(step, "categories_", ())) == width:
        return tuple(of_values(values) for values in lists)
    if inside := getattr(step, "_preprocessor", None):  # histogram gradient boosting's own
        return tuple(c if c.kind else replace(c, kind="numbers") for c in _of(inside, width))
    if categories := boosters.categories_of(step):
        return tuple(
            replace(of_values(categories[i]), is_category=True) if i in categories else NUMBERS
            for i in range(width)
        )
    return (NUMBERS if accepts_only_numbers(step) else UNKNOWN,) * width


def _of_split(step: Any, width: int) -> tuple[Column, ...]:
    columns = [_UNUSED] * width
    places = step._transformer_to_input_indices
    for name, part, _ in step.transformers_:
        at = [int(i) for i in places.get(name, ())]
        if not at or (isinstance(part, str) and part == "drop"):
            continue
        for i, column in zip(at, _of_part(part, len(at)), strict=True):
            columns[i] = _either(columns[i], column)
    return tuple(columns)


def _of_part(part: Any, width: int) -> tuple[Column, ...]:
    return (_PASSED,) * width if _passes_through(part) else _of(part, width)


def _passes_through(part: Any) -> bool:
    if isinstance(part, preprocessing.FunctionTransformer):
        return part.func is None
    return part is None or (isinstance(part, str) and part == "passthrough")


def _of_steps(steps: Sequence[Any], width: int) -> tuple[Column, ...]:
    """Ask the first step; of what it does not know, the next one that gets the same columns."""
    steps = [step for step in steps if not _passes_through(step)]
    if not steps:
        return (UNKNOWN,) * width
    first, rest = _of(steps[0], width), steps[1:]
    if rest and not all(column.kind and column.categories for column in first):
        if getattr(rest[0], "n_features_in_", None) == width:
            later = _of_steps(rest, width)
            if is_of(steps[0], _IMPUTER):  # each column stays what it is
                return tuple(map(_known_later, first, later))
        if accepts_only_numbers(rest[0]):
            return tuple(replace(c, kind="numbers") if c.is_passed else c for c in first)
    return first


def _known_later(column: Column, later: Column) -> Column:
    if column.kind is None:
        gap = later.gap if column.gap is np.nan else column.gap
        return replace(later, is_used=column.is_used, gap=gap)
    same = column.kind == later.kind and not column.categories
    if not same:
        return column
    gap = later.gap if later.gap is not np.nan else column.gap
    return replace(column, categories=later.categories, gap=gap)


def _combined(parts: Iterable[Any], width: int) -> tuple[Column, ...]:
    """Combine what several estimators know that get the same table."""
    combined = (_UNUSED,) * width
    for part in parts:
        if not (isinstance(part, str) and part == "drop"):
            combined = tuple(map(_either, combined, _of_part(part, width)))
    return combined


def _either(one: Column, other: Column) -> Column:
    known = one if one.kind or not other.is_used else other
    return replace(known, is_used=one.is_used or other.is_used)


def _handed_on(step: Any) -> Iterator[Any]:
    """Yield the estimators that get the table of one that does not check it."""
    known = type(step).__module__.startswith("sklearn.") and type(step).__name__ in _HANDING_ON
    known = known and not getattr(step, "passthrough", False)  # a stack's last one gets it too
    for name in _ALIKE if known else ():
        if (held := getattr(step, name, None)) is not None:
            yield from held if isinstance(held, list) else [held]
            return


def takers_of(step: Any) -> Iterator[Any]:
    """Yield the estimators that get a model's own table, itself among them if it has no parts."""
    if isinstance(step, Pipeline):
        steps = [part for _, part in step.steps if not _passes_through(part)]
        handed = steps[:1]
    else:
        handed = [part for part in _handed_on(step) if not isinstance(part, str)]
    for part in handed:
        yield from takers_of(part)
    if not handed:
        yield step


def words_of(step: Any) -> tuple[object, ...]:
    """Return some of a vectorizer's words; none if it keeps no vocabulary."""
    return tuple(islice(getattr(step, "vocabulary_", None) or (), _FEW))


def _of_imputer(step: Any) -> Iterator[Column]:
    is_filled = step.strategy == "constant" and getattr(step, "_fit_dtype", np.dtype("O")) == "O"
    missing = step.missing_values
    gap = missing if missing is None or is_na(missing) else np.nan
    for statistic in step.statistics_:
        column = of_values([statistic])
        unknown = is_filled and column.kind != "strings"
        yield replace(UNKNOWN if unknown else column, gap=gap, categories=())
