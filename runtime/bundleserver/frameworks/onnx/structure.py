"""What an ONNX file holds: its graph's inputs and outputs, nodes and opsets, without the weights.

The file is hostile until it was read here: every message is walked, what is nested has a depth, and
what a tensor says of its size is compared with what it has. Nothing of it is run, nothing is
copied, and neither onnx nor onnxruntime is imported.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from bundleserver.frameworks.onnx.attributes import (
    KEPT,
    LABELS,
    MOST_KEPT,
    Attribute,
    check_attributes,
)
from bundleserver.frameworks.onnx.tensor_sizes import check_tensor
from bundleserver.frameworks.onnx.value_types import (
    DEEPEST,
    Once,
    ValueType,
    number_of,
    read_type,
    read_value,
)
from bundleserver.frameworks.onnx.wire import (
    BYTES,
    VARINT,
    Field,
    Malformed,
    Wire,
    expect,
    signed,
)


@dataclass(frozen=True)
class Node:
    """One node of a graph or of a function.

    ``labels`` are the strings or integers of an attribute that lists classes or categories.
    """

    operator: str
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    labels: tuple[str | int, ...] = ()


@dataclass
class Structure:
    """What one file holds.

    Attributes:
        ir_version: the version of the format.
        producer: what wrote it: name and version.
        opsets: the versions of the operators' sets by domain.
        metadata: the properties that it was saved with.
        inputs: the graph's, without initializers.
        outputs: the graph's.
        nodes: the nodes of the graph, without those of graphs in them.
        operators: every operator in the file, as domain and name, with how many nodes have it.
        functions: the functions that it defines, each with the operators that it has.
    """

    ir_version: int = 0
    producer: tuple[str, str] = ("", "")
    opsets: dict[str, int] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    inputs: dict[str, ValueType] = field(default_factory=dict)
    outputs: dict[str, ValueType] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)
    operators: dict[tuple[str, str], int] = field(default_factory=dict)
    functions: dict[tuple[str, str], Mapping[tuple[str, str], int]] = field(default_factory=dict)
    graphs: int = 0

    @property
    def used(self) -> frozenset[str]:
        """The names of all operators in the file, those in functions included."""
        every = (self.operators, *self.functions.values())
        return frozenset(name for operators in every for _, name in operators)


def read_structure(data: bytes) -> Structure:
    """Read the structure of a whole file.

    Raises:
        Malformed: it is not an ONNX model, or it is damaged; the text says what is wrong.
        Abandoned: nobody waits for the load any more.
    """
    return _Reader(Wire(data)).model()


class _Reader:
    """Reads the messages of one file."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._found = Structure()
        self._operators = self._found.operators

    def model(self) -> Structure:
        """Read the message at the top."""
        found, once = self._found, Once("the model")
        producer = ["", ""]
        for each in self._wire.fields(0, len(self._wire.data)):
            if each.number == 1:
                found.ir_version = number_of(each)
            elif each.number in (2, 3):
                producer[each.number - 2] = self._wire.text(each)
            elif each.number == 7:
                once.see(each)
                found.graphs += 1
                self._graph(each, 0)
            elif each.number == 8:
                domain, version = self._opset(each)
                found.opsets[domain] = max(version, found.opsets.get(domain, 0))
            elif each.number == 14:
                self._property(each)
            elif each.number == 20:
                raise Malformed("it has a training graph; save the model for inference")
            elif each.number == 25:
                self._function(each)
        found.producer = (producer[0], producer[1])
        if not found.graphs:
            raise Malformed("it has no graph")
        return found

    def _graph(self, whole: Field, depth: int) -> None:
        expect(whole, BYTES)
        if depth > DEEPEST:
            raise Malformed(f"its graphs are nested more than {DEEPEST} deep")
        inputs: dict[str, ValueType] = {}
        outputs: dict[str, ValueType] = {}
        initializers: set[str] = set()
        for each in self._wire.fields(whole.start, whole.end):
            if each.number == 1:
                node = self._node(each, depth)
                if not depth:
                    self._found.nodes.append(node)
            elif each.number == 5:
                initializers.add(check_tensor(self._wire, each))
            elif each.number == 15:
                initializers.add(self._sparse(each))
            elif each.number in (11, 12):
                name, kind = read_value(self._wire, each)
                (inputs if each.number == 11 else outputs)[name] = kind
        if not depth:
            self._found.inputs = {k: v for k, v in inputs.items() if k not in initializers}
            self._found.outputs = outputs

    def _node(self, whole: Field, depth: int) -> Node:
        expect(whole, BYTES)
        operator = domain = ""
        names: tuple[list[str], list[str]] = ([], [])
        attributes: dict[str, Attribute] = {}
        for each in self._wire.fields(whole.start, whole.end):
            if each.number in (1, 2):
                names[each.number - 1].append(self._wire.text(each))
            elif each.number == 4:
                operator = self._wire.text(each)
            elif each.number == 5:
                name, attribute = self._attribute(each, depth)
                attributes[name] = attribute
            elif each.number == 7:
                domain = self._wire.text(each)
        check_attributes(operator, attributes)
        key = (_domain(domain), operator)
        self._operators[key] = self._operators.get(key, 0) + 1
        labels = next((attributes[n].values for n in LABELS if n in attributes), ())
        return Node(operator, key[0], tuple(names[0]), tuple(names[1]), labels)

    def _attribute(self, whole: Field, depth: int) -> tuple[str, Attribute]:
        """Walk an attribute; return its name and what it lists."""
        expect(whole, BYTES)
        once, name, length = Once("an attribute"), "", 0
        least = most = 0
        for each in self._wire.fields(whole.start, whole.end, (7, 8, 9)):
            if each.number == 1:
                name = self._wire.text(each)
            elif each.number in (5, 6, 22):
                once.see(each)
            if each.number in (5, 10):
                check_tensor(self._wire, each)
            elif each.number in (6, 11):
                self._graph(each, depth + 1)
            elif each.number in (22, 23):
                self._sparse(each)
            elif each.number in (14, 15):
                read_type(self._wire, each, 0)
            elif each.number in (7, 8, 9):
                length += self._length(each)
                if each.number == 8 and (integers := self._wire.integers(each)).size:
                    least, most = min(least, int(integers.min())), max(most, int(integers.max()))
        values = self._values(whole) if name in KEPT and length <= MOST_KEPT else ()
        return name, Attribute(length, values, least, most)

    def _length(self, each: Field) -> int:
        """Count the entries of an attribute's list: floats, integers or strings."""
        if each.number == 9 or each.wire != BYTES:
            return each.entries
        return self._wire.varints(each) if each.number == 8 else (each.end - each.start) // 4

    def _values(self, whole: Field) -> tuple[str | int, ...]:
        """Return the strings or integers that an attribute lists."""
        found: list[str | int] = []
        for each in self._wire.fields(whole.start, whole.end):
            if each.number == 9:
                found.append(self._wire.text(each))
            elif each.number == 8 and each.wire == VARINT:
                found.append(signed(each.value))
            elif each.number == 8:
                expect(each, BYTES)
                at = each.start
                while at < each.end:
                    value, at = self._wire.varint(at, each.end)
                    found.append(signed(value))
        return tuple(found)

    def _sparse(self, whole: Field) -> str:
        """Walk a sparse tensor; return the name of its values."""
        expect(whole, BYTES)
        once, name = Once("a sparse tensor"), ""
        for each in self._wire.fields(whole.start, whole.end):
            if each.number in (1, 2):
                once.see(each)
                found = check_tensor(self._wire, each)
                name = found if each.number == 1 else name
        return name

    def _function(self, whole: Field) -> None:
        expect(whole, BYTES)
        name = domain = ""
        outer, self._operators = self._operators, {}
        for each in self._wire.fields(whole.start, whole.end):
            if each.number == 1:
                name = self._wire.text(each)
            elif each.number == 7:
                self._node(each, 1)
            elif each.number == 10:
                domain = self._wire.text(each)
            elif each.number == 11:
                self._attribute(each, 1)
        key, own = (_domain(domain), name), self._operators
        self._operators = outer
        known = dict(self._found.functions.get(key, {}))
        # Overloads of one name count as one function.
        self._found.functions[key] = {
            each: known.get(each, 0) + own.get(each, 0) for each in {**known, **own}
        }

    def _opset(self, whole: Field) -> tuple[str, int]:
        expect(whole, BYTES)
        domain, version = "", 0
        for each in self._wire.fields(whole.start, whole.end):
            if each.number == 1:
                domain = self._wire.text(each)
            elif each.number == 2:
                version = number_of(each)
        return _domain(domain), version

    def _property(self, whole: Field) -> None:
        expect(whole, BYTES)
        parts = ["", ""]
        for each in self._wire.fields(whole.start, whole.end):
            if each.number in (1, 2):
                parts[each.number - 1] = self._wire.text(each, most=1 << 20)
        self._found.metadata[parts[0]] = parts[1]


def _domain(name: str) -> str:
    return "" if name == "ai.onnx" else name
