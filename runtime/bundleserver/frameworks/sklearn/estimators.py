"""Inspecting a fitted estimator: whether it can be served, its inputs and its outputs."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from bundleserver.frameworks import framework_for
from bundleserver.frameworks.interface import has_class_of
from bundleserver.frameworks.pickles import save_line, with_article
from bundleserver.frameworks.sklearn import boosters
from bundleserver.frameworks.sklearn.columns import (
    TEXT,
    accepts_only_numbers,
    columns_of,
    takers_of,
)
from bundleserver.frameworks.sklearn.imported import is_of
from bundleserver.frameworks.tables.columns import MOST_MADE_UP
from bundleserver.frameworks.tables.intake import Intake
from bundleserver.frameworks.tables.results import dense
from bundleserver.tensors import Array, NamedTensor, TensorSpec, datatype_of

METHODS = (
    "predict",
    "transform",
    "predict_proba",
    "predict_log_proba",
    "decision_function",
    "score_samples",
    "apply",
    "inverse_transform",
)
"""The methods that a request may call: from one table to a result for each of its rows."""


def is_estimator(model: object) -> bool:
    """Ask whether an object's methods are those of a model or transformer of tables."""
    if isinstance(model, type) or _other_framework(model):
        return False
    # A DataFrame has transform too, but not fit.
    return hasattr(model, "predict") or (hasattr(model, "transform") and hasattr(model, "fit"))


def methods_of(model: object) -> tuple[str, ...]:
    """Return an estimator's methods of :data:`METHODS`, the default first."""
    return tuple(method for method in METHODS if callable(getattr(model, method, None)))


def why_not_served(model: object) -> str | None:
    """Say why an object cannot be a component; ``None`` if it can."""
    if not (isinstance(model, BaseEstimator) or is_estimator(model)):
        return _what_instead(model)
    name = type(model).__name__
    if not _is_fitted(model):
        return f"a {name} that is not fitted; fit it before saving it"
    if _takes_dicts(first_step(model)):
        return (
            f"a {name} that takes a dict for each row, which is not a table; fit it on a table, "
            "with a ColumnTransformer and a OneHotEncoder in place of the DictVectorizer"
        )
    if not methods_of(model):
        return (
            f"a {name}, which cannot predict for new data: it has none of the methods "
            f"{', '.join(METHODS)}"
        )
    for taker in takers_of(model):
        if problem := boosters.why_not_served(taker):
            held = "" if taker is model else f" of {with_article(type(taker).__name__)}"
            return f"{with_article(name)}{held} that {problem}"
    return None


def _takes_dicts(first: Any) -> bool:
    is_hasher = is_of(first, "feature_extraction.FeatureHasher") and first.input_type != "string"
    return is_of(first, "feature_extraction.DictVectorizer") or is_hasher


def _what_instead(model: object) -> str:
    kind = type(model)
    name = kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"
    if framework := _other_framework(model):
        return f"a {name}; its framework is '{framework}', not 'sklearn'"
    if isinstance(model, type):
        return f"the class {model.__name__} itself; fit an instance of it and save that"
    if parts := _estimators_in(model):
        return f"a {name} of several models; save each as a component: {save_line(parts)}"
    return f"a {name}, which is not a fitted estimator: it has neither 'predict' nor 'transform'"


def _other_framework(model: object) -> str | None:
    framework = framework_for(model)
    # Bundles of before it had a framework of its own say 'sklearn' of CatBoost's estimators.
    return None if framework in ("sklearn", "catboost") else framework


def _estimators_in(model: object) -> dict[str, str]:
    """Find the models in a dict, list or tuple, with an expression for each."""
    if isinstance(model, dict):
        named = {str(key): (f"models[{key!r}]", value) for key, value in model.items()}
    elif isinstance(model, list | tuple):
        named = {f"part_{i}": (f"models[{i}]", value) for i, value in enumerate(model)}
    else:
        return {}
    return {name: at for name, (at, value) in named.items() if is_estimator(value)}


