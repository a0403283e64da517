"""JSON numbers decoded straight into numpy arrays by simdjson, where it is installed.

No Python number is made of any of them, which is most of what it costs to read them. Nothing here
says what is wrong with a text: whatever is not plain is left to orjson.
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
    """One parser for each thread: its memory is used again, and it has one document at a time."""

    def __init__(self) -> None:
        self.parser = Parser()


_PARSERS = _Parsers() if IS_INSTALLED else None


def read_array(text: bytes, depth: int, kinds: str) -> Array | None:
    """Read a list of numbers, or of lists of numbers that are equally long at each depth.

    Args:
        text: the list in JSON, with nothing around it.
        depth: how many brackets open before its first number.
        kinds: the kinds of number that it may hold, the first that takes all of them is used:
            ``i`` and ``u`` take whole numbers of 64 bits, with a sign or without, ``d`` takes every
            number and gives the nearest double.

    Returns:
        Its array; None where it is anything else, or holds no number, or where simdjson is missing.
    """
    if _PARSERS is None or not kinds or b"l" in text:  # null, which no array of numbers has
        return None
    try:
        document = _PARSERS.parser.parse(text)
        shape = _shape_of(document, depth)
        flat = _flatten(document, kinds)
    except (ValueError, TypeError, RuntimeError):  # its errors of syntax, kind and range
        return None
    # Lists that are nested deeper have been flattened, too.
    lists = sum(accumulate(shape[:-1], mul, initial=1))
    if flat is None or flat.size != math.prod(shape) or _count(text, b"[", lists) != lists:
        return None
    return flat.reshape(shape) if flat.size else None


def _shape_of(document: Any, depth: int) -> tuple[int, ...]:
    """Measure lists from the outside in.

    Raises:
        ValueError: they differ in length.
        TypeError: there is a number in place of a list.
    """
    shape, level = [len(document)], document
    while len(shape) < depth:
        (size,) = set(map(len, level))
        shape.append(size)
        if len(shape) < depth:
            level = list(chain.from_iterable(level))
    return tuple(shape)


def _count(text: bytes, character: bytes, expected: int) -> int:
    """Count a character that comes often, or not after its first time."""
    if expected == 1 and text.rfind(character) == text.find(character):
        return 1
    return int(np.count_nonzero(np.frombuffer(text, np.uint8) == ord(character)))


def _flatten(document: Any, kinds: str) -> Array | None:
    for kind in kinds:
        try:
            return np.frombuffer(document.as_buffer(of_type=kind), _DATATYPES[kind])
        except TypeError:  # a number of another kind, or no number
            continue
    return None
