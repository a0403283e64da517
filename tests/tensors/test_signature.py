from dataclasses import replace

import numpy as np
import pytest

from bundleserver.errors import InvalidInput
from bundleserver.tensors import NamedTensor, TensorSpec
from bundleserver.tensors.signature import Signature

TAKER = "'fraud' version 7"
FEATURES = TensorSpec("features", "FP64", (-1, 3), ("cpu", "memory", "io"))
STRICT = Signature((FEATURES,))
LENIENT = Signature((TensorSpec("input-0", None, (-1, 3)),), lenient=True)
VOTES = Signature((TensorSpec("forest", "INT64", (-1,)), TensorSpec("arima", "INT64", (-1,))))
FORECAST = Signature(
    (
        TensorSpec("horizon", "INT64", (1,), optional=True),
        TensorSpec("history", "FP64", (-1,), optional=True),
    ),
    rowwise=False,
)
OPEN = Signature()


def tensor(name, values, **more):
    """Make a named tensor of plain values."""
    return NamedTensor(name, np.asarray(values), **more)


def test_strict_signature_takes_its_named_input():
    """A written manifest's input arrives under its name, with its columns."""
    bound = STRICT.validate_tensors([tensor("features", [[0.5, 0.3, 0.8]])], TAKER)

    assert ["features"] == list(bound)
    assert ("cpu", "memory", "io") == bound["features"].columns


@pytest.mark.parametrize(
    ("signature", "tensors", "part"),
    [
        (STRICT, [tensor("feature", [[1.0, 2, 3]])], "unknown input 'feature'"),
        (STRICT, [tensor("feature", [[1.0, 2, 3]])], "did you mean 'features'?"),
        (STRICT, [], "missing inputs"),
        (STRICT, [tensor("features", [[1, 2, 3]])], "has datatype INT64"),
        (VOTES, [tensor("forest", [1, 0]), tensor("arima", [1])], "differ in their number of rows"),
        (VOTES, [tensor("forest", [1, 0])], "'arima' INT64 [-1]"),
        (LENIENT, [], "the request has no inputs"),
        (LENIENT, [tensor("x", [[1.0, 2]])], "has shape [1, 2]"),
        (FORECAST, [tensor("horizons", [3])], "did you mean 'horizon'?"),
    ],
)
def test_bind_tensors_says_what_came_and_what_is_taken(signature, tensors, part):
    """Each misfit of names, shapes, datatypes and lengths is refused in words."""
    with pytest.raises(InvalidInput) as refused:
        signature.validate_tensors(tensors, TAKER)

    assert part in str(refused.value)
    assert TAKER in str(refused.value)


@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.uint8, np.float64])
def test_lenient_signature_takes_any_name_and_number(dtype):
    """A drop-in for KServe's sklearn server takes one tensor of any name and numeric datatype."""
    bound = LENIENT.validate_tensors([tensor("whatever", np.ones((2, 3), dtype))], TAKER)

    assert (2, 3) == bound["input-0"].values.shape


def test_lenient_signature_takes_several_tensors_as_columns():
    """Several tensors are passed on under their names, the columns of one table."""
    bound = LENIENT.validate_tensors([tensor("age", [1, 2]), tensor("city", ["a", "b"])], TAKER)

    assert ["age", "city"] == list(bound)


def test_lenient_signature_reads_one_column_as_a_table_when_asked():
    """With content type pd the only tensor is a column under its own name."""
    bound = LENIENT.validate_tensors([tensor("age", [1, 2])], TAKER, content_type="pd")

    assert ("age",) == bound["input-0"].columns
    assert (2, 1) == bound["input-0"].values.shape


def test_optional_inputs_may_be_left_out():
    """A forecast needs no history."""
    assert ["horizon"] == list(FORECAST.validate_tensors([tensor("horizon", [3])], TAKER))


@pytest.mark.parametrize(
    ("signature", "rows", "expected"),
    [
        (STRICT, [[1, 2, 3]], {"features": [[1.0, 2.0, 3.0]]}),
        (STRICT, [{"io": 3, "cpu": 1, "memory": 2}], {"features": [[1.0, 2.0, 3.0]]}),
        (
            STRICT,
            [{"features": [1, 2, 3]}, {"features": [4, 5, 6]}],
            {"features": [[1, 2, 3], [4, 5, 6]]},
        ),
        (VOTES, [[1, 0], [0, 0]], {"forest": [1, 0], "arima": [0, 0]}),
        (VOTES, [{"forest": 1, "arima": 0}], {"forest": [1], "arima": [0]}),
        (LENIENT, [[1, 2, 3]], {"input-0": [[1, 2, 3]]}),
        (LENIENT, [{"a": [1, 2], "b": ["x", "y"]}], {"a": [1, 2], "b": ["x", "y"]}),
        (LENIENT, [{"a": 1, "b": "x"}], {"a": [1], "b": ["x"]}),
        (
            LENIENT,
            [{"a": [1, 2], "b": "x"}, {"a": 3, "b": "y"}],
            {"a": [1, 2, 3], "b": [*"xxy"]},
        ),
        (OPEN, [[1, 2]], {"input-0": [[1, 2]]}),
        (OPEN, [{"a": 1}, {"a": 2}], {"a": [1, 2]}),
    ],
)
def test_validate_rows_takes_lists_and_objects(signature, rows, expected):
    """V1 rows bind as lists, as objects keyed by column, and as objects keyed by input."""
    bound = signature.validate_rows(rows, TAKER)

    assert expected == {name: tensor.values.tolist() for name, tensor in bound.items()}


