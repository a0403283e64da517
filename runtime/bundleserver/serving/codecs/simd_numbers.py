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
        shape = _shape_of(document, depth)
        flat = _flatten(document, kinds)
    except (ValueError, TypeError, RuntimeError):  # its errors of syntax, kind and range
        return None
    # Arrays that are nested deeper have been flattened, too.
    arrays = sum(accumulate(shape[:-1], mul, initial=1))
    if flat is None or flat.size != math.prod(shape) or _count_brackets(text, arrays) != arrays:
        return None
    return flat.reshape(shape) if flat.size else None


def _shape_of(document: Any, depth: int) -> tuple[int, ...]:
    """Measure arrays from the outside in.

    Raises:
        ValueError: they differ in length.
        TypeError: there is a number in place of an array.
    """
    shape, level = [len(document)], document
    while len(shape) < depth:
        (size,) = set(map(len, level))
        shape.append(size)
        if len(shape) < depth:
            level = list(chain.from_iterable(level))
    return tuple(shape)


def _count_brackets(text: bytes, expected: int) -> int:
    if expected == 1 and text.rfind(b"[") == text.find(b"["):
        return 1
    return int(np.count_nonzero(np.frombuffer(text, np.uint8) == ord("[")))


def _flatten(document: Any, kinds: str) -> Array | None:
    for kind in kinds:
        try:
            return np.frombuffer(document.as_buffer(of_type=kind), _DATATYPES[kind])
        except TypeError:  # another kind of number, or another value
            continue
    return None
