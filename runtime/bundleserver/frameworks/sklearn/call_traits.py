"""Which scikit-learn models are batchable, or predictable and so run inline.

The classes with independent rows are listed here: trees and ensembles of them, scalers that treat
each value by itself. Models that multiply matrices are not, since the order of their sums depends
on the number of rows. Each model is tested as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sklearn.base import BaseEstimator
from sklearn.pipeline import Pipeline

from bundleserver.frameworks.sklearn.fast.tree_ensembles import is_ensemble
from bundleserver.frameworks.sklearn.imported import classes

_ROW_BY_ROW = (
    "dummy.DummyRegressor",
    "impute.SimpleImputer",
    "preprocessing.MaxAbsScaler",
    "preprocessing.MinMaxScaler",
    "preprocessing.RobustScaler",
    "preprocessing.StandardScaler",
    "tree.DecisionTreeClassifier",
    "tree.DecisionTreeRegressor",
    "tree.ExtraTreeClassifier",
    "tree.ExtraTreeRegressor",
)
_SEARCHING = ("sklearn.neighbors", "sklearn.gaussian_process")
"""The duration of these depends on the row's values, or on the size of the training data."""


def is_predictable(model: Any) -> bool:
    """Ask whether a model's calls cost the same for the same number of finite numbers.

    Every part must be scikit-learn's own, run in the calling thread, and call no other functions.
    ``SklearnPredictor`` requires also that it accepts numbers only.
    """
    try:
        return all(_part_is_predictable(part) for part in _parts(model))
    except Exception:  # noqa: BLE001 - an estimator's own code may raise anything
        return False


def is_row_by_row(model: Any) -> bool:
    """Ask whether a model's class has independent rows, or it is a pipeline of such."""
    if type(model) is Pipeline:
        steps = [step for _, step in model.steps]
        return all(step in (None, "passthrough") or is_row_by_row(step) for step in steps)
    is_known = type(model) in classes(*_ROW_BY_ROW) or is_ensemble(model)
    return is_known and getattr(model, "n_jobs", 1) in (None, 1)


def _parts(model: Any) -> Iterator[Any]:
    """Yield a model and the estimators in it."""
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
