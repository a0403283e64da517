"""Counts what a JSON body has, before anything is built of it.

A parser keeps the interpreter until the whole document stands; here the bytes are looked at piece
by piece, and other threads run in between.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from bundleserver.errors import TooManyValues

_PIECE_BYTES = 2**18
_QUOTE = ord('"')
_WEIGHTS = np.zeros(256, np.uint8)
# Another value follows each of these.
_WEIGHTS[list(b",:")] = 1
# What these open costs as much as two, whether it is empty or not.
_WEIGHTS[list(b"[{")] = 2


def check_values(body: bytes | memoryview, most: int) -> None:
    """Refuse a document by its values and keys, of which arrays and objects count twice.

    Args:
        body: the document; what is not valid JSON is counted alike.
        most: so many are allowed.

    Raises:
        TooManyValues: it has more.
    """
    if _count(body, most, with_strings=True) > most:
        count = _count(body, most, with_strings=False)
        if count > most:
            raise TooManyValues(count, most)


def _count(body: bytes | memoryview, most: int, *, with_strings: bool) -> int:
    """Count until there are more; what looks like structure within strings too, or not."""
    count, inside = 1, False
    for piece in _pieces(body):
        if not with_strings and b"\\" in piece:
            piece = piece.replace(b"\\\\", b"  ").replace(b'\\"', b"  ")
        codes = np.frombuffer(piece, np.uint8)
        weights = _WEIGHTS[codes]
        if not with_strings:
            is_inside = _inside(codes, inside)
            weights *= ~is_inside
            inside = bool(is_inside[-1])
        count += int(weights.sum(dtype=np.int64))
        if count > most:
            break
    return count


def _inside(codes: npt.NDArray[np.uint8], begins_inside: bool) -> npt.NDArray[np.bool_]:
    """Tell which characters are within strings; a closing quote is not."""
    is_quote = codes == _QUOTE
    is_quote[0] ^= begins_inside
    return np.logical_xor.accumulate(is_quote)


def _pieces(body: bytes | memoryview) -> Iterator[bytes]:
    """Cut it so that no piece begins with a character that a backslash before it escapes."""
    start = 0
    while start < len(body):
        piece = bytes(body[start : start + _PIECE_BYTES])
        if (len(piece) - len(piece.rstrip(b"\\"))) % 2:
            piece += bytes(body[start + len(piece) : start + len(piece) + 1])
        start += len(piece)
        yield piece
