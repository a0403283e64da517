"""Conversion of numbers to a model's datatype, without infinities or other numbers from it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from bundleserver.errors import InvalidInput


def narrowed(
    values: npt.NDArray[Any], target: np.dtype[Any], what: str, taker: str
) -> npt.NDArray[Any]:
    """Convert numbers, which are rounded to a datatype; what is infinite or NaN stays so.

    Args:
        values: booleans or numbers.
        target: a datatype.
        what: the tensor, for the message: ``input 'x'``.
        taker: the model, for the message: ``'fraud' version 7``.

    Raises:
        InvalidInput: a finite number is beyond the largest one of a floating-point datatype.
    """
    with np.errstate(all="ignore"):  # what does not fit is looked for below
        converted = values.astype(target, copy=False)
    if target.kind != "f" or target.itemsize >= 8 or values.dtype == target:
        return converted
    is_lost = np.isinf(converted)
    if is_lost.any():
        is_lost &= np.isfinite(values)
    if is_lost.any():
        name, most = f"FP{8 * target.itemsize}", float(np.finfo(target).max)
        raise InvalidInput(
            f"{what} has the value {values[is_lost][0].item()!r}; {taker} expects {name}, at most "
            f"{most:g}"
        )
    return converted


def converted(
    values: npt.NDArray[Any], target: np.dtype[Any], what: str, datatype: str
) -> npt.NDArray[Any]:
    """Copy numbers to a datatype, where no value changes but by rounding to fewer digits.

    Args:
        values: booleans or numbers.
        target: the datatype of a model's tensor.
        what: the tensor, for the message: ``input 'x'``.
        datatype: the protocol's name of the target, for the message.

    Raises:
        InvalidInput: a value is not valid in the datatype.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        array = np.array(values, dtype=target, order="C")
    overflows = np.isinf(array) & np.isfinite(values)
    changed = overflows if target.kind == "f" else array != values
    if changed.any():
        raise InvalidInput(
            f"{what} has the value {values[changed][0]!s}, which is not a valid {datatype}"
        )
    return array
