"""Numbers and booleans that stand as text, and decimals: parsed exactly, or told by their rows."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bundleserver.batch.uses import Use
from bundleserver.tensors import NUMPY_DTYPES

Problems = dict[int, str]
"""Why rows are not valid, by their places in the batch."""

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE | re.ASCII)
_NO_NUMBER = re.compile(r"[+-]?(nan|inf|infinity)", re.IGNORECASE | re.ASCII)
_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}
_MOST_DIGITS = 20
"""More than the largest integer of 64 bits has."""
_MOST_SHOWN = 60


def parsed(column: Any, datatype: str, problems: Problems, name: str) -> Any:
    """Parse strings, and tell of those that do not stand for the datatype.

    Floating-point numbers are the nearest of 64 bits; what is beyond them is told. Integers may be
    written as whole numbers, ``1.0``. Booleans are ``true``, ``false``, ``1`` and ``0``.
    """
    kind = NUMPY_DTYPES[datatype].kind
    if kind == "O":
        return pc.cast(column, pa.string())
    if kind == "f":
        return _floats(column, datatype, problems, name)
    if kind == "b":
        flags = _quickly(column, pa.bool_())
        if flags is None:
            flags = _one_by_one(column, pa.bool_(), _boolean, (datatype, name), problems)
        return flags
    wanted = pa.from_numpy_dtype(NUMPY_DTYPES[datatype])
    # Arrow takes 0x1F for a number.
    if not pc.any(pc.match_substring(column, "x", ignore_case=True)).as_py():
        quick = _quickly(column, wanted)
        if quick is not None:
            return quick
    return _one_by_one(column, wanted, _whole(datatype), (datatype, name), problems)


def of_decimals(column: Any, use: Use, problems: Problems) -> Any:
    """Return decimals as the nearest numbers of 64 bits, or exactly, where a model takes integers.

    What is no integer, or beyond the datatype, is null and told.
    """
    texts = pc.cast(column, pa.string())
    if use.datatype is None or NUMPY_DTYPES[use.datatype].kind not in "iu":
        # By way of the text, since Arrow's own conversion is off in the last bit.
        return pc.cast(texts, pa.float64())
    wanted = pa.from_numpy_dtype(NUMPY_DTYPES[use.datatype])
    quick = _quickly(column, wanted)
    if quick is not None:
        return quick
    return _one_by_one(texts, wanted, _whole(use.datatype), (use.datatype, use.column), problems)


def _floats(column: Any, datatype: str, problems: Problems, name: str) -> Any:
    values = _quickly(column, pa.float64())
    if values is None:
        values = _one_by_one(column, pa.float64(), _float, (datatype, name), problems)
    infinite = np.asarray(pc.fill_null(pc.is_inf(values), False))
    for row in np.flatnonzero(infinite).tolist():
        text = column[row].as_py()
        if _NO_NUMBER.fullmatch(text) is None:
            problems.setdefault(row, _said(name, text, datatype))
    return values


def _quickly(column: Any, wanted: pa.DataType) -> Any:
    """Return the values as Arrow converts them; None if it refuses one."""
    try:
        return pc.cast(column, wanted)
    except pa.ArrowException:
        return None


def _one_by_one(
    column: Any,
    wanted: pa.DataType,
    parse: Callable[[str], object],
    expected: tuple[str, str],
    problems: Problems,
) -> Any:
    """Parse each text, with null for what stands for nothing; the slow way, for what is rare."""
    datatype, name = expected
    values: list[object] = []
    for row, text in enumerate(column.to_pylist()):
        value = None if text is None else parse(text)
        if value is None and text is not None:
            problems.setdefault(row, _said(name, text, datatype))
        values.append(value)
    return pa.array(values, wanted)


def _float(text: str) -> float | None:
    is_number = _NUMBER.fullmatch(text) or _NO_NUMBER.fullmatch(text)
    return float(text) if is_number else None


def _boolean(text: str) -> bool | None:
    return _BOOLEANS.get(text.lower())


def _whole(datatype: str) -> Callable[[str], int | None]:
    limits = np.iinfo(datatype.lower())
    least, most = int(limits.min), int(limits.max)

    def parse(text: str) -> int | None:
        if _NUMBER.fullmatch(text) is None:
            return None
        value = Decimal(text)
        # A short text may have more digits than there is memory.
        if value.adjusted() > _MOST_DIGITS:
            return None
        whole = int(value)
        return whole if value == whole and least <= whole <= most else None

    return parse


def _said(name: str, text: str, datatype: str) -> str:
    return f"column '{name}' has '{text[:_MOST_SHOWN]}'; expected {datatype}"
