"""Models of CatBoost: their state has the bytes of a file of its own, which it reads unchecked."""

from __future__ import annotations

from typing import Any

import numpy as np

from bundleserver.frameworks import cbm
from bundleserver.frameworks.pickles.gate.refusal import Refused, kind_of

_PLAIN = frozenset({bool, bytes, float, int, str, type(None), np.float64, np.int64})
_BYTES = "__model"
_MOST = 1 << 20


def check_catboost(state: object) -> None:
    """Check the trees in a state, and that all else is parameters: plain values.

    Raises:
        Refused: there is anything else, or the trees are not as the library writes them.
    """
    if type(state) is not dict:
        raise Refused(f"the state of a CatBoost model is a {kind_of(state)}; expected a dict")
    data = state.get(_BYTES)
    if type(data) not in (bytes, type(None)):
        raise Refused(f"'{_BYTES}' of a CatBoost model is a {kind_of(data)}; expected its bytes")
    _check_plain({name: value for name, value in state.items() if name != _BYTES})
    if data is None:
        return
    try:
        model = cbm.read_model(data)
        cbm.check_model(model)
    except cbm.Damaged as error:
        raise Refused(f"its CatBoost model is not valid: {error}") from error
    if unchecked := cbm.unchecked_parts(model):
        raise Refused(f"its CatBoost model has {' and '.join(unchecked)}")


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
        if seen > _MOST:
            raise Refused(f"a CatBoost model has more than {_MOST} parameters")


def _are_numbers(value: object) -> bool:
    return type(value) is np.ndarray and value.dtype.kind in "biuf"
