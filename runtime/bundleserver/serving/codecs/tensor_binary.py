"""Tensor data as raw bytes: the protocol's binary extension over REST, and gRPC's raw contents.

Numbers are little-endian in row-major order, BOOL is one byte each, and every BYTES element follows
its length, an unsigned little-endian integer of four bytes.
"""

from __future__ import annotations

import math
import struct

import numpy as np

from bundleserver.errors import InvalidInput, TooManyValues
from bundleserver.serving.codecs.tensor_form import elements_of, string_or_bytes
from bundleserver.serving.codecs.tensor_json import shaped
from bundleserver.tensors import NUMPY_DTYPES, Array, datatype_of

_LENGTH = struct.Struct("<I")


class Elements:
    """The BYTES elements of one request, of which each becomes an object."""

    def __init__(self, most: int = 0) -> None:
        """Allow so many; 0: any number."""
        self._most = most
        self._count = 0

    def expect(self, count: int) -> None:
        """Count elements before they are decoded.

        Raises:
            TooManyValues: the request has more than are allowed.
        """
        self._count += count
        if 0 < self._most < self._count:
            raise TooManyValues(self._count, self._most)


def array_from_bytes(
    data: bytes | memoryview,
    datatype: str,
    shape: tuple[int, ...],
    name: str,
    elements: Elements | None = None,
) -> Array:
    """Decode an input's raw bytes into a writable array.

    Raises:
        InvalidInput: the size differs from that of datatype and shape, or an element is truncated.
        TooManyValues: the request's ``elements`` are too many.
    """
    if datatype == "BYTES":
        wanted = math.prod(shape)
        if elements is not None:
            elements.expect(min(wanted, len(data) // _LENGTH.size))
        return shaped(_decode_elements(data, name, wanted), shape, name)
    dtype = NUMPY_DTYPES[datatype].newbyteorder("<")
    wanted = math.prod(shape) * dtype.itemsize
    if len(data) != wanted:
        raise InvalidInput(
            f"input '{name}' has {len(data)} bytes; expected {wanted} for {datatype} of shape "
            f"{list(shape)}"
        )
    if datatype == "BOOL" and len(data) and np.frombuffer(data, np.uint8).max() > 1:
        raise InvalidInput(f"input '{name}' is not valid BOOL data; expected bytes 0 and 1")
    # A copy: a slice of a request body is seldom aligned, and never writable.
    values = np.frombuffer(data, dtype).astype(NUMPY_DTYPES[datatype], copy=True)
    return shaped(values, shape, name)


def bytes_from_array(values: Array) -> bytes:
    """Encode an output as raw bytes."""
    if datatype_of(values) == "BYTES":
        return b"".join(_LENGTH.pack(len(one)) + one for one in elements_of(values))
    return values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes(order="C")


def _decode_elements(data: bytes | memoryview, name: str, wanted: int) -> Array:
    elements: list[str | bytes] = []
    start = 0
    while start < len(data):
        content = start + _LENGTH.size
        end = content + _LENGTH.unpack_from(data, start)[0] if content <= len(data) else content
        if end > len(data):
            raise InvalidInput(
                f"input '{name}' is truncated in element {len(elements)}; expected for each BYTES "
                "element its length in four bytes, little-endian, and then as many bytes"
            )
        if len(elements) == wanted:
            raise InvalidInput(f"input '{name}' has more than the {wanted} elements of its shape")
        elements.append(string_or_bytes(bytes(data[content:end])))
        start = end
    return np.fromiter(elements, dtype=object, count=len(elements))
