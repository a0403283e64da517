"""Tensor data as raw bytes: the protocol's binary extension over REST, and gRPC's raw contents.

Numbers are little-endian in row-major order, BOOL is one byte each, and every BYTES element stands
behind its length, an unsigned little-endian integer of four bytes.
"""

from __future__ import annotations

import math
import struct

import numpy as np

from bundleserver.errors import InvalidInput
from bundleserver.serving.codecs.tensor_form import text_or_bytes
from bundleserver.serving.codecs.tensor_json import shaped
from bundleserver.tensors import NUMPY_DTYPES, Array, datatype_of

_LENGTH = struct.Struct("<I")


def array_from_bytes(
    data: bytes | memoryview, datatype: str, shape: tuple[int, ...], name: str
) -> Array:
    """Turn an input's raw bytes into an array that may be written to.

    Raises:
        InvalidInput: the size differs from what datatype and shape take, or an element is cut off.
    """
    if datatype == "BYTES":
        return shaped(_texts_from_bytes(data, name), shape, name)
    dtype = NUMPY_DTYPES[datatype].newbyteorder("<")
    wanted = math.prod(shape) * dtype.itemsize
    if len(data) != wanted:
        raise InvalidInput(
            f"input '{name}' has {len(data)} bytes; {datatype} of shape {list(shape)} takes "
            f"{wanted}"
        )
    if datatype == "BOOL" and len(data) and np.frombuffer(data, np.uint8).max() > 1:
        raise InvalidInput(f"input '{name}' has a byte other than 0 and 1, which BOOL takes")
    # A copy: a slice of a request body is seldom aligned, and never writable.
    values = np.frombuffer(data, dtype).astype(NUMPY_DTYPES[datatype], copy=True)
    return shaped(values, shape, name)


def bytes_from_array(values: Array) -> bytes:
    """Turn an output into raw bytes."""
    if datatype_of(values) == "BYTES":
        return b"".join(_prefixed(value) for value in _objects(values))
    return values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes(order="C")


def _objects(values: Array) -> list[object]:
    listed: list[object] = (
        (values.astype(str) if values.dtype.kind in "Mm" else values).ravel().tolist()
    )
    return listed


def _prefixed(value: object) -> bytes:
    content = value if isinstance(value, bytes) else str(value).encode()
    return _LENGTH.pack(len(content)) + content


def _texts_from_bytes(data: bytes | memoryview, name: str) -> Array:
    texts: list[str | bytes] = []
    start = 0
    while start < len(data):
        content = start + _LENGTH.size
        if content > len(data):
            raise _cut_off(name, len(texts))
        end = content + _LENGTH.unpack_from(data, start)[0]
        if end > len(data):
            raise _cut_off(name, len(texts))
        texts.append(text_or_bytes(bytes(data[content:end])))
        start = end
    return np.fromiter(texts, dtype=object, count=len(texts))


def _cut_off(name: str, position: int) -> InvalidInput:
    return InvalidInput(
        f"input '{name}' ends inside element {position}; every BYTES element is its length in four "
        "bytes, little-endian, and then as many bytes"
    )
