"""Numbers of text files, many at once: as strictly as LightGBM writes them."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

Integers = np.ndarray[Any, np.dtype[np.int64]]

_MOST_DIGITS = 11
"""Characters of an integer of 32 bits, its sign included."""

_SPACE, _MINUS, _ZERO, _NINE = b" -09"
_IN_NUMBERS = b"0123456789+-.einfa "
_COUNT = re.compile(r"\d{1,9}")


class Malformed(Exception):
    """A text is not as LightGBM writes it; says what is wrong, after the name of the file."""


def count_in(text: str, what: str, least: int = 0) -> int:
    """Read one number of things.

    Raises:
        Malformed: it is anything else.
    """
    if not _COUNT.fullmatch(text) or int(text) < least:
        raise Malformed(f"has {what} '{text[:20]}'; expected an integer from {least}")
    return int(text)


def size_of(values: bytes) -> int:
    """Count values that single spaces separate."""
    return values.count(b" ") + 1 if values else 0


def integers(values: bytes, what: str) -> Integers:
    """Read integers that single spaces separate.

    Raises:
        Malformed: one is not a decimal integer of at most 32 bits.
    """
    if not values:
        return np.empty(0, np.int64)
    text = np.frombuffer(values, np.uint8)
    ends = np.append(np.flatnonzero(text == _SPACE), text.size)
    starts = np.append(0, ends[:-1] + 1)
    sizes = ends - starts
    is_signed = text[np.minimum(starts, text.size - 1)] == _MINUS
    is_digit = (text >= _ZERO) & (text <= _NINE)
    is_sound = (
        bool((sizes > is_signed).all())
        and int(sizes.max()) <= _MOST_DIGITS
        and int(is_digit.sum()) + int(is_signed.sum()) + len(ends) - 1 == text.size
    )
    found = np.fromstring(values, np.int64, sep=" ") if is_sound else np.empty(0, np.int64)
    if len(found) != len(ends):
        raise Malformed(f"has a value in '{what}' that is not an integer")
    return found


def check_characters(values: bytes, what: str) -> None:
    """Check that numbers have only the characters of numbers.

    Raises:
        Malformed: there are other characters.
    """
    if values.translate(None, _IN_NUMBERS):
        raise Malformed(f"has a value in '{what}' that is not a number")
