"""What breaks clients, and what they do not notice."""

from __future__ import annotations

import pytest

from bundleserver.tensors import TensorSpec
from bundleserver.tensors.breaking import Interface, find_breaks
from bundleserver.tensors.signature import Signature

LABEL, SCORE = TensorSpec("label", "INT64", (-1,)), TensorSpec("score", "FP64", (-1,))


def rows(*inputs, outputs=(LABEL,), lenient=False, made="predict", **more):
    """Make what clients of a version rely on that answers rows."""
    methods = {spec.name: ("sklearn", made) for spec in outputs}
    return Interface(Signature(tuple(inputs), tuple(outputs), lenient, **more), methods)


def forecasts(*names, horizon=100, step="D", refused=None):
    """Make what clients of a forecaster rely on."""
    inputs = tuple(TensorSpec(name, "INT64", (1,), optional=True) for name in names)
    signature = Signature(inputs, (SCORE,), rowwise=False, refused=refused or {})
    return Interface(signature, horizon=horizon, step=step)


def x(datatype="FP64", shape=(-1, 2), columns=(), name="x", **more):
    """Make an input."""
    return TensorSpec(name, datatype, shape, tuple(columns), **more)


def table(columns, required=(), **more):
    """Make an input that is a table."""
    shape = (-1, len(columns))
    return x(None, shape, columns, required_columns=tuple(required), likely="FP64", **more)


BROKEN = {
    "another name": (rows(x()), rows(x(name="y")), "version b lacks the input 'x' of version a"),
    "one input more": (rows(x()), rows(x(), x(name="y")), "version b requires the input 'y' FP64"),
    "an input that is required now": (
        rows(x(), x(name="y", optional=True)),
        rows(x(), x(name="y")),
        "'y' FP64 [-1, 2], which version a takes requests without it",
    ),
    "stricter names": (
        rows(x(), lenient=True),
        rows(x()),
        "version a takes its input under any name and of any numeric datatype, and version b only "
        "'x' FP64 [-1, 2]",
    ),
    "stricter datatypes": (
        rows(x(), x(name="y"), lenient=True),
        rows(x(), x(name="y")),
        "version a takes inputs of any numeric datatype",
    ),
    "another width": (rows(x()), rows(x(shape=(-1, 3))), "[-1, 2] in version a, and [-1, 3] in"),
    "a fixed width": (rows(x(shape=(-1, -1))), rows(x()), "[-1, -1] in version a, and [-1, 2] in"),
    "another rank": (rows(x()), rows(x(shape=(-1, 2, 2))), "[-1, 2] in version a, and [-1, 2, 2]"),
    "integers that may be lost": (
        rows(x("INT64")),
        rows(x("FP64")),
        "INT64 in version a, and FP64",
    ),
    "fractions that no integer is": (
        rows(x("FP64"), lenient=True),
        rows(x("INT64"), lenient=True),
        "input 'x' is FP64 in version a, and INT64 in version b",
    ),
    "strings": (rows(x("BYTES")), rows(x("FP64"), lenient=True), "is BYTES in version a, and FP64"),
    "a column less": (rows(table("ab")), rows(table("a")), "has the columns 'b' in version a"),
    "a column more": (rows(table("ab")), rows(table("abc")), "that version a does not: 'c'"),
    "a column that is required now": (
        rows(table("ab", "a")),
        rows(table("ab", "ab")),
        "that version a does not: 'b'",
    ),
    "another order": (rows(table("ab")), rows(table("ba")), "in the order 'a', 'b' in version a"),
    "no columns": (rows(table("ab")), rows(x()), "version b knows none by name"),
    "a column of strings": (
        rows(table("ab")),
        rows(table("ab", column_datatypes=("FP64", "BYTES"))),
        "column 'b' of input 'x' is FP64 in version a, and BYTES in version b",
    ),
    "inputs for columns": (
        rows(x(name="a"), x(name="b")),
        rows(table("abc"), lenient=True),
        "requires the column 'c'",
    ),
    "an output less": (
        rows(x(), outputs=(LABEL, SCORE)),
        rows(x()),
        "version b lacks the output 'score' of version a; its outputs: 'label'",
    ),
    "another output first": (
        rows(x()),
        rows(x(), outputs=(SCORE, LABEL)),
        "output 'label' is number 0 in version a, and number 1 in version b",
    ),
    "another datatype of an output": (
        rows(x()),
        rows(x(), outputs=(TensorSpec("label", "FP64", (-1,)),)),
        "output 'label' is INT64 in version a, and FP64 in version b",
    ),
    "another width of an output": (
        rows(x(), outputs=(TensorSpec("p", "FP64", (-1, 2)),)),
        rows(x(), outputs=(TensorSpec("p", "FP64", (-1, 3)),)),
        "output 'p' is [-1, 2] in version a, and [-1, 3] in version b",
    ),
    "another method": (
        rows(x(), outputs=(SCORE,), made="decision_function"),
        rows(x(), outputs=(SCORE,), made="score_samples"),
        "made by 'decision_function' in version a, and by 'score_samples' in version b",
    ),
    "a forecast": (rows(x()), forecasts("ds"), "version a answers row by row, and version b fore"),
    "no horizon": (
        forecasts("horizon", "ds"),
        forecasts("ds", refused={"horizon": "no regular step"}),
        "version a takes the input 'horizon', and version b does not: no regular step",
    ),
    "a shorter horizon": (
        forecasts("ds"),
        forecasts("ds", horizon=50),
        "version a forecasts 100 steps at most, and version b 50",
    ),
    "another step": (forecasts("ds"), forecasts("ds", step="h"), "'D' in version a, and 'h' in"),
}

