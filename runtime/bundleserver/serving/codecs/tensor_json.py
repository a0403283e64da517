"""Tensor data in JSON, decoded and encoded without a Python loop over numbers."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from itertools import chain
from types import MappingProxyType

import numpy as np

from bundleserver.errors import InvalidInput
from bundleserver.serving.codecs.json_pieces import NotPlain, Numbers
from bundleserver.tensors import NUMPY_DTYPES, Array

_CODES: Mapping[str, str] = MappingProxyType(
    {
        "UINT8": "B",
        "UINT16": "H",
        "UINT32": "I",
        "UINT64": "Q",
        "INT8": "b",
        "INT16": "h",
        "INT32": "i",
        "INT64": "q",
        "FP16": "d",
        "FP32": "d",
        "FP64": "d",
    }
)
"""What numbers of each datatype are packed as: codes of both ``struct`` and numpy."""

_KINDS: Mapping[str, str] = MappingProxyType({"f": "d", "i": "i", "u": "u"})
"""The kinds of ``simd_numbers`` by those of numpy."""

_FEW = 256


def array_from_json(data: object, datatype: str, shape: tuple[int, ...], name: str) -> Array:
    """Decode a V2 input's ``data``, flat or nested exactly as its shape, into an array.

    ``null`` is NaN in a floating-point tensor and None in a BYTES tensor, where a table may have
    gaps; nothing else is converted from one kind to another.

    Raises:
        InvalidInput: the data differ from the shape, or a value is not valid for the datatype.
        NotPlain: a large body's data must be decoded as a whole to report the error.
    """
    if not isinstance(data, list):
        if isinstance(data, Numbers):
            return _array_of_numbers(data, datatype, shape, name)
        raise InvalidInput(f"input '{name}': 'data' is {kind_of(data)}; expected an array")
    flat = _flatten(data, shape, name) if data and isinstance(data[0], list) else data
    if datatype in _CODES:
        return shaped(_numbers(flat, datatype, name), shape, name)
    _check_kinds(flat, name, datatype)
    return shaped(np.fromiter(flat, NUMPY_DTYPES[datatype], len(flat)), shape, name)


def shaped(values: Array, shape: tuple[int, ...], name: str) -> Array:
    """Reshape flat values.

    Raises:
        InvalidInput: the number of values is not the product of the shape.
    """
    wanted = math.prod(shape)
    if values.size != wanted:
        raise InvalidInput(
            f"input '{name}' has {values.size} values; expected {wanted} for its shape "
            f"{list(shape)}"
        )
    try:
        return values.reshape(shape)
    except (ValueError, OverflowError) as error:
        raise InvalidInput(f"input '{name}' has an invalid shape: too large for numpy") from error


def came(document: Mapping[str, object], key: str) -> str:
    """Describe the value of a key, for a message."""
    value = document.get(key)
    if key not in document:
        return "is missing"
    return "is empty" if value in ([], "") else f"is {kind_of(value)}"


def kind_of(value: object) -> str:
    """Describe a JSON value for a message; long strings are truncated."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return f"the number {value}"
    if isinstance(value, str):
        return f"the string '{value if len(value) <= 40 else value[:40] + '…'}'"
    return "an array" if isinstance(value, list) else "an object"


def v2_data(values: Array, name: str) -> Array | list[str]:
    """Flatten an output for a V2 JSON response: an array that orjson encodes, or strings.

    Raises:
        InvalidInput: the bytes of a BYTES output are not UTF-8, as JSON requires.
    """
    flat = values.reshape(-1)
    if flat.dtype.kind in "OSUTMm":
        return [_string(value, name) for value in flat_objects(flat)]
    if flat.dtype.kind == "f":
        # The shortest form of a float32 is another number when decoded in double precision.
        return np.ascontiguousarray(flat, dtype=np.float64)
    return np.ascontiguousarray(flat, dtype=flat.dtype.newbyteorder("="))


def plain_values(values: Array, name: str) -> object:
    """Convert an output to nested lists of plain values, as in V1 responses.

    Raises:
        InvalidInput: bytes are not UTF-8, as JSON requires.
    """
    if values.dtype.kind not in "OSUTMm":
        return values.tolist()
    plain = [
        _string(value, name) if isinstance(value, bytes) else value
        for value in flat_objects(values)
    ]
    return np.fromiter(plain, dtype=object, count=len(plain)).reshape(values.shape).tolist()


def _array_of_numbers(data: Numbers, datatype: str, shape: tuple[int, ...], name: str) -> Array:
    values = data.decode(_KINDS.get(NUMPY_DTYPES[datatype].kind, ""))
    if values.ndim > 1 and values.shape != shape:
        for length, size in zip(values.shape, shape, strict=False):
            if length != size:
                raise _odd_lengths(name, {length}, size, shape)
        raise NotPlain
    return shaped(_narrowed(values, datatype, name), shape, name)


