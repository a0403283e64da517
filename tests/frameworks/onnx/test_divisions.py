"""Divisions of integers that may end the process are refused; others open, floats among them."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from bundleserver.errors import LoadError, StoreError
from bundleserver.frameworks import LoadContext, framework_named
from bundleserver.store import BundleStore
from tests.frameworks.onnx.graphs import FLOAT, INT64, model, node, value

ONNX = framework_named("onnx")
INT32, BOOL = TensorProto.INT32, TensorProto.BOOL
X, Y = (value(name, INT64, ["n"]) for name in "xy")


def constant(values, dtype="int64", name="c"):
    """Make a tensor."""
    return numpy_helper.from_array(np.array(values, dtype), name)


def divided(*nodes, inputs=(X,), given=(), datatype=INT64, **more):
    """Make a model of nodes that makes ``z``."""
    return model(nodes, inputs, [value("z", datatype, None)], given, **more)


def in_branches(division, inputs=(X, Y)):
    """Put a node into both branches of an If."""
    branches = [helper.make_graph([division], name, [], [value("z", INT64, None)]) for name in "ab"]
    chosen = node("If", ["is"], ["z"], then_branch=branches[0], else_branch=branches[1])
    return divided(chosen, inputs=[*inputs, value("is", BOOL, [])])


def in_loop(division, given=()):
    """Put a node that makes ``z`` of the loop's ``s`` into the body of a Loop."""
    body = helper.make_graph(
        [node("Identity", ["go"], ["on"]), division],
        "body",
        [value("i", INT64, []), value("go", BOOL, []), value("s", INT64, None)],
        [value("on", BOOL, []), value("z", INT64, None)],
    )
    loop = node("Loop", ["times", "", "x"], ["z"], body=body)
    return divided(loop, inputs=(X, Y), given=[constant(2, name="times"), *given])


def in_function(datatype=FLOAT):
    """Put a division into a function, which says no types."""
    imports = [helper.make_opsetid("", 21)]
    body = [node("Div", ["p", "q"], ["r"])]
    function = helper.make_function("own", "F", ["p", "q"], ["r"], body, imports)
    called = node("F", ["x", "y"], ["z"], domain="own")
    inputs = [value(name, datatype, ["n"]) for name in "xy"]
    return divided(
        called, inputs=inputs, datatype=datatype, functions=[function], opsets={"": 21, "own": 1}
    )


DIV = node("Div", ["x", "y"], ["z"])
BY_C = node("Div", ["x", "c"], ["z"])

ENDS = {
    "inputs": divided(DIV, inputs=(X, Y)),
    "remainder": divided(node("Mod", ["x", "y"], ["z"]), inputs=(X, Y)),
    "0": divided(BY_C, given=[constant([2, 0])]),
    "-1": divided(BY_C, given=[constant([-1])]),
    "-1 as a number": divided(BY_C, given=[helper.make_tensor("c", INT64, [1], [-1])]),
    "-1 in a node": divided(node("Constant", [], ["c"], value_ints=[3, -1]), BY_C),
    "-1 in one number": divided(node("Constant", [], ["c"], value_int=-1), BY_C),
    "-1 after a cast": divided(
        node("Cast", ["w"], ["c"], to=INT32),
        node("Cast", ["x"], ["i"], to=INT32),
        node("Div", ["i", "c"], ["z"]),
        given=[constant([(1 << 32) - 1], name="w")],
        datatype=INT32,
    ),
    "0 after a cast of a float": divided(
        node("Cast", ["w"], ["c"], to=INT64), BY_C, given=[constant([0.5], "float32", "w")]
    ),
    "sizes": divided(node("Shape", ["x"], ["n"]), node("Div", ["n", "n"], ["z"])),
    "places": divided(
        node("TopK", ["f", "k"], ["_", "i"]),
        node("Div", ["i", "i"], ["z"]),
        inputs=[value("f", FLOAT, ["n"])],
        given=[constant([1], name="k")],
    ),
    "branches": in_branches(DIV),
    "a loop": in_loop(node("Div", ["s", "s"], ["z"])),
    "a loop that hides a constant": in_loop(
        node("Div", ["x", "s"], ["z"]), [constant(2, name="s")]
    ),
    "a function": in_function(INT64),
    "unknown": divided(
        node("RandomNormalLike", ["x"], ["u"], dtype=FLOAT),
        node("Div", ["u", "u"], ["q"]),
        node("Cast", ["q"], ["z"], to=INT64),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", ENDS)
def test_a_division_that_may_end_the_process_is_refused(tmp_path, case):
    """The sentence names the divisor, why it is refused, and what to do."""
    path = tmp_path / "model.onnx"
    path.write_bytes(ENDS[case].SerializeToString())
    with pytest.raises(
        LoadError, match=r"has a (Div|Mod) of .* by '.*', which (is no|has)"
    ) as said:
        ONNX.load(path, LoadContext())

    assert "would end the server" in str(said.value)
    assert "divide floats (a Cast before and after), or by a constant" in str(said.value)
    assert ("infer_shapes" in str(said.value)) == (case == "unknown")


OPENS = {
    "floats": divided(DIV, inputs=[value(k, FLOAT, ["n"]) for k in "xy"], datatype=FLOAT),
    "by a constant": divided(BY_C, given=[constant([-3])]),
    "by a node": divided(
        node("Constant", [], ["w"], value=constant(2, "int32")),
        node("Cast", ["w"], ["v"], to=INT64),
        node("Unsqueeze", ["v", "a"], ["c"]),
        BY_C,
        given=[constant([0], name="a")],
    ),
    "bytes": divided(
        BY_C,
        inputs=[value("x", TensorProto.UINT8, ["n"])],
        given=[constant([255], "uint8")],
        datatype=TensorProto.UINT8,
    ),
    "casts": divided(
        node("Cast", ["x"], ["a"], to=FLOAT),
        node("Cast", ["y"], ["b"], to=FLOAT),
        node("Div", ["a", "b"], ["c"]),
        node("Cast", ["c"], ["z"], to=INT64),
        inputs=(X, Y),
    ),
    "a function": in_function(FLOAT),
}


@pytest.mark.parametrize("case", OPENS)
def test_other_divisions_open(tmp_path, case):
    """Of floats, and by constants without 0 and -1, however these are written."""
    path = tmp_path / "model.onnx"
    onnx.save(OPENS[case], path)

    assert ONNX.load(path, LoadContext()).methods


def test_what_would_end_the_server_is_not_saved(tmp_path):
    """The rule of loading is that of saving."""
    with pytest.raises(StoreError, match="has a Div of int64 by 'y', which is not a constant"):
        BundleStore(tmp_path).save("m", ENDS["inputs"])


def test_the_rest_of_a_deep_file_is_not_walked(tmp_path):
    """Functions in each other have a depth, and their calls a number."""
    imports = [helper.make_opsetid("own", 1), helper.make_opsetid("", 21)]
    bodies = [node(f"F{i}", ["x"], ["z"], domain="own") for i in range(1, 1000)]
    bodies.append(node("Div", ["x", "x"], ["z"]))
    functions = [
        helper.make_function("own", f"F{i}", ["x"], ["z"], [body], imports)
        for i, body in enumerate(bodies)
    ]
    made = divided(
        node("F0", ["x"], ["z"], domain="own"), functions=functions, opsets={"": 21, "own": 1}
    )
    path = tmp_path / "model.onnx"
    onnx.save(made, path)

    with pytest.raises(LoadError, match="more than 100 deep"):
        ONNX.load(path, LoadContext())