UNNOTICED = {
    "the same": (rows(x()), rows(x())),
    "any name": (rows(x()), rows(x(name="input-0"), lenient=True)),
    "wider integers": (rows(x("INT32")), rows(x("INT64"))),
    "integers where numbers are eased": (rows(x("INT64")), rows(x("FP64"), lenient=True)),
    "any datatype": (rows(x("FP32")), rows(x(None))),
    "any width": (rows(x()), rows(x(shape=(-1, -1)))),
    "a column as its values": (rows(x(shape=(-1, 1))), rows(x(shape=(-1,)))),
    "an optional input": (rows(x()), rows(x(), x(name="y", optional=True))),
    "an optional column": (rows(table("ac")), rows(table("abc", "ac"))),
    "an optional column of strings": (
        rows(table("ab", "a")),
        rows(table("abc", "a", column_datatypes=("FP64", "FP64", "BYTES"))),
    ),
    "columns that are optional now": (rows(table("ab")), rows(table("ab", "a"))),
    "names for what had none": (rows(x(shape=(-1, 2))), rows(table("ab"))),
    "inputs as columns": (rows(x(name="a"), x(name="b")), rows(table("ba"), lenient=True)),
    "others that are ignored": (rows(x(), x(name="y")), rows(x(), ignores_others=True)),
    "a further output": (rows(x()), rows(x(), outputs=(LABEL, SCORE))),
    "a method of another framework": (
        rows(x()),
        Interface(Signature((x(),), (LABEL,)), {"label": ("torch", "forward")}),
    ),
    "a longer horizon": (forecasts("ds"), forecasts("ds", horizon=200)),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_breaks_clients_is_told_with_both_sides(case):
    """Each break is one sentence, with what is and what would be."""
    before, after, said = BROKEN[case]

    found = find_breaks(before, after, "version a", "version b")

    assert any(said in sentence for sentence in found), found


@pytest.mark.parametrize("case", UNNOTICED)
def test_what_clients_do_not_notice_is_no_break(case):
    """Requests go on, and answers are read as before."""
    assert () == find_breaks(*UNNOTICED[case], "version a", "version b")
