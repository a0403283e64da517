"""Long arrays of numbers in JSON bodies, decoded separately by simdjson.

They are cut out of a body and decoded to numpy arrays without a Python object for each number; the
rest is decoded as usual, with a placeholder for each array. Long ones are decoded piece by piece,
so that other threads run in between: a parser keeps the interpreter lock. Errors are not reported
here: a body that cannot be decoded this way is decoded as a whole.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterator
from itertools import chain
from typing import TypeVar

import numpy as np
import orjson

from bundleserver.errors import InvalidInput
from bundleserver.serving.codecs.simd_numbers import decode_array
from bundleserver.serving.codecs.structure import check_values
from bundleserver.tensors import Array

T = TypeVar("T")

PIECE_BYTES = 128 * 2**10
"""Bytes decoded without a pause: less than a millisecond's work."""

LARGE_BYTES = 2 * 2**20
"""Larger bodies are decoded in a thread."""

LONG_BYTES = 12 * 2**10
"""Shorter arrays gain nothing by being decoded separately."""

_NEAR_BYTES = 64 * 2**10
"""So far a cut is sought as JSON is mostly written, without spaces between brackets."""

_DEEPEST = 32  # numpy 1's limit
_COMMA, _CLOSING = b",]"
_KEYS = ("data", "instances", "inputs")
_ARRAY = re.compile(rb'"(?:data|instances|inputs)"\s*:\s*\[')
_OPENING = re.compile(rb"[\s\[]*")


class NotPlain(Exception):
    """The body must be decoded as a whole."""


class Numbers:
    """A long array of numbers, flat or nested, not decoded yet."""

    def __init__(self, body: bytes, start: int, end: int, piece_bytes: int) -> None:
        """Set the range in a body, without the outer brackets."""
        self._body = body
        self._start = start
        self._end = end
        self._piece_bytes = piece_bytes
        self._depth = 1
        self.is_decoded = False

    def decode(self, kinds: str) -> Array:
        """Decode everything into one array of the shape in which the numbers are nested.

        Args:
            kinds: what the numbers may be decoded as, see ``simd_numbers``; empty if nothing.

        Raises:
            NotPlain: it is not valid JSON, has other values, or is nested irregularly.
        """
        opening = _OPENING.match(self._body, self._start, self._start + self._piece_bytes)
        self._depth = depth = 1 + (opening.group().count(b"[") if opening else 0)
        if depth > _DEEPEST:
            raise NotPlain
        arrays: list[Array] = []
        for text in self._pieces(depth):
            array = decode_array(text, depth, kinds)
            if array is None or array.shape[1:] != (arrays or [array])[0].shape[1:]:
                raise NotPlain
            arrays.append(array)
        self.is_decoded = True
        return np.concatenate(arrays) if len(arrays) > 1 else arrays[0]

    def plain(self) -> Iterator[object]:
        """Decode it into Python numbers as they are asked for, after ``decode``."""
        return chain.from_iterable(map(orjson.loads, self._pieces(self._depth)))

    def _pieces(self, depth: int) -> Iterator[bytes]:
        """Cut between elements of the outermost array, which has no strings.

        If each piece is valid and has elements, the whole is valid.
        """
        start, cut = self._start, -1
        while cut < self._end:
            cut = self._next_cut(start + self._piece_bytes, depth)
            yield b"[%b]" % self._body[start:cut]
            start = cut + 1

    def _next_cut(self, start: int, depth: int) -> int:
        """Find the comma after as many closing brackets as end an outermost element.

        In linear time and step by step, whatever comes: a search for all of the brackets at each
        place would take the interpreter lock for minutes where there are too many of them.
        """
        mark = b"]" * (depth - 1) + b","
        found = self._body.find(mark, start, min(start + _NEAR_BYTES, self._end))
        if found >= 0:
            return found + depth - 1
        while start < self._end:
            codes = np.frombuffer(
                self._body, np.uint8, min(self._piece_bytes, self._end - start), start
            )
            places = np.flatnonzero(codes > ord(" "))
            kept = codes[places]
            closed = np.concatenate(([0], np.cumsum(kept == _CLOSING)))
            commas = np.flatnonzero(kept[depth - 1 :] == _COMMA)
            # Of the characters before each comma, so many are brackets.
            cuts = commas[closed[commas + depth - 1] - closed[commas] == depth - 1]
            if cuts.size:
                return start + int(places[cuts[0] + depth - 1])
            start += len(codes)
        return self._end


def decode_apart(
    body: bytes,
    decode: Callable[[dict[str, object]], T],
    long_bytes: int = LONG_BYTES,
    piece_bytes: int = PIECE_BYTES,
    most_values: int = 0,
) -> T | None:
    """Decode a body whose document may hold ``Numbers``: as ``data``, ``instances`` or ``inputs``.

    Args:
        body: one JSON object.
        decode: decodes its document.
        long_bytes: minimum length of an array that is decoded separately. It must begin within so
            many bytes, or 12 KiB, of the body's start or of the previous one.
        piece_bytes: how much of an array is decoded without a pause.
        most_values: how many values the rest may have; 0: any number.

    Returns:
        What ``decode`` returns; None if the body must be decoded as a whole, which reports errors.

    Raises:
        InvalidInput: every array is decoded, and the request is refused as the whole would be.
        TooManyValues: the rest has more than that.
    """
    rest, cut_out = _cut_out(body, long_bytes, piece_bytes)
    try:
        if not cut_out:
            return None
        if most_values:
            check_values(rest, most_values)
        document = orjson.loads(rest)
        if not isinstance(document, dict):
            return None
        _put_back(document, cut_out)
        decoded = decode(document)
    except (NotPlain, orjson.JSONDecodeError):
        return None
    except InvalidInput:
        if all(found.is_decoded for found in cut_out.values()):
            raise
        return None
    # Others are inside a string, under a repeated key, or where no request has them.
    return decoded if all(found.is_decoded for found in cut_out.values()) else None


def _cut_out(body: bytes, long_bytes: int, piece_bytes: int) -> tuple[bytes, dict[str, Numbers]]:
    """Replace long arrays of numbers by placeholders."""
    secret = secrets.token_hex(8)
    cut_out: dict[str, Numbers] = {}
    parts: list[bytes] = []
    done = position = 0
    while found := _ARRAY.search(body, position, done + max(long_bytes, LONG_BYTES)):
        position = start = found.end()
        end = _end_of_numbers(body, start)
        if end - start > long_bytes:
            mark = f"{secret}-{len(cut_out)}"
            cut_out[mark] = Numbers(body, start, end, piece_bytes)
            parts += (body[done : start - 1], f'"{mark}"'.encode())
            position = done = end + 1
    return b"".join((*parts, body[done:])), cut_out


def _end_of_numbers(body: bytes, start: int) -> int:
    """Find the last bracket before any other value; below the start if there is none."""
    quote = body.find(b'"', start)
    stop = len(body) if quote < 0 else quote
    brace = body.find(b"}", start, stop)
    return body.rfind(b"]", start, stop if brace < 0 else brace)


def _put_back(document: dict[str, object], cut_out: dict[str, Numbers]) -> None:
    """Replace the placeholders where a request or an event has data."""
    inputs = document.get("inputs")
    for place in (document, document.get("data"), *(inputs if isinstance(inputs, list) else ())):
        for key in _KEYS if isinstance(place, dict) else ():
            mark = place.get(key)
            if isinstance(mark, str) and mark in cut_out:
                place[key] = cut_out[mark]