def _is_fitted(model: object) -> bool:
    if not isinstance(model, BaseEstimator):
        return True  # cannot be known
    if isinstance(model, Pipeline):
        # scikit-learn 1.4's own check fails for a last step 'passthrough'.
        fitted = [step for _, step in model.steps if hasattr(step, "fit")]
        return not fitted or _is_fitted(fitted[-1])
    try:
        check_is_fitted(model)
    except NotFittedError:
        if hasattr(model, "__sklearn_is_fitted__"):
            return False  # it says so itself
        # Only scikit-learn's own estimators are certain to mark fitted attributes by an underscore.
        own = type(model).__module__.startswith("sklearn.")
        return not own and bool(vars(model).keys() - model.get_params(deep=False).keys())
    return True


def intake_of(model: Any) -> Intake:
    """Derive an estimator's input from its fitted attributes."""
    columns = _column_names(model)
    # 0 is said by estimators that do not know, as CatBoost's after unpickling.
    width = int(getattr(model, "n_features_in_", None) or 0) or len(columns) or None
    known = () if width is None or width > MOST_MADE_UP else columns_of(model, width)
    has_categories = any(column.is_category for column in known)
    return Intake(
        taker=type(model).__name__,
        width=width,
        columns=columns if len(columns) == width else (),
        text=is_of(first_step(model), *TEXT),
        numeric=width is not None and not has_categories and accepts_only_numbers(model),
        known=known,
    )


def _column_names(model: Any) -> tuple[str, ...]:
    """Return the names of the columns that an estimator was fitted with, unless it made them up."""
    names = getattr(model, "feature_names_in_", None)
    if has_class_of(model, "catboost"):
        names = getattr(model, "feature_names_", None)
    columns = () if names is None else tuple(map(str, names))
    places = range(len(columns))
    # LightGBM and CatBoost make these up if they were fitted without any.
    made_up = {"lightgbm": [f"Column_{i}" for i in places], "catboost": [str(i) for i in places]}
    is_made_up = any(has_class_of(model, lib) and [*columns] == made_up[lib] for lib in made_up)
    return () if is_made_up else columns


def output_of(model: Any, method: str) -> TensorSpec:
    """Derive a method's output from the last step's result for one row of zeros.

    Only numeric steps of known libraries are run, since they have no side effects. Of the others,
    only the datatype of a classifier's labels is known.
    """
    if method == "inverse_transform":
        return TensorSpec("output-0")
    answer = _answer_to_zeros(_last_step(model), method)
    if answer is not None and len(answer) == 1:
        return TensorSpec("output-0", datatype_of(answer), (-1, *answer.shape[1:]))
    classes = getattr(model, "classes_", None)
    # Regressors of CatBoost have an empty one.
    if method == "predict" and isinstance(classes, np.ndarray) and classes.size:
        return TensorSpec("output-0", datatype_of(classes))
    return TensorSpec("output-0")


def _answer_to_zeros(step: Any, method: str) -> Array | None:
    intake = intake_of(step)
    if not intake.numeric or intake.width is None or intake.width > MOST_MADE_UP:
        return None
    zeros = NamedTensor("input-0", np.zeros((1, intake.width)))
    try:
        with np.errstate(all="ignore"):
            return dense(getattr(step, method)(intake.table((zeros,))))
    except Exception:  # noqa: BLE001 - the output of an estimator that rejects zeros stays unknown
        return None


def first_step(model: Any) -> Any:
    """Follow pipelines and searches to the estimator that gets the input."""
    if hasattr(model, "best_estimator_"):
        return first_step(model.best_estimator_)
    steps: list[Any] = getattr(model, "steps", getattr(model, "transformer_list", []))
    return first_step(steps[0][1]) if steps else model


def _last_step(model: Any) -> Any:
    """Follow pipelines and searches to the estimator that returns the output."""
    if hasattr(model, "best_estimator_"):
        return _last_step(model.best_estimator_)
    steps: list[Any] = getattr(model, "steps", [])
    # The last step may be the string 'passthrough'.
    return _last_step(steps[-1][1]) if steps and hasattr(steps[-1][1], "fit") else model
