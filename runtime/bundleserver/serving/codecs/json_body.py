"""JSON documents of the REST protocols, decoded and encoded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TypeVar

import numpy as np
import orjson

from bundleserver.errors import InvalidInput
from bundleserver.serving.codecs import simd_numbers
from bundleserver.serving.codecs.json_pieces import LONG_BYTES, decode_apart
from bundleserver.serving.codecs.structure import check_values
from bundleserver.serving.codecs.tensor_json import kind_of

T = TypeVar("T")

PIECE_VALUES = 2**14
"""So many values are encoded without a pause: one or two milliseconds' work."""


def _plain(value: object) -> object:
    """Convert what orjson cannot encode by itself."""
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


encode: Callable[[object], bytes] = partial(
    orjson.dumps, default=_plain, option=orjson.OPT_SERIALIZE_NUMPY
)
"""Encode a document; NaN and infinities become ``null``, numpy arrays become JSON arrays.

Arrays that are contiguous and in native byte order are encoded directly.
"""


def decode_object(body: bytes | memoryview, most_values: int = 0) -> dict[str, object]:
    """Decode a request body that must be one JSON object.

    Raises:
        InvalidInput: it is empty, not valid JSON, or another kind of value.
        TooManyValues: it has more values than that, unless it is 0.
    """
    if not body:
        raise InvalidInput("the request body is empty; expected a JSON object")
    # No byte counts more than twice, so most documents need no count.
    if 0 < most_values <= 2 * len(body):
        check_values(body, most_values)
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidInput(f"the request body is not valid JSON: {error}") from error
    if not isinstance(document, dict):
        raise InvalidInput(f"the request body is {kind_of(document)}; expected a JSON object")
    return document


def decode(
    body: bytes, decode_document: Callable[[dict[str, object]], T], most_values: int = 0
) -> T:
    """Decode a request body that must be one JSON object, long arrays of numbers by simdjson.

    Raises:
        InvalidInput: it is not a JSON object, or its document is refused.
        TooManyValues: it has more than ``most_values`` that simdjson does not decode.
    """
    is_long = len(body) > LONG_BYTES and simd_numbers.IS_INSTALLED
    decoded = None
    if is_long:
        decoded = decode_apart(body, decode_document, most_values=most_values)
    return decode_document(decode_object(body, most_values)) if decoded is None else decoded


def encode_array(length: int, step: int, part: Callable[[slice], object]) -> bytes:
    """Encode a long array part by part; other threads run in between."""
    parts = [encode(part(slice(start, start + step)))[1:-1] for start in range(0, length, step)]
    return b"".join((b"[", b",".join(parts), b"]"))


def optional_object(document: Mapping[str, object], key: str, where: str) -> dict[str, object]:
    """Return a member that must be an object; empty if it is ``null`` or absent.

    Raises:
        InvalidInput: it is anything else.
    """
    value = document.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidInput(f"{where}'{key}' is {kind_of(value)}; expected an object")
    return value


def optional_bool(document: Mapping[str, object], key: str, where: str) -> bool | None:
    """Return a member that must be a boolean; None if it is ``null`` or absent.

    Raises:
        InvalidInput: it is anything else.
    """
    value = document.get(key)
    if value is None or isinstance(value, bool):
        return value
    raise InvalidInput(f"{where}'{key}' is {kind_of(value)}; expected a boolean")