def _flatten(data: list[object], shape: tuple[int, ...], name: str) -> list[object]:
    """Flatten nested data level by level; they must match the shape."""
    level = data
    for depth, size in enumerate(shape):
        if depth and set(map(type, level)) != {list}:
            raise InvalidInput(
                f"input '{name}' has data that is not nested as its shape {list(shape)}"
            )
        lengths = set(map(len, level)) if depth else {len(level)}  # type: ignore[arg-type]  # lists, as checked above
        if lengths != {size}:
            raise _odd_lengths(name, lengths, size, shape)
        if depth:
            level = list(chain.from_iterable(level))  # type: ignore[arg-type]  # lists, as checked above
    return level


def _numbers(flat: list[object], datatype: str, name: str) -> Array:
    """Pack numbers into an array, which checks each, in a third of numpy's own time."""
    code = _CODES[datatype]
    values: Array = np.empty(len(flat), code)
    try:
        struct.pack_into(f"{len(flat)}{code}", values.data, 0, *flat)
    except struct.error as error:
        _check_kinds(flat, name, datatype)
        if code != "d":
            raise _out_of_range(flat, datatype, name) from error
        values = np.array([math.nan if value is None else value for value in flat], np.float64)
    # Booleans count as 1 and 0. For a few values Python is faster than numpy.
    may_be_bool = len(flat) <= _FEW or ((values == 0) | (values == 1)).any()
    if may_be_bool and bool in set(map(type, flat)):
        _check_kinds(flat, name, datatype)
    return values if values.dtype == NUMPY_DTYPES[datatype] else _narrowed(values, datatype, name)


def _narrowed(values: Array, datatype: str, name: str) -> Array:
    """Convert numbers of 64 bits to a datatype of the same kind."""
    target = NUMPY_DTYPES[datatype]
    if target.kind in "iu":
        limits = np.iinfo(datatype.lower())
        if values.min() < limits.min or values.max() > limits.max:
            raise NotPlain
        return values.astype(target, copy=False)
    with np.errstate(over="ignore"):
        narrow = values.astype(target, copy=False)
    if np.isinf(narrow).any():
        odd = values[np.isinf(narrow)][0]
        raise InvalidInput(
            f"input '{name}' has the value {odd}, which is out of range of {datatype}"
        )
    return narrow


_WANTED: Mapping[str, tuple[tuple[type, ...], str]] = MappingProxyType(
    {
        "b": ((bool,), "booleans"),
        "O": ((str, type(None)), "strings or null"),
        "i": ((int,), "integers"),
        "u": ((int,), "integers"),
        "f": ((int, float, type(None)), "numbers or null"),
    }
)
"""The JSON values of each of numpy's kinds, and their name in messages."""


def _check_kinds(flat: Sequence[object], name: str, datatype: str) -> None:
    allowed, wanted = _WANTED[NUMPY_DTYPES[datatype].kind]
    if set(map(type, flat)) <= set(allowed):
        return
    position, odd = next((i, v) for i, v in enumerate(flat) if type(v) not in allowed)
    raise InvalidInput(
        f"input '{name}' has {kind_of(odd)} at position {position} of its data; expected {wanted} "
        f"for {datatype}"
    )


def _out_of_range(flat: list[object], datatype: str, name: str) -> InvalidInput:
    limits = np.iinfo(datatype.lower())
    odd = next(v for v in flat if isinstance(v, int) and not limits.min <= v <= limits.max)
    return out_of_range(name, odd, datatype)


def out_of_range(name: str, value: object, datatype: str) -> InvalidInput:
    """Make the error for an integer outside its datatype."""
    limits = np.iinfo(datatype.lower())
    return InvalidInput(
        f"input '{name}' has the value {value}, which is out of range of {datatype}; expected "
        f"{limits.min} to {limits.max}"
    )


def _odd_lengths(name: str, lengths: set[int], size: int, shape: tuple[int, ...]) -> InvalidInput:
    listed = ", ".join(str(length) for length in sorted(lengths)[:5])
    return InvalidInput(
        f"input '{name}' has arrays of length {listed}; expected {size} for its shape {list(shape)}"
    )


def flat_objects(values: Array) -> list[object]:
    """List a string, object or date array's elements in order; dates as ISO 8601."""
    flat = np.ravel(values)
    if flat.dtype.kind in "Mm":
        flat = flat.astype(str)
    listed: list[object] = flat.tolist()
    return listed


def _string(value: object, name: str) -> str:
    if not isinstance(value, bytes):
        return str(value)
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise InvalidInput(
            f"output '{name}' has bytes that are not UTF-8, as JSON requires; request it with the "
            "parameter 'binary_data'"
        ) from error
