"""Every estimator of scikit-learn, fitted on the data and with the options that it takes."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse
from sklearn.base import BaseEstimator, clone
from sklearn.utils import all_estimators
from sklearn.utils._param_validation import StrOptions
from sklearn.utils._test_common.instance_generator import _construct_instances

Model = tuple[str, object]

_ROWS = 40
_DRAWN = np.random.default_rng(18)
_NUMBERS = np.abs(_DRAWN.normal(size=(_ROWS, 4))) + 0.1
_CLASSES = np.arange(_ROWS) % 2
_THREE = np.arange(_ROWS) % 3
_TARGET = _NUMBERS @ [1.0, 2.0, 0.5, 0.3] + _DRAWN.uniform(size=_ROWS)
_TEXTS = [f"word{i % 7} word{i % 5} other{i % 3}" for i in range(_ROWS)]
_WORDS = np.array(["yes", "no", "maybe"])[_THREE]
_MISSING = np.where(_DRAWN.uniform(size=_NUMBERS.shape) < 0.1, np.nan, _NUMBERS)

DATA: Mapping[str, tuple[Any, Any]] = {
    "two classes": (_NUMBERS, _CLASSES),
    "words": (_NUMBERS, _WORDS),
    "numbers": (_NUMBERS, _TARGET),
    "single precision": (_NUMBERS.astype("f4"), _THREE),
    "table": (pd.DataFrame(_NUMBERS, columns=list("abcd")), pd.Series(_WORDS)),
    "table of numbers": (pd.DataFrame(_NUMBERS, columns=list("abcd")), pd.Series(_TARGET)),
    "columns of text": (pd.DataFrame({"a": _WORDS, "b": _TEXTS}), _CLASSES),
    "objects": (np.array([[*_WORDS], [*_TEXTS]], object).T, _THREE),
    "missing": (_MISSING, _THREE),
    "missing numbers": (_MISSING, _TARGET),
    "sparse": (scipy.sparse.csr_matrix(_NUMBERS * (_NUMBERS > 0.5)), _CLASSES),
    "sparse numbers": (scipy.sparse.csr_array(_NUMBERS * (_NUMBERS > 0.5)), _TARGET),
    "two answers": (_NUMBERS, np.stack([_CLASSES, _THREE], 1)),
    "labels": (_NUMBERS, np.stack([_CLASSES, 1 - _CLASSES, _THREE > 1], 1).astype(int)),
    "two targets": (_NUMBERS, np.stack([_TARGET, -_TARGET], 1)),
    "texts": (_TEXTS, _CLASSES),
    "dicts": ([{"a": float(i), "b": word} for i, word in enumerate(_WORDS)], _CLASSES),
    "one column": (_TARGET, _NUMBERS[:, 0]),
    "a target": (_WORDS, None),
    "sets": ([(word, "x") for word in _WORDS], None),
    "squares": (_NUMBERS @ _NUMBERS.T, _CLASSES),
    "unlabelled": (_NUMBERS, np.where(_DRAWN.uniform(size=_ROWS) < 0.3, -1, _CLASSES)),
}


_ALL_OPTIONS = ("single precision",)
_SLOW = ("SequentialFeatureSelector", "OPTICS", "Halving", "RandomizedSearchCV", "RFECV", "RidgeCl")


def fitted_on(data: tuple[Any, Any], model: Any) -> Any | None:
    """Return a clone that is fitted on data, or None if it cannot be."""
    X, y = data
    again = clone(model) if isinstance(model, BaseEstimator) else model
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            again.fit(X, y) if y is not None else again.fit(X)
        except Exception:  # noqa: BLE001  # it is not for such data
            return None
    return again


def constructed() -> Iterator[tuple[str, Any]]:
    """Yield each estimator of the library, as its own tests construct it."""
    for name, kind in all_estimators():
        try:
            made = [*_construct_instances(kind)]
        except BaseException:  # noqa: BLE001, S112  # it has a library that is not installed
            continue
        for number, model in enumerate(made):
            yield f"{name}{number or ''}", small(model)


def small(model: Any) -> Any:
    """Return the model with few trees, rounds and components."""
    known = model.get_params(deep=False)
    few = {"n_estimators": 3, "max_iter": 15, "n_jobs": None, "random_state": 0, "cv": 2}
    for key, value in few.items():
        if key in known and not (key == "cv" and known[key] == "prefit"):
            model.set_params(**{key: value})
    return model


def with_options(model: Any) -> Iterator[tuple[str, Any]]:
    """Yield the model with each word that each of its parameters takes."""
    limits = getattr(type(model), "_parameter_constraints", {})
    for key in model.get_params(deep=False):
        if key == "scoring":  # every score is in ``combined``
            continue
        for limit in limits.get(key, ()) if isinstance(limits.get(key), list) else ():
            for word in sorted(limit.options) if isinstance(limit, StrOptions) else ():
                yield f"{key}={word}", clone(model).set_params(**{key: word})
            if limit == "random_state":
                yield (
                    "a random state",
                    clone(model).set_params(random_state=np.random.RandomState(3)),
                )


def every_estimator() -> Iterator[Model]:
    """Yield each estimator with all data that it takes, and with each option on one of them."""
    for name, model in constructed():
        fits = False
        for of, data in DATA.items():
            if fits and name.startswith(_SLOW):
                break
            again = fitted_on(data, model)
            if again is None:
                continue
            yield f"{name} of {of}", again
            if fits and of not in _ALL_OPTIONS:
                continue
            fits = True
            for option, other in with_options(model):
                if (made := fitted_on(data, other)) is not None:
                    yield f"{name} {option} of {of}", made
        if not fits:
            yield f"{name} unfitted", model
