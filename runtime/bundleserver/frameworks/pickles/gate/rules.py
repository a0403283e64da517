"""What single classes may have in their states, each rule with its reason.

A rule holds for a class and for those that extend it, whatever name a pickle has for them. What may
change until the end of the pickle (a list in a state may get items later) is checked at its end.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from typing import Any, cast

from bundleserver.frameworks.pickles.gate.listing import own_names
from bundleserver.frameworks.pickles.gate.models.boosters import (
    check_catboost,
    check_lightgbm,
    check_xgboost,
)
from bundleserver.frameworks.pickles.gate.models.distributions import Distribution
from bundleserver.frameworks.pickles.gate.models.estimators import (
    PART_AUDITS,
    PLAIN,
    check_keywords,
)
from bundleserver.frameworks.pickles.gate.models.formulas import check_formula
from bundleserver.frameworks.pickles.gate.models.native import NATIVE_AUDITS, NATIVE_SETTERS
from bundleserver.frameworks.pickles.gate.models.statespace import STATE_AUDITS
from bundleserver.frameworks.pickles.gate.refusal import Refused
from bundleserver.frameworks.pickles.gate.session import Rule, Session
from bundleserver.frameworks.pickles.gate.values.arrays import ARRAY_SETTERS
from bundleserver.frameworks.pickles.gate.values.random_states import RANDOM_CHECKS
from bundleserver.frameworks.pickles.gate.values.table_arrays import ARRAY_SETTERS as OWN_ARRAYS
from bundleserver.frameworks.pickles.gate.values.tables import TABLE_SETTERS

_METHODS = frozenset(
    {"auto", "decision_function", "predict", "predict_log_proba", "predict_proba", "transform"}
)
_DESIGNS = ("model_spec", "design_info")
_RESTORED = frozenset({"restore_model_spec", "restore_design_info"})
_ATTRIBUTE = re.compile(r"[a-zA-Z]\w*(\.[a-zA-Z]\w*)?")


def _set_partial(session: Session, made: object, state: object) -> None:
    """Give a partial its arguments; the function is the one that it was made with."""
    if type(state) is not tuple or len(state) != 4:
        raise Refused("a partial has a state that functools does not write")
    function, args, keywords, attributes = state
    found = session.reference_to(function)
    is_same = found is not None and function is cast("functools.partial[object]", made).func
    if not is_same or type(args) is not tuple or type(keywords) is not dict or attributes:
        raise Refused("a partial has a state that functools does not write")
    check_keywords(keywords)
    if not all(type(arg) in PLAIN for arg in args):
        raise Refused("a partial has arguments that are not plain values")
    cast(Any, made).__setstate__((function, args, {**keywords}, None))


def _forget(_session: Session, _made: object, _state: object) -> None:
    """Keep nothing."""


def _check_text_input(_session: Session, made: object) -> None:
    """Refuse a vectorizer that opens the files that requests name."""
    source = _attributes(made).get("input", "content")
    if type(source) is not str or source != "content":
        raise Refused("a text vectorizer has another input than 'content', so it would open files")


def _check_methods(_session: Session, made: object) -> None:
    """Refuse other names of methods: they are called on whatever the ensemble is made of."""
    for name in ("stack_method_", "response_method", "chain_method", "chain_method_"):
        methods: Any = _attributes(made).get(name)
        # ClassifierChain has a method of its own, or the first that exists of several.
        for method in methods if type(methods) in (list, tuple) else (methods,):
            if method is not None and (type(method) is not str or method not in _METHODS):
                raise Refused(f"'{name}' is {method!r:.50}; expected one of {sorted(_METHODS)}")


def _check_importances(_session: Session, made: object) -> None:
    """Refuse a selector that takes any attribute of what it holds."""
    getter = _attributes(made).get("importance_getter", "auto")
    if callable(getter):
        return
    if type(getter) is not str or not _ATTRIBUTE.fullmatch(getter):
        raise Refused(f"'importance_getter' is {getter!r:.50}; expected an attribute")


def _check_columns(_session: Session, made: object) -> None:
    """Refuse the columns that scikit-learn 1.6 chose if they are no plain list of places."""
    columns: Any = _attributes(made).get("data")
    if type(columns) is not list or not all(type(column) in (int, str) for column in columns):
        raise Refused("the remaining columns of a table are no list of places or names")


def _check_model_data(state: object) -> None:
    """Check the formula that statsmodels evaluates as Python while its data get their state."""
    if type(state) is not dict:
        raise Refused("the data of a statsmodels model have a state that it does not write")
    if any(name in state for name in _DESIGNS):
        raise Refused("the data of a statsmodels model have a design in place of a formula")
    if _RESTORED & state.keys():
        table = state.get("frame")
        if own_names(type(table))[0] != "pandas.core.frame.DataFrame":
            raise Refused("a model by formula has no table that it was fitted on")
        check_formula(state.get("formula"), table)


def _check_model(_session: Session, made: object) -> None:
    """Check that a model's design can only be the one that its checked formula gave."""
    attributes = _attributes(made)
    if any(name in attributes for name in _DESIGNS):
        raise Refused("a statsmodels model has a design in place of a formula")
    if "data" in attributes and not _is_a(attributes["data"], "statsmodels.base.data.ModelData"):
        raise Refused("a statsmodels model has data of another class")


