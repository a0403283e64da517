"""Spans in the bytes of OTLP's message, most of what a sampled request costs.

OpenTelemetry's own objects take ten times as long. The numbers are the fields of ``trace.proto``,
which are never renumbered: ``TracesData.resource_spans`` 1, ``ResourceSpans.resource`` 1 and
``scope_spans`` 2, ``ScopeSpans.scope`` 1 and ``spans`` 2, and those of ``Span`` below.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from functools import lru_cache

from bundleserver.documents.printable import printable
from bundleserver.spans import Span, Value

LONGEST = 1024
"""Characters of an attribute, a name or a message."""

_TRACE_ID, _SPAN_ID, _PARENT_ID = b"\x0a\x10", b"\x12\x08", b"\x22\x08"
_STATE, _NAME, _ATTRIBUTE, _EVENT, _LINK, _STATUS = 3, 5, 9, 11, 13, 15
_KINDS = {"internal": b"\x30\x01", "server": b"\x30\x02"}
_times = struct.Struct("<BQBQ").pack
_START, _END = 0x39, 0x41
_flags = struct.Struct("<BBI").pack
_FLAGS = (0x85, 0x01)
_KNOWS_REMOTE, _REMOTE = 0x100, 0x200
"""Flags of a span: whether it is said where its parent is, and whether that is elsewhere."""
_HERE = _flags(*_FLAGS, _KNOWS_REMOTE)
_ELSEWHERE = _flags(*_FLAGS, _KNOWS_REMOTE | _REMOTE)
_double = struct.Struct("<Bd").pack


def encode(spans: Sequence[Span], resource: bytes, scope: bytes) -> bytes:
    """Return the message of spans that have ended.

    Args:
        spans: the spans.
        resource: the message of what they come from; see ``encode_attributes``.
        scope: the message of the library that made them; see ``encode_scope``.
    """
    found = b"".join([_field(2, _encode_span(span)) for span in spans])
    scope_spans = _field(1, scope) + found
    return _field(1, _field(1, resource) + _field(2, scope_spans))


def encode_attributes(attributes: Mapping[str, Value], field: int = 1) -> bytes:
    """Return attributes as a repeated field; as field 1 they are a ``Resource``."""
    return b"".join([_field(field, _key_value(name, value)) for name, value in attributes.items()])


def encode_scope(name: str, version: str) -> bytes:
    """Return the message ``InstrumentationScope``."""
    return _field(1, name.encode()) + _field(2, version.encode())


def facts(span: Span) -> dict[str, Value]:
    """Return the attributes of a span, with the class of its error."""
    if span.error is None:
        return span.attributes
    return {"error.type": span.error[0], **span.attributes}


def text(given: str) -> str:
    """Return a text that a message can have: from requests and files it may be anything."""
    if len(given) <= LONGEST and given.isprintable():
        return given
    return printable(given, LONGEST)[:LONGEST]


def _encode_span(span: Span) -> bytes:
    parts = [
        _TRACE_ID,
        span.trace_id.to_bytes(16, "big"),
        _SPAN_ID,
        span.span_id.to_bytes(8, "big"),
    ]
    if span.parent_id:
        parts += _PARENT_ID, span.parent_id.to_bytes(8, "big")
    if span.state:
        parts.append(_field(_STATE, span.state.encode()))
    parts += _named(span.name, span.kind), _times(_START, span.started_ns, _END, span.ended_ns)
    parts += [_attribute(name, value) for name, value in facts(span).items()]
    for trace_id, span_id in span.links:
        link = _TRACE_ID + trace_id.to_bytes(16, "big") + _SPAN_ID + span_id.to_bytes(8, "big")
        parts.append(_field(_LINK, link))
    if span.error is not None:
        parts.append(_failure(span, *span.error))
    parts.append(_ELSEWHERE if span.parent_id and span.kind == "server" else _HERE)
    return b"".join(parts)


@lru_cache(256)
def _named(name: str, kind: str) -> bytes:
    return _field(_NAME, text(name).encode()) + _KINDS[kind]


# Most attributes are those of the request before.
@lru_cache(1024, typed=True)
def _attribute(name: str, value: Value) -> bytes:
    return _field(_ATTRIBUTE, _key_value(name, value))


def _key_value(name: str, value: Value) -> bytes:
    """Return the message ``KeyValue``, whose value is an ``AnyValue``."""
    if isinstance(value, bool):
        encoded = b"\x10" + _varint(value)
    elif isinstance(value, int):
        encoded = b"\x18" + _varint(value & (1 << 64) - 1)
    elif isinstance(value, float):
        encoded = _double(0x21, value)
    else:
        encoded = _field(1, text(value).encode())
    return _field(1, name.encode()) + _field(2, encoded)


def _failure(span: Span, kind: str, said: str) -> bytes:
    """Return the event of an error and, where the server failed, the status."""
    said = text(said)
    told = {"exception.type": kind, "exception.message": said}
    event = struct.pack("<BQ", 0x09, span.ended_ns) + _field(2, b"exception")
    event += encode_attributes(told, 3)
    status = _field(2, said.encode()) + b"\x18\x02"
    return _field(_EVENT, event) + (_field(_STATUS, status) if span.is_failed else b"")


def _field(number: int, message: bytes) -> bytes:
    """Return a field with a length."""
    size = len(message)
    if size < 128:
        return bytes((number << 3 | 2, size)) + message
    return bytes((number << 3 | 2,)) + _varint(size) + message


def _varint(number: int) -> bytes:
    written = bytearray()
    while number > 127:
        written.append(number & 127 | 128)
        number >>= 7
    written.append(number)
    return bytes(written)
