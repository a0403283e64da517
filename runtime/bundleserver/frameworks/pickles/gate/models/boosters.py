"""Boosters: their bytes are compared before the library reads them, as those of a file are."""

from __future__ import annotations

from typing import Any

import numpy as np

from bundleserver.frameworks import cbm
from bundleserver.frameworks.lightgbm_text.model import read_model
from bundleserver.frameworks.lightgbm_text.numbers import Malformed
from bundleserver.frameworks.pickles.gate.refusal import Refused, Uncheckable, kind_of

_PLAIN = frozenset({bool, bytes, float, int, str, type(None), np.float64, np.int64})
_CATBOOST_BYTES = "__model"
_MOST_PARAMETERS = 1 << 20


def check_handle(state: object) -> None:
    """Check that trees come as text or bytes: what is freed in the end is the address they get.

    Raises:
        Refused: they are something else.
    """
    if type(state) is not dict:
        raise Refused(f"the state of a booster is a {kind_of(state)}; expected a dict")
    for name in ("handle", "_handle"):
        if type(state.get(name)) not in (str, bytes, bytearray, type(None)):
            raise Refused(f"'{name}' of a booster is a {kind_of(state[name])}; expected its trees")


def check_xgboost(state: object) -> None:
    """Check a booster of XGBoost.

    Raises:
        Refused: its trees would lead the library out of its arrays.
    """
    # Their package declares a framework, which needs this one's.
    from bundleserver.frameworks.boosting.soundness import NotSound
    from bundleserver.frameworks.xgboost.checked.pickled import check_buffer
    from bundleserver.frameworks.xgboost.installed import installed_version

    check_handle(state)
    handle = state.get("handle")  # type: ignore[attr-defined]  # a dict, just asked
    if handle is None:
        return
    try:
        check_buffer(handle.encode() if type(handle) is str else bytes(handle), installed_version())
    except NotSound as error:
        raise Refused(f"a booster cannot be opened: {error}") from error


def check_lightgbm(state: object) -> None:
    """Check a booster of LightGBM, whose trees are text.

    Raises:
        Refused: its trees would lead the library out of its arrays.
    """
    check_handle(state)
    for name in ("handle", "_handle"):
        if (text := state.get(name)) is not None:  # type: ignore[attr-defined]  # a dict
            try:
                read_model(text.encode(errors="replace") if type(text) is str else bytes(text))
            except Malformed as error:
                raise Refused(f"the text of a booster of LightGBM {error}") from error


def check_catboost(state: object) -> None:
    """Check the trees in a state, and that all else is parameters: plain values.

    Raises:
        Refused: there is anything else, or the trees are not as the library writes them.
    """
    if type(state) is not dict:
        raise Refused(f"the state of a CatBoost model is a {kind_of(state)}; expected a dict")
    data = state.get(_CATBOOST_BYTES)
    if type(data) not in (bytes, type(None)):
        raise Refused(
            f"'{_CATBOOST_BYTES}' of a CatBoost model is a {kind_of(data)}; expected its bytes"
        )
    _check_plain({name: value for name, value in state.items() if name != _CATBOOST_BYTES})
    if data is None:
        return
    try:
        model = cbm.read_model(data)
        cbm.check_model(model)
    except cbm.Damaged as error:
        raise Refused(f"its CatBoost model is not valid: {error}") from error
    if unchecked := cbm.unchecked_parts(model):
        raise Uncheckable(
            f"its CatBoost model has {' and '.join(unchecked)}, which CatBoost reads without a "
            "check"
        )


def _check_plain(parameters: object) -> None:
    left: list[Any] = [parameters]
    seen = 0
    while left:
        value = left.pop()
        seen += 1
        if type(value) is dict:
            left += [*value, *value.values()]
        elif type(value) in (list, tuple):
            left += value
        elif type(value) not in _PLAIN and not _are_numbers(value):
            raise Refused(f"a parameter of a CatBoost model is a {kind_of(value)}")
        if seen > _MOST_PARAMETERS:
            raise Refused(f"a CatBoost model has more than {_MOST_PARAMETERS} parameters")


def _are_numbers(value: object) -> bool:
    return type(value) is np.ndarray and value.dtype.kind in "biuf"
