"""What objects of scikit-learn, its relatives, statsmodels and Prophet may be made of.

They call methods of their parts by name, and of whatever is there: ``DataFrame.transform`` takes
the name of a method, ``SimpleNamespace`` has any method at all. So each library's objects hold
plain values and objects of the libraries with which it is built, and parts are estimators.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping
from types import (
    BuiltinFunctionType,
    FunctionType,
    MappingProxyType,
    MethodDescriptorType,
    MethodType,
)
from typing import cast

import numpy as np

from bundleserver.frameworks.pickles.gate.listing import own_names, package_of
from bundleserver.frameworks.pickles.gate.models.checking import is_count
from bundleserver.frameworks.pickles.gate.models.distributions import Distribution
from bundleserver.frameworks.pickles.gate.models.sparse import guard_sparse
from bundleserver.frameworks.pickles.gate.refusal import Refused, kind_of
from bundleserver.frameworks.pickles.gate.session import Rule, Session

PLAIN = frozenset({bool, bytes, complex, float, int, str, type(None)})
"""Values that no method can be called on that does anything."""

_DATA = frozenset({*PLAIN, bytearray, frozenset, np.ndarray, range, set, slice})
_FUNCTIONS = (
    BuiltinFunctionType, FunctionType, MethodDescriptorType, functools.partial, np.ufunc, type,
)  # fmt: skip
_LEARNERS = frozenset({"catboost", "lightgbm", "sklearn", "xgboost"})
_PYTHON = frozenset({"collections", "datetime", "decimal", "numpy", "scipy", "uuid"})

_MADE_OF: Mapping[str, frozenset[str]] = {
    # What the boosters hold of compiled code, and the designs of formulas, they make themselves.
    **dict.fromkeys(_LEARNERS, _LEARNERS | _PYTHON | {"_catboost", "ctypes"}),
    "prophet": frozenset({"bundleserver", "pandas", "prophet"}) | _PYTHON,
    "statsmodels": frozenset(
        {"bundleserver", "formulaic", "pandas", "patsy", "statsmodels", "types"}
    )
    | _PYTHON,
}
"""The packages whose objects those of a package may hold."""

_ESTIMATORS = frozenset({"catboost.core._CatBoostBase", "sklearn.base.BaseEstimator"})
_INDEX = "pandas.core.indexes.base.Index"
_CALIBRATED = "sklearn.calibration._CalibratedClassifier"

_PARTS = frozenset(
    {
        "_bin_mapper", "_centerer", "_encoder", "_label_binarizer", "_label_encoder", "_le",
        "_estimator", "_preprocessor", "_tfidf", "base_estimator", "base_estimator_",
        "best_estimator_", "calibrated_classifiers",
        "calibrated_classifiers_", "calibrators", "classifier", "classifiers_", "estimator",
        "estimator_", "estimators", "estimators_", "final_estimator", "final_estimator_", "init_",
        "imputation_sequence_", "indicator_", "initial_estimator_", "initial_imputer_",
        "kernel_pca_", "label_binarizer_", "le_", "named_estimators_",
        "nbrs_", "nn_fit", "regressor", "regressor_", "steps", "transformer", "transformer_",
        "transformer_list", "transformers", "transformers_",
    }
)  # fmt: skip
"""Attributes whose objects are asked to predict or to transform."""

_CALLED = frozenset(
    {
        "_kmeans_single", "_score_func", "analyzer", "func", "importance_getter", "inverse_func",
        "kernel", "metric", "pooling_func", "preprocessor", "score_func", "stop_words", "tokenizer",
    }
)  # fmt: skip
"""Attributes that are called if they can be."""

_PLACES_OF: Mapping[str, frozenset[str]] = {
    "_catboost": frozenset({"_object"}),
    "sklearn.neighbors._ball_tree": frozenset({"_tree", "tree_"}),
    "sklearn.neighbors._kd_tree": frozenset({"_tree", "tree_"}),
    "sklearn.tree._tree": frozenset({"tree_"}),
}
"""Attributes with objects of compiled code, by its modules: the model there compares its widths."""

_KEYWORDS = frozenset(
    {"effective_metric_params_", "inv_kw_args", "kernel_params", "kw_args", "metric_params"}
)
"""Attributes with keyword arguments of what is called."""

_THREADS = frozenset({"_n_threads", "n_jobs", "n_threads", "nthread"})
_MOST_THREADS = 1_024
_PLAIN_KEYWORDS = frozenset({"inv_kw_args", "kw_args"})
_WRITES = frozenset({"casting", "extobj", "n_jobs", "out", "signature", "where"})


def check_keywords(keywords: object) -> None:
    """Check what a function is called with: plain values, and none says where its result goes.

    Raises:
        Refused: there is anything else.
    """
    if type(keywords) is not dict:
        raise Refused(f"the keyword arguments of a function are a {kind_of(keywords)}")
    for name, value in keywords.items():
        is_plain = type(value) in PLAIN or (name == "dtype" and _are_numbers(value))
        if type(name) is not str or name in _WRITES or not is_plain:
            raise Refused(
                f"a function is called with {name!r:.40}, a {kind_of(value)}; expected plain values"
            )


def _are_numbers(value: object) -> bool:
    """Ask whether a value is a datatype of numpy's, or a list of them."""
    kinds = value if type(value) in (list, tuple) else [value]
    return all(
        (isinstance(kind, type) and issubclass(kind, np.generic)) or type(kind) in PLAIN
        for kind in cast("Iterable[object]", kinds)
    )


