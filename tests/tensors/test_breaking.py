"""What breaks clients, and what they do not notice."""

from __future__ import annotations

import pytest

from bundleserver.tensors import TensorSpec
from bundleserver.tensors.breaking import Interface, find_breaks, not_compared
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


def vote(name, **more):
    """Make an input that has one value in a row."""
    return TensorSpec(name, "INT64", (-1,), **more)


def meaning(text):
    """Make what clients rely on where options say how values are read."""
    meanings = {"input 'x'": text, "output 'label'": text}
    return Interface(Signature((x(),), (LABEL,)), meanings=meanings)


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
    "inputs in another order": (
        rows(vote("arima"), vote("prophet")),
        rows(vote("prophet"), vote("arima"), lenient=True),
        "requests without column names have 'arima', 'prophet' in version a, and 'prophet', "
        "'arima' in version b",
    ),
    "inputs in another order than columns": (
        rows(vote("a"), vote("b"), lenient=True),
        rows(table("ba"), lenient=True),
        "requests without column names have 'a', 'b' in version a, and 'b', 'a' in version b",
    ),
    "an optional input in front": (
        rows(vote("a"), vote("b")),
        rows(vote("c", optional=True), vote("a"), vote("b")),
        "requests without column names have 'a', 'b' in version a, and 'c', 'a', 'b' in version b",
    ),
    "an optional column in the middle": (
        rows(table("ac")),
        rows(table("abc", "ac"), lenient=True),
        "requests without column names have 'a', 'c' in version a, and 'a', 'b', 'c' in version b",
    ),
    "an optional column where the width is declared": (
        rows(table("ac")),
        rows(table("acb", "ac")),
        "requests without column names have 'a', 'c' in version a, and 'a', 'c', 'b' in version b",
    ),
    "an optional column in front of columns without names": (
        rows(x(), lenient=True),
        rows(table("abc", "bc"), lenient=True),
        "is [-1, 2] in version a, and [-1, 3] in version b",
    ),
    "several inputs for one of any name": (
        rows(x(), lenient=True),
        rows(vote("arima"), vote("prophet"), lenient=True),
        "version b only 'arima' INT64 [-1], 'prophet' INT64 [-1]",
    ),
    "one datatype for any": (
        rows(x(None, likely="FP64")),
        rows(x("FP64")),
        "input 'x' is of any datatype in version a, and only FP64 in version b",
    ),
    "no null": (
        rows(x("BOOL", nullable=True)),
        rows(x("BOOL")),
        "input 'x' may have null in version a, and not in version b",
    ),
    "another meaning": (
        meaning("1 for an anomaly"),
        meaning("-1 for an anomaly"),
        "input 'x', output 'label': 1 for an anomaly in version a, and -1 for an anomaly in",
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
    "an optional column at the end": (rows(table("ac")), rows(table("acb", "ac"), lenient=True)),
    "the same optional column in the middle": (
        rows(table("abc", "ac"), lenient=True),
        rows(table("abc", "ac"), lenient=True),
    ),
    "an optional column of strings": (
        rows(table("ab", "a")),
        rows(table("abc", "a", column_datatypes=("FP64", "FP64", "BYTES")), lenient=True),
    ),
    "an optional column after columns that had no names": (
        rows(x(shape=(-1, 2)), lenient=True),
        rows(table("abcd", "b"), lenient=True),
    ),
    "an optional input at the end": (
        rows(vote("a"), vote("b")),
        rows(vote("a"), vote("b"), vote("c", optional=True)),
    ),
    "the same meaning": (meaning("-1 for an anomaly"), meaning("-1 for an anomaly")),
    "a meaning where none was said": (rows(x(), outputs=(LABEL,)), meaning("1 for an anomaly")),
    "any datatype that is declared too": (rows(x(None)), rows(x(None, likely="FP64"))),
    "null where a number may lack": (rows(x(nullable=True)), rows(x())),
    "columns that are optional now": (rows(table("ab")), rows(table("ab", "a"))),
    "names for what had none": (rows(x(shape=(-1, 2))), rows(table("ab"))),
    "inputs as columns": (rows(x(name="a"), x(name="b")), rows(table("ab"), lenient=True)),
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


def test_one_of_any_name_is_replaced_by_several_for_no_manifest():
    """The reason is the manifest's inputs only where there are such."""
    before = rows(x(), lenient=True)

    (strict,) = find_breaks(before, rows(x(), x(name="y")), "a", "b")[:1]
    (several,) = find_breaks(before, rows(vote("y"), vote("z"), lenient=True), "a", "b")[:1]

    assert (True, False) == ("declares 'inputs'" in strict, "declares 'inputs'" in several)


def test_what_is_not_known_is_told_and_what_is_free_is_not():
    """A shape that nobody knows cannot be compared; any width that is declared is compared."""
    unknown = rows(x("FP32", shape=None), outputs=(TensorSpec("p"),))

    assert (
        "the shape of input 'x'",
        "the shape and the datatype of output 'p'",
    ) == not_compared(unknown, rows(x("FP32", name="y"), outputs=(TensorSpec("p", "FP32", (-1,)),)))
    assert () == not_compared(rows(x(None, shape=(-1, -1)), lenient=True), rows(x()))
