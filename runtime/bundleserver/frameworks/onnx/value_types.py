"""The types of a graph's inputs and outputs, and what its messages share while they are read."""

from __future__ import annotations

from dataclasses import dataclass

from bundleserver.frameworks.onnx.tensor_sizes import MOST_DIMENSIONS
from bundleserver.frameworks.onnx.wire import (
    BYTES,
    VARINT,
    Field,
    Malformed,
    Wire,
    expect,
    signed,
)

DEEPEST = 16
"""How deep graphs may be nested in nodes (If, Loop, Scan), and types in types."""

Dimension = int | str | None
"""A size; a name of one that varies; None for one that varies without a name."""


@dataclass(frozen=True)
class ValueType:
    """The type of a value.

    Attributes:
        kind: ``tensor``, ``sequence``, ``map``, or what is not served: ``sparse tensor``,
            ``optional``, ``opaque``; empty if the file does not say.
        datatype: ONNX's number of a tensor's datatype, or of a map's keys.
        shape: a tensor's; None if its rank is unknown.
        inside: the type of a sequence's entries, or of a map's values.
    """

    kind: str = ""
    datatype: int = 0
    shape: tuple[Dimension, ...] | None = None
    inside: ValueType | None = None


class Once:
    """Refuses what is there twice: readers join such messages, and each part alone says less."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._seen: set[int] = set()

    def see(self, each: Field) -> None:
        """Note a field.

        Raises:
            Malformed: it was there before.
        """
        if each.number in self._seen:
            raise Malformed(f"{self._what} has its field {each.number} twice")
        self._seen.add(each.number)


def number_of(each: Field) -> int:
    """Return the signed integer of a field."""
    expect(each, VARINT)
    return signed(each.value)


def read_value(wire: Wire, whole: Field) -> tuple[str, ValueType]:
    """Read a value's name and type."""
    expect(whole, BYTES)
    name, kind, once = "", ValueType(), Once("a value")
    for each in wire.fields(whole.start, whole.end):
        if each.number == 1:
            name = wire.text(each)
        elif each.number == 2:
            once.see(each)
            kind = read_type(wire, each, 0)
    return name, kind


def read_type(wire: Wire, whole: Field, depth: int) -> ValueType:
    """Read a type, which is inside of so many others."""
    expect(whole, BYTES)
    if depth > DEEPEST:
        raise Malformed(f"its types are nested more than {DEEPEST} deep")
    kind = ValueType()
    for each in wire.fields(whole.start, whole.end):
        if each.number not in _KINDS:
            continue
        if kind.kind:
            raise Malformed("it has a type that says several things")
        expect(each, BYTES)
        kind = _type_of(wire, _KINDS[each.number], each, depth)
    return kind


def _type_of(wire: Wire, kind: str, whole: Field, depth: int) -> ValueType:
    datatype, shape, inside = 0, None, None
    for each in wire.fields(whole.start, whole.end):
        if each.number == 1 and each.wire == VARINT:
            datatype = each.value
        elif each.number == 2 and kind in ("tensor", "sparse tensor"):
            shape = _shape(wire, each)
        elif each.number == (2 if kind == "map" else 1):
            inside = read_type(wire, each, depth + 1)
    return ValueType(kind, datatype, shape, inside)


def _shape(wire: Wire, whole: Field) -> tuple[Dimension, ...]:
    expect(whole, BYTES)
    shape: list[Dimension] = []
    for each in wire.fields(whole.start, whole.end):
        if each.number == 1:
            shape.append(_dimension(wire, each))
        if len(shape) > MOST_DIMENSIONS:
            raise Malformed(f"a tensor has more than {MOST_DIMENSIONS} dimensions")
    return tuple(shape)


def _dimension(wire: Wire, whole: Field) -> Dimension:
    expect(whole, BYTES)
    size: Dimension = None
    for each in wire.fields(whole.start, whole.end):
        if each.number == 1:
            size = number_of(each)
        elif each.number == 2:
            size = wire.text(each) or None
    # Some exporters write -1, or 0, for a size that varies.
    return None if isinstance(size, int) and size <= 0 else size


_KINDS = {
    1: "tensor",
    4: "sequence",
    5: "map",
    7: "opaque",
    8: "sparse tensor",
    9: "optional",
}