def _check_parts(session: Session, made: object) -> None:
    package = package_of(own_names(type(made))[0])
    allowed = _MADE_OF[package]
    if package == "sklearn":
        guard_sparse()
    attributes = cast("dict[str, object]", getattr(made, "__dict__", {}))
    for name, value in attributes.items():
        for part in _leaves(value):
            _check_part(session, name, part, allowed)
        if name in _THREADS and value is not None:
            _check_threads(name, value)
        if name in _KEYWORDS and value is not None:
            _check_keywords(name, value)


def _check_threads(name: str, value: object) -> None:
    """Refuse numbers of threads with which compiled code would end the process."""
    # Only joblib, and the boosters, take negative numbers: all processors but so many.
    least = 1 if name == "_n_threads" else -_MOST_THREADS
    if not is_count(value, least, _MOST_THREADS):
        raise Refused(
            f"'{name}' is {value!r:.20}; expected a number from {least} to {_MOST_THREADS}"
        )


def _check_part(session: Session, name: str, part: object, allowed: frozenset[str]) -> None:
    kind = type(part)
    if kind in _DATA or session.is_of_operator(kind):
        return
    if isinstance(part, _FUNCTIONS):
        if name in _CALLED and isinstance(part, type):
            raise Refused(f"'{name}' would call the class '{part.__qualname__}'")
        return
    if kind is MethodType and "statsmodels" in allowed:
        return
    names = own_names(kind)
    if name not in _PLACES_OF.get(kind.__module__, frozenset({name})):
        raise Refused(f"'{name}' has a {kind_of(part)}, which no model has there")
    if kind is Distribution:
        _check_distribution(name)
        return
    is_known = package_of(names[0]) in allowed or _INDEX in names
    is_part = name not in _PARTS or _ESTIMATORS & {*names} or names[0] == _CALIBRATED
    is_part = is_part or _is_selector(names[0])
    if not (is_known and is_part):
        raise Refused(f"'{name}' has a {kind_of(part)}, which is no part of such a model")


def _check_distribution(name: str) -> None:
    if name != "param_distributions":
        raise Refused(
            f"'{name}' has a distribution of scipy, which compiles text of the file; only a search "
            "may have one, and forgets it"
        )


def _is_selector(name: str) -> bool:
    return name in _SELECTORS or name in _SCALARS


_COLUMNS = "sklearn.compose._column_transformer._RemainderColsList"
_SELECTORS = frozenset({"sklearn.compose._column_transformer.make_column_selector", _COLUMNS})
_SCALARS = frozenset({"numpy.str_", "numpy.int64", "numpy.bool", "numpy.bool_"})


def _check_keywords(name: str, value: object) -> None:
    if name in _PLAIN_KEYWORDS:
        check_keywords(value)
    elif type(value) is not dict or _WRITES & value.keys():
        raise Refused(f"'{name}' is a {kind_of(value)}, or says where a result goes")


def _leaves(value: object) -> Iterator[object]:
    """Yield what containers hold, without what is plain."""
    left, seen = [value], set()
    while left:
        part = left.pop()
        inner = _inside(part)
        if inner is None:
            yield part
        elif id(part) not in seen:
            seen.add(id(part))
            left += [item for item in inner if type(item) not in PLAIN]


def _inside(value: object) -> Iterable[object] | None:
    if isinstance(value, dict):
        return [*dict.keys(value), *dict.values(value)]
    if isinstance(value, (list, tuple, set, frozenset)):
        return value
    if isinstance(value, np.ndarray) and value.dtype == object:
        return value.ravel().tolist()
    return None


PART_AUDITS: Mapping[str, Rule] = MappingProxyType(dict.fromkeys(_MADE_OF, _check_parts))
"""Checks of finished objects, by the packages of their classes."""
