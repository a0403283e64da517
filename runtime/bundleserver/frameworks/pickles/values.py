"""Values of a pickle that the scan looks into: texts, datatypes, shapes."""

from __future__ import annotations

import hashlib
import math
import pickle
import re
from typing import cast

import numpy as np

from bundleserver.frameworks.pickles.made import Made

_KEPT = 256
_MOST_DIMENSIONS = 64
_ITEM = re.compile(r"[<>=|]?[?A-Za-z]+[0-9]{0,9}")


def short_text(text: str) -> str:
    """Return a text, or what stands for a long one: as different from others as the text is."""
    if len(text) <= _KEPT:
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{text[:100]}…{digest}"


def holds_objects(dtype: Made) -> bool:
    """Ask whether a pickled dtype holds Python objects: numpy's lowest dtype flag."""
    flags = dtype.state[7] if isinstance(dtype.state, tuple) and len(dtype.state) > 7 else 0
    return bool(cast(int, flags) & 1)


def item_bytes(code: object) -> int:
    """Return the bytes of one value of a datatype."""
    if not isinstance(code, str) or not _ITEM.fullmatch(code):
        raise pickle.UnpicklingError("an array's datatype is no datatype")
    return np.dtype(code).itemsize


def item_count(shape: object) -> int:
    """Return the number of values of a shape."""
    sizes = shape if isinstance(shape, tuple) and len(shape) <= _MOST_DIMENSIONS else (-1,)
    if not all(type(size) is int and 0 <= size < 1 << 63 for size in sizes):
        raise pickle.UnpicklingError("an array's shape is no shape")
    return math.prod(sizes)
