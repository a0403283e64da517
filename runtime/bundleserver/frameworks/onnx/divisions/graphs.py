"""The nodes of an ONNX file's graphs and functions, with what tells the types of their values.

It is read a second time, by those who need it: ``structure`` has checked the file before.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from bundleserver.frameworks.onnx.tensor_sizes import DATATYPES
from bundleserver.frameworks.onnx.value_types import ValueType, number_of, read_value
from bundleserver.frameworks.onnx.wire import Field, Wire

FLOAT, INT64 = 1, 7

_LISTS = (4, 5, 6, 7, 10, 11)
_MOST_BYTES = 4096
MOST_INTEGERS = 256
"""The different integers of a constant that are kept; divisors have few."""

_RAW = 9


@dataclass(frozen=True)
class Value:
    """What is known of a value: ONNX's number of its datatype, 0 if unknown, and its integers.

    ``integers`` are those of a constant; None if it is none, or is large.
    """

    datatype: int = 0
    integers: frozenset[int] | None = None


@dataclass
class Graph:
    """A graph or a function: its nodes, and what it says of values by their names."""

    nodes: list[Node] = field(default_factory=list)
    inputs: dict[str, Value] = field(default_factory=dict)
    outputs: dict[str, Value] = field(default_factory=dict)
    declared: dict[str, Value] = field(default_factory=dict)
    constants: dict[str, Value] = field(default_factory=dict)


@dataclass
class Node:
    """A node; ``numbers`` and ``tensors`` are values of its attributes, ``lists`` their names."""

    operator: str = ""
    domain: str = ""
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    numbers: dict[str, int] = field(default_factory=dict)
    tensors: dict[str, Value] = field(default_factory=dict)
    attributes: set[str] = field(default_factory=set)
    graphs: list[Graph] = field(default_factory=list)


def read_graphs(data: bytes) -> tuple[Graph, dict[tuple[str, str], list[Graph]]]:
    """Read a checked file's graph, and its functions by domain and name, with their overloads."""
    wire = Wire(data)
    main = Graph()
    functions: dict[tuple[str, str], list[Graph]] = {}
    for each in wire.fields(0, len(data)):
        if each.number == 7:
            main = _graph(wire, each)
        elif each.number == 25:
            key, body = _function(wire, each)
            functions.setdefault(key, []).append(body)
    return main, functions


def _graph(wire: Wire, whole: Field) -> Graph:
    made = Graph()
    for each in wire.fields(whole.start, whole.end):
        if each.number == 1:
            made.nodes.append(_node(wire, each))
        elif each.number == 5:
            name, value = _tensor(wire, each)
            made.constants[name] = value
        elif each.number in (11, 12, 13):
            name, kind = read_value(wire, each)
            place = (made.inputs, made.outputs, made.declared)[each.number - 11]
            place[name] = _of_type(kind)
    return made


def _function(wire: Wire, whole: Field) -> tuple[tuple[str, str], Graph]:
    made, name, domain = Graph(), "", ""
    for each in wire.fields(whole.start, whole.end):
        if each.number == 1:
            name = wire.text(each)
        elif each.number == 4:
            made.inputs[wire.text(each)] = Value()
        elif each.number == 5:
            made.outputs[wire.text(each)] = Value()
        elif each.number == 7:
            made.nodes.append(_node(wire, each))
        elif each.number == 10:
            domain = wire.text(each)
        elif each.number == 12:
            value, kind = read_value(wire, each)
            made.declared[value] = _of_type(kind)
    return (domain_of(domain), name), made


def domain_of(name: str) -> str:
    """Return a domain's name as it is compared: that of ONNX itself is empty."""
    return "" if name == "ai.onnx" else name


def _node(wire: Wire, whole: Field) -> Node:
    made = Node()
    for each in wire.fields(whole.start, whole.end):
        if each.number in (1, 2):
            (made.inputs, made.outputs)[each.number - 1].append(wire.text(each))
        elif each.number == 4:
            made.operator = wire.text(each)
        elif each.number == 5:
            _add_attribute(wire, each, made)
        elif each.number == 7:
            made.domain = domain_of(wire.text(each))
    return made


def _add_attribute(wire: Wire, whole: Field, node: Node) -> None:
    name, integers = "", set[int]()
    number: int | None = None
    tensor: Value | None = None
    for each in wire.fields(whole.start, whole.end, (7, 8, 9)):
        if each.number == 1:
            name = wire.text(each)
        elif each.number == 3:
            number = number_of(each)
        elif each.number == 5:
            tensor = _tensor(wire, each)[1]
        elif each.number in (6, 11):
            node.graphs.append(_graph(wire, each))
        elif each.number == 8 and name == "value_ints":
            integers.update(wire.integers(each).tolist())
    if number is not None:
        node.numbers[name] = number
        integers.add(number)
    if tensor is None and name in ("value_int", "value_ints"):
        is_known = 0 < len(integers) <= MOST_INTEGERS
        tensor = Value(INT64, frozenset(integers) if is_known else None)
    if tensor is not None:
        node.tensors[name] = tensor
    if name in node.attributes:  # readers differ in which they take
        node.numbers.pop(name, None)
        node.tensors[name] = Value()
    node.attributes.add(name)


def _of_type(kind: ValueType) -> Value:
    return Value(kind.datatype if kind.kind == "tensor" else 0)


def _tensor(wire: Wire, whole: Field) -> tuple[str, Value]:
    name, datatype = "", 0
    parts: list[Field] = []
    for each in wire.fields(whole.start, whole.end, _LISTS):
        if each.number == 2:
            datatype = each.value
        elif each.number == 8:
            name = wire.text(each)
        elif each.number == _RAW or each.number in _LISTS:
            parts.append(each)
    return name, Value(datatype, _integers(wire, datatype, parts))


def _integers(wire: Wire, datatype: int, parts: list[Field]) -> frozenset[int] | None:
    dtype = integer_dtype(datatype)
    if dtype is None or sum(part.end - part.start for part in parts) > _MOST_BYTES:
        return None
    found = frozenset(value for part in parts for value in _listed(wire, part, dtype))
    return found if len(found) <= MOST_INTEGERS else None


def _listed(wire: Wire, part: Field, dtype: np.dtype[np.generic]) -> Iterator[int]:
    if part.number == _RAW:
        little = dtype.newbyteorder("<")
        yield from np.frombuffer(wire.data[part.start : part.end], little).tolist()
    else:
        yield from wire.integers(part).astype(dtype).tolist()


def integer_dtype(datatype: int) -> np.dtype[np.generic] | None:
    """Return numpy's datatype of ONNX's integers; None of others, and of those of few bits."""
    known = DATATYPES.get(datatype)
    is_integer = known is not None and known.name.lstrip("u").startswith("int") and known.bits >= 8
    return np.dtype(known.name) if known is not None and is_integer else None
