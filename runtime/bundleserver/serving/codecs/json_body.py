"""JSON documents in and out of the REST protocols."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

import numpy as np
import orjson

from bundleserver.errors import InvalidInput
from bundleserver.serving.codecs import simd_numbers
from bundleserver.serving.codecs.json_pieces import (
    LARGE_BYTES,
    LONG_BYTES,
    PIECE_BYTES,
    decode_apart,
)
from bundleserver.serving.codecs.tensor_json import kind_of

T = TypeVar("T")

PIECE_VALUES = 2**14
"""So many values are printed without a pause: one or two milliseconds' work."""


def read_object(body: bytes | memoryview) -> dict[str, object]:
    """Read a request body that must be one JSON object.

    Raises:
        InvalidInput: it is empty, no JSON, or another kind of value.
    """
    if not body:
        raise InvalidInput("the request body is empty; it should be a JSON object")
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidInput(f"the request body is not valid JSON: {error}") from error
    if not isinstance(document, dict):
        raise InvalidInput(f"the request body is {kind_of(document)}; it should be a JSON object")
    return document


def decode(body: bytes, decode_document: Callable[[dict[str, object]], T]) -> T:
    """Decode a request body that must be one JSON object, long lists of numbers apart from it.

    Raises:
        InvalidInput: it is no JSON object, or its document is refused.
    """
    decoded = None
    if len(body) > LARGE_BYTES:
        decoded = decode_apart(body, decode_document, PIECE_BYTES, PIECE_BYTES)
    elif len(body) > LONG_BYTES and simd_numbers.IS_INSTALLED:
        decoded = decode_apart(body, decode_document, LONG_BYTES, LARGE_BYTES)
    return decode_document(read_object(body)) if decoded is None else decoded


def write(document: object) -> bytes:
    """Print a document; NaN and infinities become ``null``, arrays are printed as lists.

    Arrays must be contiguous and in this machine's byte order to be printed without a detour.
    """
    return orjson.dumps(document, default=_plain, option=orjson.OPT_SERIALIZE_NUMPY)


def write_list(length: int, step: int, part: Callable[[slice], object]) -> bytes:
    """Print a long list part by part as ``write`` would at once; others have turns in between."""
    parts = [write(part(slice(start, start + step)))[1:-1] for start in range(0, length, step)]
    return b"".join((b"[", b",".join(parts), b"]"))


def optional_object(document: Mapping[str, object], key: str, where: str) -> dict[str, object]:
    """Read a member that is an object, ``null`` or absent.

    Raises:
        InvalidInput: it is anything else.
    """
    value = document.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidInput(f"{where}'{key}' is {kind_of(value)}; it should be an object")
    return value


def optional_bool(document: Mapping[str, object], key: str, where: str) -> bool | None:
    """Read a member that is true, false, ``null`` or absent.

    Raises:
        InvalidInput: it is anything else.
    """
    value = document.get(key)
    if value is None or isinstance(value, bool):
        return value
    raise InvalidInput(f"{where}'{key}' is {kind_of(value)}; it should be true or false")


def _plain(value: object) -> object:
    """Say what orjson cannot print by itself."""
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
