"""What the rules of models have in common: how they compare, and what they refuse."""

from __future__ import annotations

from typing import Any

import numpy as np

from bundleserver.frameworks.pickles.gate.refusal import Refused

Array = np.ndarray[Any, Any]


def check(*, holds: object, what: str) -> None:
    """Refuse a model whose parts do not agree.

    Raises:
        Refused: it does not hold.
    """
    if not holds:
        raise Refused(f"{what} are not consistent")


def within(values: Any, lowest: Any, highest: int) -> bool:
    """Ask whether all integers are from the lowest (a number, or one for each) to below highest."""
    array = np.asarray(values)
    if array.size == 0:
        return True
    return bool(array.dtype.kind in "iu" and (array >= lowest).all() and (array < highest).all())


def is_count(value: object, least: int = 0, most: int = (1 << 31) - 1) -> bool:
    """Ask whether a value is a number of things: an integer, and nothing that passes for one."""
    is_number = type(value) is int or isinstance(value, np.integer)
    return is_number and least <= int(value) <= most  # type: ignore[call-overload]  # a number


def own_arrays(made: object) -> None:
    """Give an object copies of its arrays, which nobody else can change after the check."""
    attributes = vars(made)
    for name, value in attributes.items():
        if type(value) is np.ndarray:
            attributes[name] = value.copy()
        elif type(value) is tuple and value and all(type(part) is np.ndarray for part in value):
            attributes[name] = tuple(part.copy() for part in value)


def has_shape(value: object, *shape: int) -> bool:
    """Ask whether a value is an array of numpy's, of such a shape."""
    return type(value) is np.ndarray and value.shape == shape
