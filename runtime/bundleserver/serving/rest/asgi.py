"""ASGI's types, and the path of a request."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from functools import lru_cache
from urllib.parse import unquote

Message = MutableMapping[str, object]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[Message, Receive, Send], Awaitable[None]]

_LONGEST_KNOWN_PATH = 512
_TRACE_CONTEXT = (b"traceparent", b"tracestate")


def headers_of(pairs: Sequence[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Return headers by name: of those that are repeated the last one.

    Those of a trace are joined, as W3C has it for its state; that makes its parent not valid.
    """
    headers = dict(pairs)
    if len(headers) < len(pairs):
        for name in _TRACE_CONTEXT:
            if name in headers:
                headers[name] = b",".join(value for found, value in pairs if found == name)
    return headers


def segments_of(raw_path: bytes) -> tuple[str, ...]:
    """Split a raw path into its decoded segments."""
    # Long paths, which are none of our routes, are not cached.
    return (_known_segments if len(raw_path) <= _LONGEST_KNOWN_PATH else _segments)(raw_path)


def _segments(raw_path: bytes) -> tuple[str, ...]:
    path = raw_path.partition(b"?")[0].decode("latin-1").strip("/")
    # Split before decoding, so that an encoded slash stays part of a name.
    return tuple(unquote(part) for part in path.split("/")) if path else ()


_known_segments = lru_cache(maxsize=256)(_segments)


def is_repository(segments: tuple[str, ...]) -> bool:
    """Tell whether a path is one of the repository's: its index, loads and unloads."""
    return segments[1:2] == ("repository",)
