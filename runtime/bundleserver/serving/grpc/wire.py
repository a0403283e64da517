"""Counts what a serialized message has, before anything is built of it.

protobuf parses a message with the interpreter held and keeps up to fifty times its size; the wire
format tells how many values there are without that.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from functools import cache

import numpy as np
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from bundleserver.errors import TooManyValues

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_LAST = 0x7F
"""The last byte of a varint is at most this."""
_LONGEST_BITS = 63

_WIDTHS: Mapping[int, int] = {
    FieldDescriptor.TYPE_DOUBLE: 8,
    FieldDescriptor.TYPE_FIXED64: 8,
    FieldDescriptor.TYPE_SFIXED64: 8,
    FieldDescriptor.TYPE_FLOAT: 4,
    FieldDescriptor.TYPE_FIXED32: 4,
    FieldDescriptor.TYPE_SFIXED32: 4,
}
_ONE_VALUE = (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES)


def check_values(body: bytes, kind: Descriptor, most: int) -> None:
    """Refuse a message by its values, of which messages count twice; raw contents count once each.

    Args:
        body: the serialized message; one that is not valid is left to the parser.
        kind: what it is.
        most: so many are allowed; 0: any number.

    Raises:
        TooManyValues: it has more.
    """
    # No byte is more than one value, so most messages need no count.
    if most and len(body) > most:
        with suppress(IndexError):
            _count(body, 0, len(body), kind, 0, most)


def _count(body: bytes, at: int, end: int, kind: Descriptor, count: int, most: int) -> int:
    """Count on, from one place to another. The loop is short: it may have a million turns."""
    fields = _fields(kind)
    while at < end:
        tag = body[at]
        at += 1
        if tag > _LAST:
            tag, at = _number(body, at - 1)
        wire = tag & 7
        count += 1
        if wire == _BYTES:
            size = body[at]
            at += 1
            if size > _LAST:
                size, at = _number(body, at - 1)
            field = fields.get(tag >> 3)
            if field is not None:
                ends = min(at + size, end)
                if isinstance(field, Descriptor):
                    count = _count(body, at, ends, field, count + 1, most)
                else:
                    count += max(0, _packed(body, at, ends, field) - 1)
            at += size
        elif wire == _VARINT:
            _, at = _number(body, at)
        elif wire == _FIXED64:
            at += 8
        elif wire == _FIXED32:
            at += 4
        if count > most:
            raise TooManyValues(count, most)
    return count


def _number(body: bytes, at: int) -> tuple[int, int]:
    """Read a varint, and return it with where it ends."""
    number = shift = 0
    while (byte := body[at]) > _LAST:
        number |= (byte & _LAST) << shift
        at += 1
        shift += 7
        if shift > _LONGEST_BITS:
            raise IndexError
    return number | byte << shift, at + 1


def _packed(body: bytes, at: int, end: int, width: int) -> int:
    """Count packed numbers of so many bytes each; 0: varints."""
    if width:
        return (end - at) // width
    # The last byte of each is the one without the highest bit.
    return int(np.count_nonzero(np.frombuffer(body, np.int8, end - at, at) >= 0))


@cache
def _fields(kind: Descriptor) -> Mapping[int, Descriptor | int]:
    """Return the messages and numbers of a message by field; what else it has is one value."""
    return {
        field.number: field.message_type or _WIDTHS.get(field.type, 0)
        for field in kind.fields
        if field.type not in _ONE_VALUE
    }
