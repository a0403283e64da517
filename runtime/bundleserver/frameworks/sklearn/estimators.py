"""What a fitted estimator tells of itself: can it be served, what it takes and what it gives."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction import DictVectorizer, FeatureHasher
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer
from sklearn.impute import MissingIndicator, SimpleImputer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    OneHotEncoder,
    OrdinalEncoder,
    TargetEncoder,
)
from sklearn.utils.validation import check_is_fitted

from bundleserver.frameworks import framework_for
from bundleserver.frameworks.pickles import save_line
from bundleserver.frameworks.sklearn import native_model
from bundleserver.frameworks.sklearn.tables import Intake, dense
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
"""What a request may call: methods that take one table and answer a row for each of its rows."""

_TEXT = (CountVectorizer, HashingVectorizer)
_TAKE_STRINGS = (
    *_TEXT,
    ColumnTransformer,
    DictVectorizer,
    FeatureHasher,
    FunctionTransformer,
    MissingIndicator,
    OneHotEncoder,
    OrdinalEncoder,
    SimpleImputer,
    TargetEncoder,
)
_LIBRARIES = frozenset({"sklearn", "xgboost", "lightgbm"})


def is_estimator(model: object) -> bool:
    """Ask whether an object predicts or transforms tables, as far as its methods tell."""
    if isinstance(model, type) or _other_framework(model):
        return False
    # A DataFrame has transform as well; what has only that must be fitted like an estimator.
    return hasattr(model, "predict") or (hasattr(model, "transform") and hasattr(model, "fit"))


def methods_of(model: object) -> tuple[str, ...]:
    """Name the methods of :data:`METHODS` that an estimator has, the default first."""
    return tuple(method for method in METHODS if callable(getattr(model, method, None)))


def why_not_served(model: object) -> str | None:
    """Say what is wrong with an object as a component here; ``None`` when nothing is."""
    if problem := native_model(model):
        return problem
    if not (isinstance(model, BaseEstimator) or is_estimator(model)):
        return _what_instead(model)
    name = type(model).__name__
    if not _is_fitted(model):
        return f"a {name} that is not fitted; fit it before saving it"
    if not methods_of(model):
        return (
            f"a {name}, which cannot answer for new data: it has none of the methods "
            f"{', '.join(METHODS)}"
        )
    return None


def _what_instead(model: object) -> str:
    kind = type(model)
    name = kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"
    if framework := _other_framework(model):
        return f"a {name}; its framework is '{framework}', not 'sklearn'"
    if isinstance(model, type):
        return f"the class {model.__name__} itself; fit an instance of it and save that"
    if parts := _estimators_in(model):
        return f"a {name} of several models; save each as a component: {save_line(parts)}"
    return f"a {name}, which is no fitted estimator: it has neither 'predict' nor 'transform'"


def _other_framework(model: object) -> str | None:
    framework = framework_for(model)
    return None if framework == "sklearn" else framework


def _estimators_in(model: object) -> dict[str, str]:
    """Find the models in a dict, list or tuple, as an expression each."""
    if isinstance(model, dict):
        named = {str(key): (f"models[{key!r}]", value) for key, value in model.items()}
    elif isinstance(model, list | tuple):
        named = {f"part_{i}": (f"models[{i}]", value) for i, value in enumerate(model)}
    else:
        return {}
    return {name: at for name, (at, value) in named.items() if is_estimator(value)}


def _is_fitted(model: object) -> bool:
    if not isinstance(model, BaseEstimator):
        return True  # nothing to go by
    if isinstance(model, Pipeline):
        # scikit-learn 1.4 itself trips over a last step that is the word 'passthrough'.
        fitted = [step for _, step in model.steps if hasattr(step, "fit")]
        return not fitted or _is_fitted(fitted[-1])
    try:
        check_is_fitted(model)
    except NotFittedError:
        # Only scikit-learn's own estimators are sure to end what they learn with an underscore.
        own = type(model).__module__.startswith("sklearn.")
        return not own and bool(vars(model).keys() - model.get_params(deep=False).keys())
    return True


def intake_of(model: Any) -> Intake:
    """Read what a fitted estimator takes from what it learned."""
    width = getattr(model, "n_features_in_", None)
    names = getattr(model, "feature_names_in_", None)
    columns = () if names is None else tuple(str(name) for name in names)
    # LightGBM makes up these names where it was fitted without any.
    made_up = columns == tuple(f"Column_{i}" for i in range(len(columns)))
    return Intake(
        taker=type(model).__name__,
        width=None if width is None else int(width),
        columns=() if made_up else columns,
        text=isinstance(_first_step(model), _TEXT),
        numeric=width is not None and _takes_only_numbers(model),
    )


def output_of(model: Any, method: str) -> TensorSpec:
    """Tell a method's output from what the last step answers to one row of zeros.

    Only steps of known libraries that take numbers are asked, since they compute and do nothing
    else. Of the others, only the datatype of a classifier's labels is known.
    """
    if method == "inverse_transform":
        return TensorSpec("output-0")
    answer = _answer_to_zeros(_last_step(model), method)
    if answer is not None and len(answer) == 1:
        return TensorSpec("output-0", datatype_of(answer), (-1, *answer.shape[1:]))
    classes = getattr(model, "classes_", None)
    if method == "predict" and isinstance(classes, np.ndarray):
        return TensorSpec("output-0", datatype_of(classes))
    return TensorSpec("output-0")


def _answer_to_zeros(step: Any, method: str) -> Array | None:
    intake = intake_of(step)
    if not intake.numeric or intake.width is None:
        return None
    zeros = NamedTensor("input-0", np.zeros((1, intake.width)))
    try:
        with np.errstate(all="ignore"):
            return dense(getattr(step, method)(intake.table((zeros,))))
    except Exception:  # noqa: BLE001 - an estimator that minds zeros just leaves its output open
        return None


def _first_step(model: Any) -> Any:
    """Follow pipelines and searches down to what sees the input."""
    if hasattr(model, "best_estimator_"):
        return _first_step(model.best_estimator_)
    steps: list[Any] = getattr(model, "steps", getattr(model, "transformer_list", []))
    return _first_step(steps[0][1]) if steps else model


def _last_step(model: Any) -> Any:
    """Follow pipelines and searches down to what answers."""
    if hasattr(model, "best_estimator_"):
        return _last_step(model.best_estimator_)
    steps: list[Any] = getattr(model, "steps", [])
    # The last step may be the word 'passthrough'.
    return _last_step(steps[-1][1]) if steps and hasattr(steps[-1][1], "fit") else model


def _takes_only_numbers(model: Any) -> bool:
    """Ask whether every part of an estimator is of a known library and refuses strings."""
    try:
        fitted = getattr(model, "best_estimator_", model)
        parts = [model, fitted, *fitted.get_params(deep=True).values()]
    except Exception:  # noqa: BLE001 - an estimator's own code; without it nothing is known
        return False
    return not any(_may_take_strings(part) for part in parts if hasattr(part, "fit"))


def _may_take_strings(part: Any) -> bool:
    if isinstance(part, _TAKE_STRINGS) or type(part).__module__.split(".")[0] not in _LIBRARIES:
        return True
    # Gradient boosting over histograms learns only when it is fitted whether there are categories.
    may_learn = hasattr(part, "categorical_features")
    return may_learn and getattr(part, "is_categorical_", "not fitted") is not None
