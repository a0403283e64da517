"""Single values of a model's document, by type and range; every message names the key."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bundleserver.frameworks.boosting.soundness import NotSound

Array = np.ndarray[Any, Any]

_LIMIT = 1 << 31
_NUMBER = re.compile(r"\d{1,10}")


def member(of: Mapping[str, object], key: str, kind: type, default: object = None) -> Any:
    """Return a member of an object; a default that is not None stands for a missing one.

    Raises:
        NotSound: it is missing, or of another type.
    """
    found = of.get(key, default)
    if type(found) is not kind:
        expected = {dict: "an object", list: "an array", str: "a string", int: "an integer"}[kind]
        what = "is missing" if key not in of else f"is {_named(found)}"
        raise NotSound(f"'{key}' {what}; expected {expected}")
    return found


def count(
    of: Mapping[str, object], key: str, least: int, most: int = _LIMIT - 1, **other: int
) -> int:
    """Return a number that XGBoost writes as a string; ``default=`` stands for a missing one.

    Raises:
        NotSound: it is no whole number within these limits.
    """
    if key not in of and "default" in other:
        return other["default"]
    text = member(of, key, str)
    if not _NUMBER.fullmatch(text) or not least <= int(text) <= most:
        raise NotSound(f"'{key}' is '{text:.40}'; expected an integer from {least} to {most}")
    return int(text)


def texts(of: Mapping[str, object], key: str) -> tuple[str, ...]:
    """Return the strings of an array; none if it is missing.

    Raises:
        NotSound: it is no array of strings.
    """
    found = member(of, key, list, default=[]) if not _is_empty(of.get(key)) else []
    if not all(type(text) is str for text in found):
        raise NotSound(f"'{key}' has values that are not strings")
    return tuple(found)


def whole_numbers(values: object, key: str) -> Array:
    """Return the integers of an array as INT64; true and false count where numpy's array has them.

    Raises:
        NotSound: it is no array of integers.
    """
    if type(values) is np.ndarray and values.dtype.kind in "iu":
        return values.astype(np.int64)
    if type(values) is list and {*map(type, values)} <= {int}:
        try:
            return np.array(values, np.int64)
        except OverflowError:
            pass
    raise NotSound(f"'{key}' is not an array of integers")


def flags(values: object, key: str) -> Array:
    """Return the zeros and ones of an array, as which older versions write true and false.

    Raises:
        NotSound: it is no array of them.
    """
    if type(values) is list and {*map(type, values)} == {bool}:
        return np.array(values, np.int64)
    found = whole_numbers(values, key)
    if not ((found == 0) | (found == 1)).all():
        raise NotSound(f"'{key}' has numbers other than 0 and 1")
    return found


def length_of_numbers(values: object, key: str) -> int:
    """Return the length of an array of numbers of any kind.

    Raises:
        NotSound: it is not an array of numbers.
    """
    if type(values) is np.ndarray and values.dtype.kind == "f":
        return len(values)
    if type(values) is list and {*map(type, values)} <= {int, float}:
        return len(values)
    raise NotSound(f"'{key}' is not an array of numbers")


def is_ordered(values: Array, last: int) -> bool:
    """Ask whether numbers go up from 0 to the last one, or stay, so that they cut an array."""
    if not len(values) or values[0] != 0 or values[-1] != last:
        return False
    return bool((np.diff(values) >= 0).all())


def objects(values: Sequence[object], key: str) -> list[dict[str, object]]:
    """Return the objects of an array.

    Raises:
        NotSound: it has something else.
    """
    if not all(type(value) is dict for value in values):
        raise NotSound(f"'{key}' has values that are not objects")
    return list(values)  # type: ignore[arg-type]  # just asked


def _is_empty(value: object) -> bool:
    return type(value) is np.ndarray and not len(value)


def _named(value: object) -> str:
    return {dict: "an object", list: "an array", str: "a string", np.ndarray: "an array"}.get(
        type(value), f"{value!r:.40}"
    )
