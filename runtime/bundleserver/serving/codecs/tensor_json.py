"""Tensor data in JSON: lists to arrays and back, without a Python loop over numbers."""

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
"""What numbers of each datatype are packed as: the codes of ``struct`` and of numpy alike."""

_KINDS: Mapping[str, str] = MappingProxyType({"f": "d", "i": "i", "u": "u"})
"""What ``simd_numbers`` calls the kinds of number that numpy has."""

_FEW = 256


def array_from_json(data: object, datatype: str, shape: tuple[int, ...], name: str) -> Array:
    """Turn a V2 input's ``data``, flat or nested exactly as its shape, into an array.

    ``null`` is NaN in a floating-point tensor; nothing else is converted from one kind to another.

    Raises:
        InvalidInput: the data differ from the shape, or a value does not fit the datatype.
        NotPlain: a large body's data, which have to be read as a whole to say what is wrong.
    """
    if not isinstance(data, list):
        if isinstance(data, Numbers):
            return _array_of_numbers(data, datatype, shape, name)
        raise InvalidInput(f"input '{name}' has data that is {kind_of(data)}; it should be a list")
    flat = _flatten(data, shape, name) if data and isinstance(data[0], list) else data
    if datatype in _CODES:
        values = _numbers(flat, datatype, name)
    elif datatype == "BOOL":
        _check_kinds(flat, name, datatype)
        values = np.array(flat, dtype=np.bool_)
    else:
        _check_kinds(flat, name, datatype)
        values = np.fromiter(flat, dtype=object, count=len(flat))
    return shaped(values, shape, name)


def shaped(values: Array, shape: tuple[int, ...], name: str) -> Array:
    """Give flat values their shape.

    Raises:
        InvalidInput: the number of values is not the product of the shape.
    """
    wanted = math.prod(shape)
    if values.size != wanted:
        raise _wrong_length(name, values.size, shape)
    try:
        return values.reshape(shape)
    except (ValueError, OverflowError) as error:
        raise InvalidInput(f"input '{name}' has a shape that no array can have") from error


def kind_of(value: object) -> str:
    """Name a JSON value for a message without printing more of it than helps."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return f"the number {value}"
    if isinstance(value, str):
        return f"the text '{value if len(value) <= 40 else value[:40] + '…'}'"
    return "a list" if isinstance(value, list) else "an object"


def v2_data(values: Array, name: str) -> Array | list[str]:
    """Flatten an output for a V2 JSON answer: an array that orjson prints, or texts.

    Raises:
        InvalidInput: the bytes of a BYTES output are not UTF-8, which JSON cannot carry.
    """
    flat = values.reshape(-1)
    if flat.dtype.kind in "OSUTMm":
        return [_text(value, name) for value in _objects(flat)]
    if flat.dtype.kind == "f":
        # A float32 printed in its own shortest form reads as another number in double precision.
        return np.ascontiguousarray(flat, dtype=np.float64)
    return np.ascontiguousarray(flat, dtype=flat.dtype.newbyteorder("="))


def plain_values(values: Array, name: str) -> object:
    """Turn an output into nested lists of plain values, as V1 answers them.

    Raises:
        InvalidInput: bytes that are not UTF-8, which JSON cannot carry.
    """
    if values.dtype.kind not in "OSUTMm":
        return values.tolist()
    plain = [
        _text(value, name) if isinstance(value, bytes) else value for value in _objects(values)
    ]
    return np.fromiter(plain, dtype=object, count=len(plain)).reshape(values.shape).tolist()


def _array_of_numbers(data: Numbers, datatype: str, shape: tuple[int, ...], name: str) -> Array:
    values = data.read(_KINDS.get(NUMPY_DTYPES[datatype].kind, ""))
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
            raise _not_nested(name, shape)
        lengths = set(map(len, level)) if depth else {len(level)}  # type: ignore[arg-type]  # lists, as checked above
        if lengths != {size}:
            raise _odd_lengths(name, lengths, size, shape)
        if depth:
            level = list(chain.from_iterable(level))  # type: ignore[arg-type]  # lists, as checked above
    return level


def _numbers(flat: list[object], datatype: str, name: str) -> Array:
    """Pack numbers into an array, which checks each: a third of what numpy's own way takes."""
    code = _CODES[datatype]
    values: Array = np.empty(len(flat), code)
    try:
        struct.pack_into(f"{len(flat)}{code}", values.data, 0, *flat)
    except struct.error as error:
        _check_kinds(flat, name, datatype)
        if code != "d":
            raise _out_of_range(flat, datatype, name) from error
        values = np.array([math.nan if value is None else value for value in flat], np.float64)
    # True and false count as 1 and 0. Python looks at a few values sooner than numpy begins.
    may_be_bool = len(flat) <= _FEW or ((values == 0) | (values == 1)).any()
    if may_be_bool and bool in set(map(type, flat)):
        _check_kinds(flat, name, datatype)
    return values if values.dtype == NUMPY_DTYPES[datatype] else _narrowed(values, datatype, name)


