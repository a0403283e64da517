"""Which division of integers in an ONNX file may end the process.

A processor divides no integer by 0, nor the least one by -1: it ends the process, with all its
models. onnxruntime checks neither in all of its versions, so that a request could end the server.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping, Sequence

from bundleserver.frameworks.giving_up import go_on
from bundleserver.frameworks.onnx.divisions.datatypes import outputs_of
from bundleserver.frameworks.onnx.divisions.graphs import (
    Graph,
    Node,
    Value,
    integer_dtype,
    read_graphs,
)
from bundleserver.frameworks.onnx.tensor_sizes import DATATYPES

DIVISIONS = frozenset({"Div", "Mod"})

_Scope = ChainMap[str, Value]
_NOTHING = Value()

_BEFORE = {"Loop": 1}
"""How many outputs a graph in a node has before those of the node."""

_MOST_NODES = 2_000_000
"""The nodes that are followed, those of functions in each different call."""

_DEEPEST = 100
"""How deep graphs and functions may be in each other."""

_ASK_EVERY = 1 << 12


class _Unsafe(Exception):
    """A division may end the process; the text says which, and what to do."""


def problem_with_divisions(data: bytes) -> str:
    """Say which division of a checked file may end the process; empty if none does."""
    main, functions = read_graphs(data)
    try:
        # What has a value in the file is no input of a request.
        given = {name: main.constants.get(name, value) for name, value in main.inputs.items()}
        _Walk(functions).graph(main, ChainMap(), given)
    except _Unsafe as error:
        return str(error)
    return ""


class _Walk:
    """Follows the types of values through the graphs of one file."""

    def __init__(self, functions: Mapping[tuple[str, str], Sequence[Graph]]) -> None:
        self._functions = functions
        self._called: dict[tuple[object, ...], list[Value]] = {}
        self._depth = self._walked = 0

    def graph(self, graph: Graph, outer: _Scope, given: Mapping[str, Value]) -> list[Value]:
        """Walk a graph whose inputs and outer names are given; return what its outputs are."""
        self._depth += 1
        if self._depth > _DEEPEST:
            raise _Unsafe(f"has graphs and functions in each other, more than {_DEEPEST} deep")
        own = {name: Value() for node in graph.nodes for name in node.outputs}
        scope = outer.new_child({**graph.constants, **given, **own})
        declared = {**graph.outputs, **graph.declared}
        for node in graph.nodes:
            self._spend()
            found = self._outputs(node, [_known(scope, name) for name in node.inputs], scope)
            for place, name in enumerate(node.outputs):
                value = found[place] if place < len(found) else Value()
                scope[name] = value if value.datatype else declared.get(name, value)
            if node.domain == "" and node.operator in DIVISIONS:
                _check(node, [_known(scope, name) for name in (*node.inputs, *node.outputs)])
        self._depth -= 1
        return [
            value if (value := _known(scope, name)).datatype else said
            for name, said in graph.outputs.items()
        ]

    def _outputs(self, node: Node, inputs: Sequence[Value], scope: _Scope) -> Sequence[Value]:
        bodies = self._functions.get((node.domain, node.operator))
        if bodies:
            return self._call(node, bodies, inputs)
        if not node.graphs:
            return outputs_of(node, inputs)
        each = [self.graph(graph, scope, graph.inputs) for graph in node.graphs]
        # The branches of an If give the same datatypes.
        known = max(each, key=lambda values: sum(bool(value.datatype) for value in values))
        return [Value(value.datatype) for value in known[_BEFORE.get(node.operator, 0) :]]

    def _call(
        self, node: Node, bodies: Sequence[Graph], inputs: Sequence[Value]
    ) -> Sequence[Value]:
        key = (node.domain, node.operator, *inputs)
        if key not in self._called:
            for body in bodies:
                given = dict(body.inputs) | dict(zip(body.inputs, inputs, strict=False))
                self._called[key] = self.graph(body, ChainMap(), given)
        return self._called[key] if len(bodies) == 1 else []

    def _spend(self) -> None:
        self._walked += 1
        if self._walked > _MOST_NODES:
            raise _Unsafe(f"has functions that are called in too many ways: {_MOST_NODES} nodes")
        if self._walked % _ASK_EVERY == 0:
            go_on()


def _known(scope: _Scope, name: str) -> Value:
    return scope.get(name, _NOTHING)


def _check(node: Node, values: Sequence[Value]) -> None:
    """Check a division: its two inputs and its output have one datatype."""
    datatype = next((value.datatype for value in values if value.datatype), 0)
    if datatype and integer_dtype(datatype) is None:
        return
    divisor = values[1].integers if len(node.inputs) > 1 else None
    if divisor is not None and not divisor & {0, -1}:
        return
    known = DATATYPES.get(datatype)
    of = known.name if known else "values whose datatype the file does not tell"
    by = f"'{node.inputs[1][:100]}'" if len(node.inputs) > 1 else "nothing"
    why = "is not a constant" if divisor is None else "has 0 or -1"
    hint = "divide floats (a Cast before and after), or by a constant without 0 and -1"
    if not known:
        hint = f"write its types into the file (onnx.shape_inference.infer_shapes), or {hint}"
    raise _Unsafe(
        f"has a {node.operator} of {of} by {by}, which {why}: a division by 0, or of the least "
        f"integer by -1, would end the server; {hint}"
    )
