"""A bounded reader of flatbuffers: tables, vectors and strings, each within the buffer.

What is read is charged against the buffer's size, so that a small file with thousands of references
to one long vector is refused before anybody copies it as often.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import numpy as np

Numbers = np.ndarray[Any, Any]
"""An array whose numbers are of a kind that the schema says."""

_OFFSET = struct.Struct("<I")
_TO_VTABLE = struct.Struct("<i")
_SLOT = struct.Struct("<H")


class Damaged(ValueError):
    """A file is cut, or has numbers that no writer writes; the text says which."""


class Buffer:
    """The bytes of one flatbuffer, and how much of them may still be read."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self._left = len(data)

    def root(self) -> Table:
        """Return the table at the top.

        Raises:
            Damaged: it is outside of the buffer.
        """
        return Table(self, self.target(0))

    def number(self, form: struct.Struct, at: int) -> Any:
        """Return the number at a place.

        Raises:
            Damaged: the place is outside of the buffer.
        """
        if not 0 <= at <= len(self.data) - form.size:
            raise Damaged("a reference leads out of the file")
        return form.unpack_from(self.data, at)[0]

    def target(self, at: int) -> int:
        """Return the place to which the offset at a place leads."""
        return at + int(self.number(_OFFSET, at))

    def span(self, at: int, size: int, width: int = 1) -> tuple[int, int]:
        """Return the start and the length of a vector with entries of ``size`` bytes.

        Raises:
            Damaged: it is outside of the buffer, or more was read than the buffer has.
        """
        count = int(self.number(_OFFSET, at))
        start = at + _OFFSET.size
        if count * size > len(self.data) - start:
            raise Damaged(f"a list of {count} entries leads out of the file")
        self.charge(count * size * width)
        return start, count

    def charge(self, size: int) -> None:
        """Count bytes as read.

        Raises:
            Damaged: more was read than the buffer has, so parts are there several times.
        """
        self._left -= size
        if self._left < 0:
            raise Damaged("several of its parts are the same bytes")


class Table:
    """One table of a buffer; a field that it lacks has the default of the schema."""

    def __init__(self, buffer: Buffer, at: int) -> None:
        """Read where its fields are.

        Raises:
            Damaged: it is outside of the buffer.
        """
        self._buffer = buffer
        self._at = at
        self._fields = at - int(buffer.number(_TO_VTABLE, at))
        self._size = int(buffer.number(_SLOT, self._fields))
        inline = int(buffer.number(_SLOT, self._fields + _SLOT.size))
        ends = (self._fields + self._size, at + inline)
        if self._size < 4 or inline < 4 or max(ends) > len(buffer.data):
            raise Damaged("a table leads out of the file")
        buffer.charge(inline)

    def has(self, slot: int) -> bool:
        """Ask whether a field is written."""
        return self._place(slot) is not None

    def number(self, slot: int, form: str, default: float) -> Any:
        """Return a number; ``form`` is one of :mod:`struct`."""
        at = self._place(slot)
        return default if at is None else self._buffer.number(struct.Struct(form), at)

    def table(self, slot: int) -> Table | None:
        """Return a table."""
        at = self._place(slot)
        return None if at is None else Table(self._buffer, self._buffer.target(at))

    def text(self, slot: int) -> str | None:
        """Return a string; what is not UTF-8 in it is replaced."""
        at = self._place(slot)
        return None if at is None else self._text_at(self._buffer.target(at))

    def array(self, slot: int, dtype: str, width: int = 1) -> Numbers:
        """Return a vector of numbers, or of structs of ``width`` numbers as ``[n, width]``."""
        at = self._place(slot)
        kind = np.dtype(dtype)
        if at is None:
            return np.empty((0, width) if width > 1 else 0, kind)
        start, count = self._buffer.span(self._buffer.target(at), kind.itemsize * width)
        found = np.frombuffer(self._buffer.data, kind, count * width, start)
        return found.reshape(count, width) if width > 1 else found

    def tables(self, slot: int) -> Iterator[Table]:
        """Yield the tables of a vector."""
        for at in self._references(slot):
            yield Table(self._buffer, self._buffer.target(at))

    def texts(self, slot: int) -> Iterator[str]:
        """Yield the strings of a vector."""
        for at in self._references(slot):
            yield self._text_at(self._buffer.target(at))

    def _references(self, slot: int) -> range:
        at = self._place(slot)
        if at is None:
            return range(0)
        start, count = self._buffer.span(self._buffer.target(at), _OFFSET.size)
        return range(start, start + count * _OFFSET.size, _OFFSET.size)

    def _text_at(self, at: int) -> str:
        start, length = self._buffer.span(at, 1)
        return self._buffer.data[start : start + length].decode("utf-8", "replace")

    def _place(self, slot: int) -> int | None:
        at = 4 + _SLOT.size * slot
        if at + _SLOT.size > self._size:
            return None
        offset = int(self._buffer.number(_SLOT, self._fields + at))
        return self._at + offset if offset else None