def _narrowed(values: Array, datatype: str, name: str) -> Array:
    """Turn numbers of 64 bits into those of a datatype of the same kind."""
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
        raise InvalidInput(f"input '{name}' has the value {odd}, which is too large for {datatype}")
    return narrow


_WANTED: Mapping[str, tuple[tuple[type, ...], str]] = MappingProxyType(
    {
        "b": ((bool,), "true or false"),
        "O": ((str,), "text"),
        "i": ((int,), "whole numbers"),
        "u": ((int,), "whole numbers"),
        "f": ((int, float, type(None)), "numbers or null"),
    }
)
"""What JSON values each of numpy's kinds takes, and how a message says so."""


def _check_kinds(flat: Sequence[object], name: str, datatype: str) -> None:
    allowed, wanted = _WANTED[NUMPY_DTYPES[datatype].kind]
    if set(map(type, flat)) <= set(allowed):
        return
    position, odd = next((i, v) for i, v in enumerate(flat) if type(v) not in allowed)
    raise InvalidInput(
        f"input '{name}' has {kind_of(odd)} at position {position} of its data; {datatype} takes "
        f"{wanted}"
    )


def _out_of_range(flat: list[object], datatype: str, name: str) -> InvalidInput:
    limits = np.iinfo(datatype.lower())
    odd = next(v for v in flat if isinstance(v, int) and not limits.min <= v <= limits.max)
    return InvalidInput(
        f"input '{name}' has the value {odd}; {datatype} holds {limits.min} to {limits.max}"
    )


def _not_nested(name: str, shape: tuple[int, ...]) -> InvalidInput:
    return InvalidInput(f"input '{name}' has data that is not nested as its shape {list(shape)}")


def _odd_lengths(name: str, lengths: set[int], size: int, shape: tuple[int, ...]) -> InvalidInput:
    listed = ", ".join(str(length) for length in sorted(lengths)[:5])
    return InvalidInput(
        f"input '{name}' has lists of length {listed} where its shape {list(shape)} says {size}"
    )


def _wrong_length(name: str, came: int, shape: tuple[int, ...]) -> InvalidInput:
    return InvalidInput(
        f"input '{name}' has {came} values; its shape {list(shape)} takes {math.prod(shape)}"
    )


def _objects(values: Array) -> list[object]:
    """List a text, object or date array's elements in order; dates as ISO 8601."""
    flat = np.ravel(values)
    if flat.dtype.kind in "Mm":
        flat = flat.astype(str)
    listed: list[object] = flat.tolist()
    return listed


def _text(value: object, name: str) -> str:
    if not isinstance(value, bytes):
        return str(value)
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise InvalidInput(
            f"output '{name}' holds bytes that are not UTF-8, which JSON cannot carry; ask for it "
            "with the parameter 'binary_data'"
        ) from error
