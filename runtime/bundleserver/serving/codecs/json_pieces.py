"""Long lists of numbers in JSON bodies, read apart from the rest of it.

They are cut out of a body and become arrays by a way of their own; the rest is read as ever, with a
mark in each list's place. simdjson reads a list at once, without a Python number for each. In large
bodies lists are read piece by piece, each piece becoming an array before the next one is read, so
that other threads have their turns in between: parsers keep the interpreter. Nothing here says what
is wrong with a body: whatever is not plain is left to those who read bodies as a whole.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterator
from itertools import chain
from typing import TypeVar, cast

import numpy as np
import orjson

from bundleserver.errors import InvalidInput
from bundleserver.serving.codecs import simd_numbers
from bundleserver.tensors import Array

T = TypeVar("T")

PIECE_BYTES = 128 * 2**10
"""What is read without a pause: about a millisecond's work."""

LARGE_BYTES = 2 * 2**20
"""Larger bodies are read in pieces."""

LONG_BYTES = 12 * 2**10
"""Shorter lists of numbers gain nothing by being read apart."""

_DEEPEST = 32
_KEYS = ("data", "instances", "inputs")
_LIST = re.compile(rb'"(?:data|instances|inputs)"\s*:\s*\[')
_SPACE = b" \t\n\r"
_BRACKETS_TO_SPACE = bytes.maketrans(b"[]", b"  ")
_OPENING = re.compile(rb"[\s\[]*")


class NotPlain(Exception):
    """A body that has to be read as a whole."""


class Numbers:
    """A long list of numbers, flat or nested, that stands unread in a document.

    ``shape`` is None until it has been read to its end without a fault.
    """

    def __init__(self, body: bytes, start: int, end: int, piece_bytes: int) -> None:
        """Take what is in a body from behind the list's opening bracket to its closing one."""
        self._body = body
        self._start = start
        self._end = end
        self._piece_bytes = piece_bytes
        self.shape: tuple[int, ...] | None = None

    def read(self, kinds: str, convert: Callable[[list[object] | Array], Array]) -> Array:
        """Read everything into one flat array: at once by simdjson, or each piece with one call.

        Args:
            kinds: what simdjson may read the values as, see ``simd_numbers``; empty if nothing.
            convert: makes an array of values, or of what simdjson has read.

        Raises:
            NotPlain: it is no valid JSON, or not nested alike everywhere.
        """
        opening = _OPENING.match(self._body, self._start, self._start + self._piece_bytes)
        depth = 1 + (opening.group().count(b"[") if opening else 0)
        if depth > _DEEPEST:
            raise NotPlain
        if self._end - self._start <= self._piece_bytes:
            text = self._body[self._start - 1 : self._end + 1]
            found = simd_numbers.read_array(text, depth, kinds)
            if found is None:
                raise NotPlain
            array = convert(found.reshape(-1))
            self.shape = found.shape
            return array
        nesting = _Nesting(depth)
        texts = (b"[%b]" % nesting.flatten(text) for text in self._pieces())
        arrays = [convert(_values_of(text, kinds)) for text in texts]
        self.shape = nesting.shape()
        return np.concatenate(arrays)

    def first(self) -> object:
        """Read the first element of what has been read without a fault before."""
        inner = len(self.shape or ()) - 1
        closing = rb"\]" + rb"\s*\]" * (inner - 1) if inner > 0 else rb"(?=,)"
        found = re.compile(closing).search(self._body, self._start, self._end)
        return orjson.loads(self._body[self._start : found.end() if found else self._end])

    def plain(self) -> list[object]:
        """Read it as a whole."""
        return cast("list[object]", orjson.loads(self._body[self._start - 1 : self._end + 1]))

    def _pieces(self) -> Iterator[bytes]:
        """Cut at commas. There is no text in here, so that each comma stands between two values."""
        start, cut = self._start, -1
        while cut < self._end:
            cut = self._end
            if cut - start > self._piece_bytes:
                cut = self._body.rfind(b",", start, start + self._piece_bytes)
            if cut < start:
                raise NotPlain
            # A comma that is followed by nothing leaves an empty piece, or one of space.
            yield self._body[start:cut]
            start = cut + 1


