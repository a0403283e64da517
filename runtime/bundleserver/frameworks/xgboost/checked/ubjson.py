"""UBJSON, as XGBoost writes it and no other way, so that both read the same.

Typed arrays become arrays of numpy's on the content itself, everything else what JSON would.
"""

from __future__ import annotations

import struct

import numpy as np

from bundleserver.frameworks.boosting.soundness import NotSound

DEEPEST = 24
"""Maximum nesting depth; a model of trees in a pickle has eight."""

_NUMBERS = {
    b"i": struct.Struct(">b"),
    b"U": struct.Struct(">B"),
    b"I": struct.Struct(">h"),
    b"l": struct.Struct(">i"),
    b"L": struct.Struct(">q"),
    b"d": struct.Struct(">f"),
    b"D": struct.Struct(">d"),
}
_DTYPES = {
    kind: np.dtype(name)
    for kind, name in {
        b"i": ">i1", b"U": ">u1", b"I": ">i2", b"l": ">i4", b"L": ">i8", b"d": ">f4", b"D": ">f8",
    }.items()
}  # fmt: skip
_CONSTANTS = {b"T": True, b"F": False}
_LENGTH = struct.Struct(">q")


def read_ubjson(content: bytes) -> dict[str, object]:
    """Return the object that is the whole content.

    Raises:
        NotSound: it is no such object, or ends early; says where.
    """
    reader = _Reader(content)
    if reader.take(1) != b"{":
        raise reader.odd("no object begins")
    found = reader.members(1)
    if reader.at != len(content):
        raise reader.odd("more follows after the model's end")
    return found


class _Reader:
    """Reads one content from its start."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self.at = 0

    def odd(self, what: str) -> NotSound:
        """Return the error that something is wrong here."""
        return NotSound(f"it is not the UBJSON that XGBoost writes: {what} at byte {self.at}")

    def take(self, count: int) -> bytes:
        """Return the next bytes."""
        start, self.at = self.at, self.at + count
        if not start <= self.at <= len(self._content):
            self.at = start
            raise self.odd("it ends early,")
        return self._content[start : self.at]

    def members(self, deep: int) -> dict[str, object]:
        """Read an object's members, to its end."""
        if deep > DEEPEST:
            raise self.odd(f"nesting is deeper than {DEEPEST}")
        found: dict[str, object] = {}
        while (marker := self.take(1)) != b"}":
            if marker != b"L":
                raise self.odd("no key begins")
            key = self._text()
            if key in found:
                raise self.odd(f"the key '{key:.40}' is there twice")
            found[key] = self._value(deep)
        return found

    def _value(self, deep: int) -> object:
        marker = self.take(1)
        if marker == b"[":
            return self._items(deep + 1)
        if marker == b"S":
            if self.take(1) != b"L":
                raise self.odd("a string has no length")
            return self._text()
        if number := _NUMBERS.get(marker):
            value: object = number.unpack(self.take(number.size))[0]
            return value
        if marker == b"{":
            return self.members(deep + 1)
        if marker in _CONSTANTS:
            return _CONSTANTS[marker]
        raise self.odd("no value begins")

    def _items(self, deep: int) -> object:
        if deep > DEEPEST:
            raise self.odd(f"nesting is deeper than {DEEPEST}")
        marker = self.take(1)
        kind = self.take(1) if marker == b"$" else b""
        if self.take(2) != b"#L" if kind else (marker, self.take(1)) != (b"#", b"L"):
            raise self.odd("an array has no length")
        count = self._length()
        if not kind:
            return [self._value(deep) for _ in range(count)]
        dtype = _DTYPES.get(kind)
        if dtype is None:
            raise self.odd("an array has a type that XGBoost does not write")
        return np.frombuffer(self.take(count * dtype.itemsize), dtype)

    def _length(self) -> int:
        """Read a length; every item takes a byte at least."""
        length: int = _LENGTH.unpack(self.take(8))[0]
        if not 0 <= length <= len(self._content) - self.at:
            raise self.odd(f"a length is {length}, more than there is,")
        return length

    def _text(self) -> str:
        try:
            return self.take(self._length()).decode()
        except UnicodeDecodeError:
            raise self.odd("a string is not UTF-8,") from None
