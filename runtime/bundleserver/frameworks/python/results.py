"""What ``predict`` of a bundle's own class returns, as arrays of n rows by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from bundleserver.tensors import DATATYPES, Array

_EXPECTED = "a dict with an array of one entry per row for each output's name"


def checked(result: object, rows: int) -> Mapping[str, Array]:
    """Return the outputs, numbers, booleans and text, with so many rows each.

    Raises:
        TypeError: it is no dict, or has values that are no such arrays.
        ValueError: it is empty, or an array has another number of rows.
    """
    if not isinstance(result, Mapping):
        raise TypeError(f"predict returned a {type(result).__name__}; expected {_EXPECTED}")
    if not result:
        raise ValueError(f"predict returned an empty dict; expected {_EXPECTED}")
    return {_name(name): _array(name, values, rows) for name, values in result.items()}


def _name(name: object) -> str:
    if not isinstance(name, str) or not name:
        raise TypeError(f"predict returned an output named {name!r}; expected text")
    return name


def _array(name: object, values: Any, rows: int) -> Array:
    what = f"predict returned '{name}'"
    if np.ma.is_masked(values):
        raise TypeError(
            f"{what} with masked values, which no answer has; fill them: filled(np.nan)"
        )
    try:
        array = np.asarray(values)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{what}, which is not an array: {error}") from error
    if array.ndim == 0 or len(array) != rows:
        shape = list(array.shape)
        raise ValueError(f"{what} with shape {shape}; expected {rows} as its first size")
    # Not those of another size, such as longdouble.
    if array.dtype.kind in "biuf" and array.dtype.newbyteorder("=") in DATATYPES:
        return array
    if array.dtype.kind == "U":
        return array.astype(object)
    if array.dtype.kind == "O" and all(isinstance(value, str) for value in array.flat):
        return array
    raise TypeError(f"{what} with values of the kind {_kind(array)}; expected numbers or text")


def _kind(array: Array) -> str:
    if array.dtype.kind != "O":
        return str(array.dtype)
    return next(type(value).__name__ for value in array.flat if not isinstance(value, str))