def _check_results(_session: Session, made: object) -> None:
    """Check that results are those of a model, whose design was checked."""
    model = _attributes(made).get("model")
    if model is not None and not _is_a(model, "statsmodels.base.model.Model"):
        raise Refused("results of statsmodels have a model of another class")


def _check_wrapper(_session: Session, made: object) -> None:
    """Check that what wraps results, and calls them, has some."""
    if not _is_a(_attributes(made).get("_results"), "statsmodels.base.model.Results"):
        raise Refused("a wrapper of statsmodels has no results")


def _attributes(made: object) -> dict[str, object]:
    return cast("dict[str, object]", object.__getattribute__(made, "__dict__"))


def _is_a(made: object, name: str) -> bool:
    return name in own_names(type(made))


SETTERS: Mapping[str, Callable[[Session, object, object], None]] = {
    "functools.partial": _set_partial,
    **ARRAY_SETTERS,
    **OWN_ARRAYS,
    **TABLE_SETTERS,
    **NATIVE_SETTERS,
    f"{Distribution.__module__}.{Distribution.__qualname__}": _forget,
}
"""Classes whose state is set by a function of ours."""

CHECKS: Mapping[str, Callable[[object], None]] = {
    "catboost.core._CatBoostBase": check_catboost,
    "lightgbm.basic.Booster": check_lightgbm,
    "statsmodels.base.data.ModelData": _check_model_data,
    "xgboost.core.Booster": check_xgboost,
    **RANDOM_CHECKS,
}
"""Classes whose state is checked before they get it."""

AUDITS: Mapping[str, Rule] = {
    "sklearn.feature_extraction.text._VectorizerMixin": _check_text_input,
    "sklearn.ensemble._stacking._BaseStacking": _check_methods,
    "sklearn.model_selection._classification_threshold.BaseThresholdClassifier": _check_methods,
    "sklearn.multioutput._BaseChain": _check_methods,
    "sklearn.compose._column_transformer._RemainderColsList": _check_columns,
    "sklearn.feature_selection._from_model.SelectFromModel": _check_importances,
    "sklearn.feature_selection._rfe.RFE": _check_importances,
    "statsmodels.base.model.Model": _check_model,
    "statsmodels.base.model.Results": _check_results,
    "statsmodels.base.wrapper.ResultsWrapper": _check_wrapper,
    **NATIVE_AUDITS,
    **PART_AUDITS,
    **STATE_AUDITS,
}
"""Classes whose objects are checked once the whole pickle was followed."""