@pytest.mark.parametrize(
    ("signature", "rows", "part"),
    [
        (STRICT, [], "'instances' is an empty array"),
        (STRICT, [[1, 2, 3], [4, 5]], "rows of different lengths"),
        (STRICT, [[1, 2]], "has shape [1, 2]"),
        (STRICT, [{"cpu": 1, "memory": 2}], "missing column 'io'"),
        (STRICT, [{"cpu": 1, "memory": 2, "io": 3, "disk": 4}], "unknown column 'disk'"),
        (STRICT, [{"cpu": 1}, {"memory": 1}], "differ in keys: 'cpu', 'memory'"),
        (STRICT, [{"cpu": 1}, [1, 2, 3]], "instances[1] is a list"),
        (STRICT, [["a", "b", "c"]], "the value 'a'"),
        (VOTES, [[1, 0, 1]], "instances[0] has 3 values"),
        (VOTES, [1], "instances[0] has int"),
        (VOTES, [{"forest": 1, "arimo": 0}], "did you mean 'arima'?"),
        (VOTES, [[1.5, 0]], "expects INT64"),
    ],
)
def test_validate_rows_says_which_row_and_what_is_taken(signature, rows, part):
    """Each misfit of V1 rows is refused in words that name the row or the column."""
    with pytest.raises(InvalidInput) as refused:
        signature.validate_rows(rows, TAKER)

    assert part in str(refused.value)
    assert TAKER in str(refused.value)


OPEN_TABLE = TensorSpec("t", None, (-1, 3), ("cpu", "memory", "io"), required_columns=("io",))


def test_a_strict_table_that_was_not_declared_requires_what_is_used():
    """Where a component, and no manifest, knows the columns, the used ones are required."""
    strict = Signature((OPEN_TABLE,))

    bound = strict.validate_rows([{"io": 3, "disk": 1}, {"io": 4}], TAKER)["t"]
    assert (("io",), [[3], [4]]) == (bound.columns, bound.values.tolist())
    with pytest.raises(InvalidInput, match=r"missing column 'io'.* did you mean 'io' for 'Io'"):
        strict.validate_rows([{"Io": 3, "cpu": 1}], TAKER)


def test_lenient_rows_may_differ_in_what_is_not_required():
    """A key that only some of the rows have has no effect, unless it is required."""
    lenient = Signature((OPEN_TABLE,), lenient=True)

    bound = lenient.validate_rows([{"io": 3, "cpu": 1}, {"io": 4, "disk": "x"}], TAKER)

    assert {"io": [3, 4]} == {name: tensor.values.tolist() for name, tensor in bound.items()}
    with pytest.raises(InvalidInput, match=r"instances\[1\] and instances\[0\] differ .* 'io'"):
        lenient.validate_rows([{"io": 3}, {"cpu": 4}], TAKER)


def test_records_within_lists_are_rows():
    """KServe's sklearn server takes lists of records, each of several rows."""
    rows = [[{"a": 1}, {"a": 2}], [{"a": 3}]]

    assert [1, 2, 3] == LENIENT.validate_rows(rows, TAKER)["a"].values.tolist()


@pytest.mark.parametrize("signature", [VOTES, Signature((TensorSpec("forest", "INT64", (-1,)),))])
def test_a_matrix_of_one_column_is_taken_for_a_column(signature):
    """Clients that send one tensor per column make each [n, 1]."""
    columns = [tensor(spec.name, [[1], [0]]) for spec in signature.inputs]

    bound = signature.validate_tensors(columns, TAKER)

    assert [1, 0] == bound["forest"].values.tolist()


def test_the_only_tensor_may_be_a_column():
    """A tensor that has a column's name is that column, and not the whole table."""
    bound = Signature((OPEN_TABLE,), lenient=True).validate_tensors([tensor("io", [1, 2])], TAKER)

    assert (("io",), (2, 1)) == (bound["t"].columns, bound["t"].values.shape)


