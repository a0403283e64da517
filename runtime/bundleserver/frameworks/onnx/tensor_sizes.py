"""What a tensor in an ONNX file says of itself, compared with the values that it has."""

from __future__ import annotations

from math import prod
from typing import NamedTuple

from bundleserver.frameworks.onnx.wire import (
    BYTES,
    FIXED32,
    FIXED64,
    VARINT,
    Field,
    Malformed,
    Wire,
    expect,
    signed,
)


class Datatype(NamedTuple):
    """One of ONNX's datatypes: the field of its values, and its bits in raw data."""

    name: str
    field: int
    bits: int


_FLOATS, _INT32S, _STRINGS, _INT64S, _DOUBLES, _UINT64S = 4, 5, 6, 7, 10, 11

DATATYPES = {
    1: Datatype("float", _FLOATS, 32),
    2: Datatype("uint8", _INT32S, 8),
    3: Datatype("int8", _INT32S, 8),
    4: Datatype("uint16", _INT32S, 16),
    5: Datatype("int16", _INT32S, 16),
    6: Datatype("int32", _INT32S, 32),
    7: Datatype("int64", _INT64S, 64),
    8: Datatype("string", _STRINGS, 0),
    9: Datatype("bool", _INT32S, 8),
    10: Datatype("float16", _INT32S, 16),
    11: Datatype("double", _DOUBLES, 64),
    12: Datatype("uint32", _UINT64S, 32),
    13: Datatype("uint64", _UINT64S, 64),
    14: Datatype("complex64", _FLOATS, 64),
    15: Datatype("complex128", _DOUBLES, 128),
    16: Datatype("bfloat16", _INT32S, 16),
    17: Datatype("float8e4m3fn", _INT32S, 8),
    18: Datatype("float8e4m3fnuz", _INT32S, 8),
    19: Datatype("float8e5m2", _INT32S, 8),
    20: Datatype("float8e5m2fnuz", _INT32S, 8),
    21: Datatype("uint4", _INT32S, 4),
    22: Datatype("int4", _INT32S, 4),
    23: Datatype("float4e2m1", _INT32S, 4),
    24: Datatype("float8e8m0", _INT32S, 8),
    25: Datatype("uint2", _INT32S, 2),
    26: Datatype("int2", _INT32S, 2),
}
"""By ONNX's number."""

_WIRES = {
    _FLOATS: FIXED32,
    _INT32S: VARINT,
    _STRINGS: BYTES,
    _INT64S: VARINT,
    _DOUBLES: FIXED64,
    _UINT64S: VARINT,
}
_BYTES_OF = {FIXED32: 4, FIXED64: 8}
_RAW = 9
_EXTERNAL = 1
MOST_DIMENSIONS = 64


def check_tensor(wire: Wire, whole: Field) -> str:
    """Compare a tensor's dimensions with its values; return its name.

    Raises:
        Malformed: they differ, a dimension is negative, or the values are in another file.
    """
    expect(whole, BYTES)
    name, datatype, dims = "", 0, []
    counts: dict[int, int] = {}
    raw: Field | None = None
    for each in wire.fields(whole.start, whole.end, tuple(_WIRES)):
        if each.number == 1:
            dims += _dims(wire, each)
        elif each.number == 2:
            expect(each, VARINT)
            datatype = each.value
        elif each.number == 8:
            name = wire.text(each)
        elif each.number == _RAW:
            expect(each, BYTES)
            raw = each
        elif each.number in _WIRES:
            counts[each.number] = counts.get(each.number, 0) + _count(wire, each)
        elif each.number == 13 or (each.number == 14 and each.value == _EXTERNAL):
            raise Malformed(
                f"tensor '{name[:100]}' has its values in another file, which is not read; save "
                "the model in one file: onnx.save(model, path, save_as_external_data=False)"
            )
        if len(dims) > MOST_DIMENSIONS:
            raise Malformed(f"tensor '{name[:100]}' has more than {MOST_DIMENSIONS} dimensions")
    _compare(f"tensor '{name[:100]}'", datatype, dims, raw, counts)
    return name


def _compare(
    what: str, number: int, dims: list[int], raw: Field | None, counts: dict[int, int]
) -> None:
    known = DATATYPES.get(number)
    if known is None:
        raise Malformed(f"{what} has the unknown datatype {number}")
    if any(size < 0 for size in dims):
        raise Malformed(f"{what} has the dimensions {dims}; expected none below 0")
    values = prod(dims)
    others = [field for field in counts if field != known.field]
    if others or (raw is not None and counts):
        raise Malformed(f"{what} of {known.name} has values of several datatypes")
    if raw is not None and known.bits:
        wanted, came, unit = -(-values * known.bits // 8), raw.end - raw.start, "bytes"
    else:
        parts = {"complex64": 2, "complex128": 2}.get(known.name, 1)
        packed = known.bits / 8 if 0 < known.bits < 8 else parts
        wanted, came, unit = -int(-values * packed // 1), counts.get(known.field, 0), "values"
    if wanted != came:
        raise Malformed(f"{what} has {came} {unit}; expected {wanted} for {dims} of {known.name}")


def _dims(wire: Wire, each: Field) -> list[int]:
    if each.wire == VARINT:
        return [signed(each.value)]
    expect(each, BYTES)
    sizes: list[int] = []
    at = each.start
    while at < each.end and len(sizes) <= MOST_DIMENSIONS:
        value, at = wire.varint(at, each.end)
        sizes.append(signed(value))
    return sizes


def _count(wire: Wire, each: Field) -> int:
    """Count the values of a field, packed or not."""
    single = _WIRES[each.number]
    if each.wire == single:
        return each.entries
    expect(each, BYTES, single)
    if each.entries > 1:
        raise Malformed(f"byte {each.start} has a tensor whose values are in several pieces")
    size = each.end - each.start
    if single in _BYTES_OF:
        if size % _BYTES_OF[single]:
            raise Malformed(f"byte {each.start} has half a number")
        return size // _BYTES_OF[single]
    return wire.varints(each)