class _Nesting:
    """How many elements the lists at each depth have: the same number for all at one depth.

    Lists that are open where a piece ends are closed for it, and opened for the next one; no list
    is made of them, which would keep Python's garbage collector busy.
    """

    def __init__(self, depth: int) -> None:
        """Expect lists of so many dimensions."""
        self._sizes: list[set[int]] = [set() for _ in range(depth)]
        self._unfinished = [0] * depth
        self._open = 1

    def shape(self) -> tuple[int, ...]:
        """Return the sizes from the outside in, when everything has been flattened.

        Raises:
            NotPlain: a list is still open.
        """
        if self._open != 1:
            raise NotPlain
        return (self._unfinished[0], *(size for sizes in self._sizes[1:] for size in sizes))

    def flatten(self, text: bytes) -> bytes:
        """Put spaces in place of a piece's brackets, all of which stand where they may.

        That numbers stand where they have to, one between two commas, is seen when they are read.

        Raises:
            NotPlain: a bracket stands elsewhere, or a list has another length than others.
        """
        inner = len(self._sizes) - 1
        compact = text.translate(None, _SPACE) if inner else text
        after = self._open + compact.count(b"[") - compact.count(b"]")
        compact = b"[" * (self._open - 1) + compact + b"]" * (after - 1)
        if not (compact.startswith(b"[" * inner) and compact.endswith(b"]" * inner)):
            raise NotPlain
        parts = [compact[inner : len(compact) - inner]]
        for depth in range(inner):
            bracket = inner - depth
            lists = [part.split(b"]" * bracket + b"," + b"[" * bracket) for part in parts]
            self._count(depth, list(map(len, lists)), after)
            parts = list(chain.from_iterable(lists))
        self._count(inner, [part.count(b",") + 1 for part in parts], after)
        rest = b"".join(parts)
        if b"[" in rest or b"]" in rest:
            raise NotPlain
        self._open = after
        return text.translate(_BRACKETS_TO_SPACE) if inner else text

    def _count(self, depth: int, sizes: list[int], after: int) -> None:
        if depth < self._open:
            # What is unfinished within an unfinished list has been counted.
            sizes[0] += self._unfinished[depth] - (depth + 1 < self._open)
        if depth < after:
            self._unfinished[depth] = sizes.pop()
        known = self._sizes[depth]
        known.update(sizes)
        if len(known) > 1:
            raise NotPlain


def _values_of(text: bytes, kinds: str) -> list[object] | Array:
    """Read a flat list. Where each piece has values, they are valid when joined, too."""
    array = simd_numbers.read_array(text, 1, kinds)
    if array is not None:
        return array
    try:
        values: list[object] = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise NotPlain from error
    if not values:
        raise NotPlain
    return values


def decode_apart(
    body: bytes, decode: Callable[[dict[str, object]], T], long_bytes: int, piece_bytes: int
) -> T | None:
    """Decode a body whose document may hold ``Numbers``: as ``data``, ``instances`` or ``inputs``.

    Args:
        body: one JSON object.
        decode: reads its document.
        long_bytes: how long a list has to be to be read apart. It has to begin within so many
            bytes, or 12 KiB, or so soon after the one before.
        piece_bytes: how much of a list is read without a pause. One that is shorter is left to the
            whole where simdjson cannot read it.

    Returns:
        What ``decode`` returns; None where the body is not plain: whoever reads it as a whole says
        what is wrong, if anything.

    Raises:
        InvalidInput: every list is read, and the request is refused in the words of the whole.
    """
    try:
        document, cut_out = _read(body, long_bytes, piece_bytes)
        decoded = decode(document)
    except NotPlain:
        return None
    except InvalidInput:
        if _are_read(cut_out):
            raise
        return None
    return decoded if _are_read(cut_out) else None


def _are_read(cut_out: list[Numbers]) -> bool:
    """Ask for lists that stood in a text, under a key that came twice, or elsewhere."""
    return all(numbers.shape is not None for numbers in cut_out)


def _read(
    body: bytes, long_bytes: int, piece_bytes: int
) -> tuple[dict[str, object], list[Numbers]]:
    rest, cut_out = _cut_out(body, long_bytes, piece_bytes)
    try:
        document = orjson.loads(rest) if cut_out else None
    except orjson.JSONDecodeError as error:
        raise NotPlain from error
    if not isinstance(document, dict):
        raise NotPlain
    _put_back(document, cut_out)
    return document, list(cut_out.values())


def _cut_out(body: bytes, long_bytes: int, piece_bytes: int) -> tuple[bytes, dict[str, Numbers]]:
    """Replace long lists of numbers by marks."""
    secret = secrets.token_hex(8)
    cut_out: dict[str, Numbers] = {}
    parts: list[bytes] = []
    done = position = 0
    while found := _LIST.search(body, position, done + max(long_bytes, LONG_BYTES)):
        position = start = found.end()
        end = _end_of_numbers(body, start)
        if end - start > long_bytes:
            mark = f"{secret}-{len(cut_out)}"
            cut_out[mark] = Numbers(body, start, end, piece_bytes)
            parts += (body[done : start - 1], f'"{mark}"'.encode())
            position = done = end + 1
    return b"".join((*parts, body[done:])), cut_out


def _end_of_numbers(body: bytes, start: int) -> int:
    """Find the last bracket before anything that is no number; below the start if there is none."""
    quote = body.find(b'"', start)
    stop = len(body) if quote < 0 else quote
    brace = body.find(b"}", start, stop)
    return body.rfind(b"]", start, stop if brace < 0 else brace)


def _put_back(document: dict[str, object], cut_out: dict[str, Numbers]) -> None:
    """Put numbers where a request or an event has them."""
    inputs = document.get("inputs")
    for place in (document, document.get("data"), *(inputs if isinstance(inputs, list) else ())):
        for key in _KEYS if isinstance(place, dict) else ():
            mark = place.get(key)
            if isinstance(mark, str) and mark in cut_out:
                place[key] = cut_out[mark]