def test_strings_without_gaps_are_declared_by_bytes():
    """A null is refused where a string is declared."""
    spec = TensorSpec("x", "BYTES", (-1,))

    with pytest.raises(InvalidInput, match=r"input 'x' has null; .* expects BYTES without nulls"):
        spec.validate(np.array(["a", None], object), TAKER)


def test_lists_in_ignored_columns_are_no_rows():
    """A list in a column that has no effect neither adds rows nor takes any away."""
    spec = TensorSpec("t", None, (-1, 3), ("age", "junk", "city"), required_columns=("age", "city"))
    signature = Signature((spec,), lenient=True)
    rows = [
        {"age": 1.0, "city": "rome", "tags": [], "junk": [1, 2, 3]},
        {"age": 2.0, "city": "oslo", "tags": ["x", "y"], "junk": []},
    ]

    bound = signature.validate_rows(rows, "'m' version 1")

    assert {"age", "city"} == bound.keys()
    assert [1.0, 2.0] == bound["age"].values.tolist()


def test_rows_are_the_only_required_input():
    """A model whose other inputs may be left out is asked as one with a single input."""
    mask = TensorSpec("mask", "FP32", optional=True)
    signature = Signature((TensorSpec("x", "FP32", (-1, 2)), mask))

    bound = signature.validate_rows([[1.0, 2.0], [3.0, 4.0]], "'m' version 1")

    assert ["x"] == list(bound)
    assert [[1.0, 2.0], [3.0, 4.0]] == bound["x"].values.tolist()


WIDE = TensorSpec("t", None, (-1, 4), ("w", "x", "y", "z"), required_columns=("x",))


@pytest.mark.parametrize("width", [2, 3, 4])
def test_last_columns_without_effect_may_lack_without_names_too(width):
    """Rows and tensors have the first columns then, in their order."""
    lenient = Signature((WIDE,), lenient=True)
    rows = [[5, 6, 7, 8][:width], [1, 2, 3, 4][:width]]

    for bound in (
        lenient.validate_rows(rows, TAKER)["t"],
        lenient.validate_tensors([tensor("any", rows)], TAKER)["t"],
    ):
        assert (tuple("wxyz")[:width], rows) == (bound.columns, bound.values.tolist())


@pytest.mark.parametrize("width", [1, 5])
def test_a_table_without_names_has_every_column_up_to_the_last_with_effect(width):
    """A narrower or wider one is refused with both shapes."""
    with pytest.raises(InvalidInput, match=rf"has shape \[2, {width}\]; .* expects \[-1, 4\]"):
        Signature((WIDE,), lenient=True).validate_rows([[1] * width] * 2, TAKER)


def test_last_inputs_that_are_optional_may_lack_in_rows():
    """A row has a value for each input up to the last one that is required."""
    late = TensorSpec("late", "FP64", (-1,), optional=True)
    signature = Signature((*VOTES.inputs, late))
    count = len(VOTES.inputs)

    bound = signature.validate_rows([[1] * count, [0] * count], TAKER)

    assert {spec.name for spec in VOTES.inputs} == bound.keys()
    assert "late" in signature.validate_rows([[1] * (count + 1)], TAKER)
    for rows in ([[1] * (count + 2)], [[1] * (count - 1)], [[1] * count, [1] * (count + 1)]):
        with pytest.raises(InvalidInput, match=rf"expects {count} to {count + 1}, equally many"):
            signature.validate_rows(rows, TAKER)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("datatype", "number"), [("FP32", 1e39), ("FP16", 70000), ("FP16", 7e4)])
def test_a_number_beyond_the_datatype_is_refused_and_infinity_is_not(datatype, number):
    """However it comes: as a tensor, a row, an object or a table of columns."""
    strict = Signature((TensorSpec("x", datatype, (-1, 2), ("a", "b")),))
    one = replace(strict, lenient=True)
    two = Signature(tuple(TensorSpec(name, datatype, (-1,)) for name in "ab"), lenient=True)
    calls = [
        lambda value: one.validate_tensors([tensor("x", [[1.0, value]])], TAKER),
        lambda value: two.validate_tensors([tensor(k, [value]) for k in "ab"], TAKER),
        lambda value: one.validate_rows([[1, value]], TAKER),
        lambda value: strict.validate_rows([{"a": 1, "b": value}], TAKER),
        lambda value: two.validate_rows([[1, value]], TAKER),
        lambda value: two.validate_rows([{"a": 1, "b": value}], TAKER),
    ]
    for call in calls:
        with pytest.raises(InvalidInput) as raised:
            call(number)
        assert f"has the value {number}" in str(raised.value)
        assert f"; {TAKER} expects {datatype}, at most " in str(raised.value)
        (*_, last) = call(np.inf).values()
        assert np.inf == last.values.ravel()[-1]
