"""JSON numbers decoded directly into numpy arrays by simdjson, if it is installed.

This avoids a Python object for each number, which is most of the cost of decoding. Errors are not
reported here: what cannot be decoded is left to orjson.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from itertools import accumulate, chain
from operator import mul
from types import MappingProxyType
from typing import Any

import numpy as np

from bundleserver.tensors import Array

try:
    from simdjson import Parser
except ImportError:  # it is part of the extra "fast"
    IS_INSTALLED = False
else:
    IS_INSTALLED = True

_SPARSE_BYTES = 64
"""With fewer arrays than one in so many bytes each is looked at."""

_WITHIN_NUMBERS = bytes(set(range(256)) - set(b'[]{},:"'))

_DATATYPES: Mapping[str, type] = MappingProxyType({"d": np.float64, "i": np.int64, "u": np.uint64})


class _Parsers(threading.local):
    """One parser per thread: it reuses its memory, and has one document at a time."""

    def __init__(self) -> None:
        self.parser = Parser()


_PARSERS = _Parsers() if IS_INSTALLED else None


def decode_array(text: bytes, depth: int, kinds: str) -> Array | None:
    """Decode an array of numbers, or of arrays of numbers of equal length at each depth.

    Args:
        text: the array in JSON, with nothing around it.
        depth: how many brackets open before its first number.
        kinds: the kinds of number that it may have; the first that fits all of them is used:
            ``i`` and ``u`` are signed and unsigned integers of 64 bits, ``d`` is any number,
            rounded to the nearest double.

    Returns:
        The array; None if it is anything else or empty, or simdjson is not installed.
    """
    if _PARSERS is None or not kinds or b"l" in text:  # null, which is not a number
        return None
    try:
        document = _PARSERS.parser.parse(text)
        # What is nested in another way would be flattened, too.
        shape = _shape_of(text, document, depth)
        flat = _flatten(document, kinds) if shape else None
    except (ValueError, TypeError, RuntimeError, LookupError):  # syntax, kind, range, emptiness
        return None
    if flat is None or shape is None or flat.size != math.prod(shape):
        return None
    return flat.reshape(shape)


def _shape_of(text: bytes, document: Any, depth: int) -> tuple[int, ...] | None:
    """Measure arrays from the outside in; None if they are not nested regularly.

    Raises:
        ValueError, LookupError: they differ in length, or one is empty.
        TypeError: there is a number in place of an array.
    """
    count = _count_arrays(text)
    shape, level = [len(document)], document
    is_sparse = count * _SPARSE_BYTES < len(text)
    while len(shape) < depth:
        if is_sparse:
            (size,) = set(map(len, level))
            level = list(chain.from_iterable(level)) if len(shape) + 1 < depth else level
        else:
            level = level[0]
            size = len(level)
        shape.append(size)
    if count != sum(accumulate(shape[:-1], mul, initial=1)) or not 0 < math.prod(shape) < len(text):
        return None
    return tuple(shape) if is_sparse or _is_regular(text, shape) else None


def _count_arrays(text: bytes) -> int:
    # Several times as fast as bytes.count; one array is the usual case.
    if text.rfind(b"[") == text.find(b"["):
        return 1
    return int(np.count_nonzero(np.frombuffer(text, np.uint8) == ord("[")))


def _is_regular(text: bytes, shape: list[int]) -> bool:
    """Ask whether all arrays are nested as the first ones.

    The characters between the numbers tell it at once. A Python object for each of many arrays
    would take as long as all the rest, with the interpreter lock.
    """
    element = b""
    for size in reversed(shape):
        element = b"[%b%b]" % ((element + b",") * (size - 1), element)
    return text.translate(None, _WITHIN_NUMBERS) == element


def _flatten(document: Any, kinds: str) -> Array | None:
    for kind in kinds:
        try:
            return np.frombuffer(document.as_buffer(of_type=kind), _DATATYPES[kind])
        except TypeError:  # another kind of number, or another value
            continue
    return None
