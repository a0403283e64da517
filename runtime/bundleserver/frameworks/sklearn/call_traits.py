"""Which scikit-learn models may answer several requests in one call, or on the event loop.

The classes whose rows do not touch each other are named here: trees and ensembles of them, scalers
that treat each value by itself. What multiplies matrices is none of them, since a library for that
adds up in another order for another number of rows. Each model is put to the test as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.dummy import DummyRegressor
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    IsolationForest,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, RobustScaler, StandardScaler
from sklearn.tree import (
    DecisionTreeClassifier,
    DecisionTreeRegressor,
    ExtraTreeClassifier,
    ExtraTreeRegressor,
)

from bundleserver.frameworks.sklearn.fast.engines import same_bits
from bundleserver.tensors import Array

_ROW_BY_ROW = frozenset(
    {
        DecisionTreeClassifier,
        DecisionTreeRegressor,
        DummyRegressor,
        ExtraTreeClassifier,
        ExtraTreeRegressor,
        ExtraTreesClassifier,
        ExtraTreesRegressor,
        GradientBoostingClassifier,
        GradientBoostingRegressor,
        HistGradientBoostingClassifier,
        HistGradientBoostingRegressor,
        IsolationForest,
        MaxAbsScaler,
        MinMaxScaler,
        RandomForestClassifier,
        RandomForestRegressor,
        RobustScaler,
        SimpleImputer,
        StandardScaler,
    }
)
_SEARCHING = ("sklearn.neighbors", "sklearn.gaussian_process")
"""How long these look depends on where a row lies, or on all that they were fitted with."""

_PARTS = (1, 2, 5, 24)
"""How many of the drawn rows are asked at once, besides all of them."""


def is_predictable(model: Any) -> bool:
    """Ask whether a model's calls cost the same for the same number of finite numbers.

    Every part must be scikit-learn's own, run in the thread that calls, and call nobody else's
    functions. ``SklearnPredictor`` asks besides that it takes numbers only.
    """
    try:
        return all(_part_is_predictable(part) for part in _parts(model))
    except Exception:  # noqa: BLE001 - an estimator's own code; without it nothing is known
        return False


def is_row_by_row(model: Any) -> bool:
    """Ask whether a model is of a class whose rows do not touch each other, or a chain of such."""
    if type(model) is Pipeline:
        steps = [step for _, step in model.steps]
        return all(step in (None, "passthrough") or is_row_by_row(step) for step in steps)
    return type(model) in _ROW_BY_ROW and getattr(model, "n_jobs", 1) in (None, 1)


def answers_alike(ask: Callable[[Array], Array], width: int) -> bool:
    """Ask a model about drawn rows, all at once and in parts, and compare the answers' bits."""
    rows = _draw_rows(sum(_PARTS), width)
    ends = np.cumsum(_PARTS)
    try:
        whole = ask(rows)
        parts = [ask(rows[end - size : end]) for size, end in zip(_PARTS, ends, strict=True)]
    except Exception:  # noqa: BLE001 - what cannot answer drawn rows is left alone
        return False
    return len(whole) == len(rows) and same_bits(whole, np.concatenate(parts))


def _parts(model: Any) -> Iterator[Any]:
    """Yield a model and the estimators that it is made of."""
    yield model
    for value in model.get_params(deep=True).values():
        if isinstance(value, BaseEstimator):
            yield value
    best = getattr(model, "best_estimator_", None)
    if best is not None:
        yield from _parts(best)


def _part_is_predictable(part: Any) -> bool:
    module = type(part).__module__
    if not module.startswith("sklearn.") or module.startswith(_SEARCHING):
        return False
    own = part.get_params(deep=False)
    calls_others = any(
        callable(value) and not isinstance(value, BaseEstimator) for value in own.values()
    )
    return not calls_others and own.get("n_jobs") in (None, 1)


def _draw_rows(count: int, width: int) -> Array:
    generator = np.random.default_rng(0)
    scales = generator.choice([0.01, 1.0, 3.0, 100.0], (count, width))
    return np.asarray(generator.normal(size=(count, width)) * scales)
