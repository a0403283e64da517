"""Numbers of text files, many at once: as strictly as LightGBM writes them."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

Integers = np.ndarray[Any, np.dtype[np.int64]]

_MOST_DIGITS = 11
"""Characters of an integer of 32 bits, its sign included."""

_SPACE, _MINUS, _ZERO, _NINE = b" -09"
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


def check_numbers(values: bytes, what: str) -> None:
    """Check that values, with single spaces between them, are numbers as printf writes them.

    What the library cannot read there ends the process.

    Raises:
        Malformed: one is not.
    """
    if not values:
        return
    kinds = np.frombuffer((b" %b " % values).translate(_KIND_OF), np.uint8)
    is_sound = _MAY_FOLLOW[kinds[:-1] * len(_KINDS) + kinds[1:]].all()
    if is_sound:
        # Within a value there is one point at most, then one exponent at most.
        marks = kinds[kinds <= _EXPONENT]
        is_sound = not ((marks[1:] != _BETWEEN) & (marks[:-1] >= marks[1:])).any()
    if is_sound and b"n" in values:
        words = {word.lstrip(b"+-") for word in values.split(b" ") if word[-1:].isalpha()}
        is_sound = words <= {b"inf", b"nan"}
    if not is_sound:
        raise Malformed(f"has a value in '{what}' that is not a number")


_KINDS = (b" ", b".", b"e", b"0123456789", b"+-", b"infa")
_BETWEEN, _POINT, _EXPONENT, _DIGIT, _SIGN, _LETTER = range(len(_KINDS))
"""Kinds of characters; the first three in the order in which a value may have them."""

_NO_KIND = len(_KINDS)
_KIND_OF = bytes(
    next((kind for kind, characters in enumerate(_KINDS) if code in characters), _NO_KIND)
    for code in range(256)
)


def _pairs() -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Return which kinds may follow each other, by the first times their number, and the second."""
    may = np.zeros((_NO_KIND + 1, _NO_KIND), bool)
    may[_BETWEEN, [_DIGIT, _SIGN, _LETTER]] = True
    may[_DIGIT, [_DIGIT, _POINT, _EXPONENT, _BETWEEN]] = True
    may[_POINT, _DIGIT] = True
    may[_EXPONENT, [_DIGIT, _SIGN]] = True
    may[_SIGN, [_DIGIT, _LETTER]] = True
    may[_LETTER, [_LETTER, _BETWEEN]] = True
    return np.append(may.ravel(), np.zeros(_NO_KIND, bool))


_MAY_FOLLOW = _pairs()


def check_in_range(values: bytes, what: str) -> None:
    """Check that numbers are none that are too large, or too near to zero, for FP64.

    For some arrays the library ends the process over such.

    Raises:
        Malformed: one is.
    """
    found = np.fromstring(values, np.float64, sep=" ") if values else np.empty(0)
    words = values.split(b" ") if values else []
    is_zero = found == 0
    is_sound = len(found) == len(words) and (is_zero | (np.abs(found) >= _LEAST)).all()
    is_sound = is_sound and np.isfinite(found).all()
    zeros = {words[place].strip(b"+-0.") for place in np.flatnonzero(is_zero)}
    if not is_sound or not zeros <= {b""}:
        raise Malformed(f"has a value in '{what}' that is out of the range of FP64")


_LEAST = float(np.finfo(np.float64).tiny)
