"""A bounded reader of protobuf's wire format, for files that may be anything.

It walks the fields of a message and copies nothing. What a forest has hundreds of thousands of, the
entries of a repeated field, each with a tag of its own, is passed over as runs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bundleserver.frameworks.giving_up import go_on

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5

MOST_FIELDS = 5_000_000
"""The fields of a file that are looked at one by one; runs count once."""

_LEAST_WINDOW, _MOST_WINDOW = 1 << 7, 1 << 18
_MOST_DIGITS = 10
_ASK_EVERY = 1 << 16
_MOST_SHIFT = 63
_INSIDE_NUMBER = bytes(range(128, 256))
_MOST_NUMBER = (1 << 29) - 1


class Malformed(Exception):  # it becomes a LoadError that names the file
    """The bytes are not such a message; the text says what is wrong."""


class Field(NamedTuple):
    """One field of a message, or a run of entries of a repeated one.

    ``value`` is a varint's, as unsigned 64 bits, else 0. ``start`` and ``end`` are those of the
    content in the file, of a run those of all of it. ``entries`` is how many there are.
    """

    number: int
    wire: int
    value: int
    start: int
    end: int
    entries: int = 1


class Wire:
    """The bytes of a file, and how many of its fields may still be looked at."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self._left = MOST_FIELDS

    def fields(self, start: int, end: int, bulk: Collection[int] = ()) -> Iterator[Field]:
        """Yield the fields of the message between two positions.

        Args:
            start: where the message begins.
            end: where it ends.
            bulk: the numbers of repeated fields whose entries are of no interest.

        Raises:
            Malformed: it is not a message, or the file has too many fields.
            Abandoned: nobody waits for the load any more.
        """
        at = start
        while at < end:
            self._spend()
            tag, at = self.varint(at, end)
            number, wire = tag >> 3, tag & 7
            if not 0 < number <= _MOST_NUMBER:
                raise Malformed(f"byte {at} has a field with the number {number}")
            first = at
            value, content, at = self._content(wire, at, end)
            count = 1
            if number in bulk and at < end and tag < 128:
                count, at = self._run(tag, at, end)
                content = first if count > 1 else content
            yield Field(number, wire, value, content, at, count)

    def varint(self, at: int, end: int) -> tuple[int, int]:
        """Return an unsigned integer of at most 64 bits, and where the next byte is."""
        value = shift = 0
        while at < end and shift <= _MOST_SHIFT:
            byte = self.data[at]
            at += 1
            value |= (byte & 127) << shift
            if byte < 128:
                return value & ((1 << 64) - 1), at
            shift += 7
        raise Malformed(f"byte {at} is inside of a number without an end")

    def varints(self, field: Field) -> int:
        """Count the integers of a packed field."""
        return len(self.data[field.start : field.end].translate(None, _INSIDE_NUMBER))

    def integers(self, field: Field) -> npt.NDArray[np.int64]:
        """Return the signed integers of a packed field, or of a run of varints."""
        if field.wire == VARINT and field.entries == 1:
            return np.array([signed(field.value)], np.int64)
        content = np.frombuffer(self.data, np.uint8, field.end - field.start, field.start)
        lasts = np.flatnonzero(content < 128)
        # In a run, the tag of each number but the first stands before it.
        ends, before = (lasts, lasts[:-1]) if field.wire == BYTES else (lasts[::2], lasts[1::2])
        begins = np.concatenate((np.zeros(1, lasts.dtype), before + 1))[: len(ends)]
        values = np.zeros(len(ends), np.uint64)
        for place in range(_MOST_DIGITS):
            has = begins + place <= ends
            if not has.any():
                break
            digits = content[begins[has] + place].astype(np.uint64) & np.uint64(127)
            values[has] |= digits << np.uint64(7 * place)
        return values.view(np.int64)

    def text(self, field: Field, most: int = 4096) -> str:
        """Return a string, of at most so many bytes.

        Raises:
            Malformed: it is longer, or not UTF-8.
        """
        expect(field, BYTES)
        if field.end - field.start > most:
            raise Malformed(f"byte {field.start} has a name of {field.end - field.start} bytes")
        try:
            return self.data[field.start : field.end].decode()
        except UnicodeDecodeError as error:
            raise Malformed(f"byte {field.start} has a name that is not UTF-8") from error

    def _content(self, wire: int, at: int, end: int) -> tuple[int, int, int]:
        """Return a field's value, and where its content begins and ends."""
        if wire == VARINT:
            value, after = self.varint(at, end)
            return value, at, after
        if wire == BYTES:
            size, at = self.varint(at, end)
        elif wire in (FIXED32, FIXED64):
            size = 4 if wire == FIXED32 else 8
        else:
            raise Malformed(f"byte {at} has a field of the unknown wire type {wire}")
        if size > end - at:
            raise Malformed(
                f"byte {at} announces {size} bytes, where {end - at} are left; it is probably cut "
                "off"
            )
        return 0, at, at + size

    def _run(self, tag: int, at: int, end: int) -> tuple[int, int]:
        """Pass over further entries with the same tag; return how many there are with the first."""
        passed = _passed_strings if tag & 7 == BYTES else _passed_numbers
        count, window, more = 1, _LEAST_WINDOW, 1
        while more and at < end:
            self._spend()
            # What changes its tag often is not searched to its end each time.
            more, at = passed(self.data, tag, at, min(end, at + window))
            count, window = count + more, min(2 * window, _MOST_WINDOW)
        return count, at

    def _spend(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise Malformed(f"it has more than {MOST_FIELDS} fields")
        if self._left % _ASK_EVERY == 0:
            go_on()


def expect(field: Field, *wires: int) -> None:
    """Check the wire type of a field.

    Raises:
        Malformed: it is another one.
    """
    if field.wire not in wires:
        raise Malformed(
            f"byte {field.start} has field {field.number} of wire type {field.wire}; expected "
            + " or ".join(map(str, wires))
        )


def signed(value: int) -> int:
    """Return the signed integer of 64 bits that a varint stands for."""
    return value - (1 << 64) if value >= 1 << 63 else value


def _passed_strings(data: bytes, tag: int, at: int, end: int) -> tuple[int, int]:
    """Pass over strings of at most 127 bytes that have one tag, and end before ``end``."""
    count = 0
    while at + 1 < end and data[at] == tag:
        size = data[at + 1]
        after = at + 2 + size
        if size > 127 or after > end:
            break
        count, at = count + 1, after
    return count, at


def _passed_numbers(data: bytes, tag: int, at: int, end: int) -> tuple[int, int]:
    """Pass over numbers that have one tag, and end before ``end``."""
    window = np.frombuffer(data, np.uint8, end - at, at)
    if tag & 7 != VARINT:
        size = 5 if tag & 7 == FIXED32 else 9
        count = _first_false(window[: len(window) // size * size : size] == tag)
        return count, at + count * size
    # A tag of one byte and the last byte of a number alone are below 128.
    lasts = np.flatnonzero(window < 128)
    lasts = lasts[: len(lasts) // 2 * 2]
    tags, ends = lasts[::2], lasts[1::2]
    begins = np.concatenate(([0], ends[:-1] + 1))
    count = _first_false((tags == begins) & (window[tags] == tag) & (ends - tags <= _MOST_DIGITS))
    return count, at + (int(ends[count - 1]) + 1 if count else 0)


def _first_false(flags: npt.NDArray[np.bool_]) -> int:
    return len(flags) if flags.all() else int(flags.argmin())
