from __future__ import annotations

from datetime import date, datetime, timezone
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest

from bundleserver.batch.kinds import check_kind
from bundleserver.batch.uses import Use
from bundleserver.batch.values import values_of
from bundleserver.errors import InvalidInput

NAN = float("nan")

VALUES = {
    "doubles": (pa.array([1.5, None]), "FP64", [1.5, NAN], {}),
    "integers": (pa.array([1, 2], pa.int8()), "FP64", [1.0, 2.0], {}),
    "gaps in integers": (pa.array([1, None]), "FP64", [1.0, NAN], {}),
    "gaps, datatype unknown": (pa.array([1, None]), None, [1.0, NAN], {}),
    "integers stay": (pa.array([1, 2]), None, [1, 2], {}),
    "too exact": (pa.array([2**53 + 1, 2**53]), "FP64", [2.0**53, 2.0**53], {}),
    "too exact for 32": (pa.array([2**25 + 2**2 + 1]), "FP32", [2.0**25 + 2**2], {}),
    "rounded": (pa.array([0.1]), "FP32", [float(np.float32(0.1))], {}),
    "beyond": (pa.array([1.0, 1e300]), "FP32", None, {1: "the value 1e+300; expected FP32"}),
    "infinite": (pa.array([np.inf]), "FP32", [np.inf], {}),
    "whole": (pa.array([1.0, 2.5, None]), "INT64", None, {1: "the value 2.5", 2: "null"}),
    "range": (pa.array([255, 256, -1]), "UINT8", None, {1: "the value 256", 2: "the value -1"}),
    "64 bits": (pa.array([float(2**63)]), "INT64", None, {0: "expected INT64"}),
    "no null": (pa.array([1, None]), "INT64", None, {1: "null; expected INT64"}),
    "decimals": (pa.array([Decimal("1.25"), None]), "FP64", [1.25, NAN], {}),
    "decimals, rounded once": (
        pa.array([Decimal("19.99"), Decimal("0.07")], pa.decimal128(12, 2)),
        "FP64",
        [19.99, 0.07],
        {},
    ),
    "tiny decimals": (pa.array([Decimal("1E-18")], pa.decimal128(38, 18)), "FP64", [1e-18], {}),
    "decimal integers": (
        pa.array([Decimal(2**53 + 1), Decimal("7.00")], pa.decimal128(20, 2)),
        "INT64",
        [2**53 + 1, 7],
        {},
    ),
    "largest decimals": (pa.array([Decimal(2**64 - 1)]), "UINT64", [2**64 - 1], {}),
    "odd decimals": (
        pa.array([Decimal("1.00"), Decimal("1.50"), None, Decimal("1E+19")]),
        "INT64",
        None,
        {1: "'1.50'; expected INT64", 2: "null", 3: "expected INT64"},
    ),
    "booleans": (pa.array([True, False]), "BOOL", [True, False], {}),
    "boolean gaps": (pa.array([True, None]), "BOOL", None, {1: "null; expected BOOL"}),
    "boolean gaps, unknown": (pa.array([True, None]), None, [True, None], {}),
    "strings": (pa.array(["01", "é"], pa.large_string()), "BYTES", ["01", "é"], {}),
    "string gaps": (pa.array(["a", None]), "BYTES", None, {1: "null; expected BYTES"}),
    "bytes": (pa.array([b"a", b"\xff"]), "BYTES", ["a", b"\xff"], {}),
    "categories": (pa.array(["a", "b", "a"]).dictionary_encode(), "BYTES", ["a", "b", "a"], {}),
    "views": (pa.array(["a"], pa.string_view()), "BYTES", ["a"], {}),
    "days": (pa.array([date(2024, 2, 29)]), "BYTES", ["2024-02-29"], {}),
    "moments": (
        pa.array([datetime(2024, 1, 2, 3, 4)], pa.timestamp("s")),
        "BYTES",
        ["2024-01-02T03:04:00"],
        {},
    ),
    "zones": (
        pa.array([datetime(2024, 1, 2, tzinfo=timezone.utc)], pa.timestamp("s", "Europe/Berlin")),
        "BYTES",
        ["2024-01-02T00:00:00+00:00"],
        {},
    ),
    "nothing": (pa.nulls(2), "FP64", [NAN, NAN], {}),
    "nothing of strings": (pa.nulls(1), "BYTES", None, {0: "null"}),
}


@pytest.mark.parametrize("name", VALUES)
def test_values_are_those_of_a_v1_request(name):
    """Each kind of column becomes the datatype's array; what would change is told by its row."""
    column, datatype, expected, problems = VALUES[name]

    values, found = values_of(column, Use("x", datatype, has_nulls=False))

    assert problems.keys() == found.keys()
    assert all(problems[row] in found[row] for row in problems)
    if expected is not None:
        np.testing.assert_array_equal(np.array(expected, values.dtype), values)


TEXTS = {
    "FP64": (["1", "1e3", "-0.5", "nan", None], [1, 1000, -0.5, NAN, NAN]),
    "FP32": (["9007199254740993", "-Infinity"], [2.0**53, -np.inf]),
    "INT64": (["01", "-7"], [1, -7]),
    "INT32": (["1.0", "1e3", "-0.0", "+5."], [1, 1000, 0, 5]),
    "UINT64": (["18446744073709551615", "9007199254740993.0"], [2**64 - 1, 2**53 + 1]),
    "BOOL": (["true", "false", "1"], [True, False, True]),
    "BYTES": (["01", "true", ""], ["01", "true", ""]),
}


@pytest.mark.parametrize("datatype", TEXTS)
def test_text_stands_for_what_the_model_takes(datatype):
    """CSV has strings, and the model says what they are."""
    texts, expected = TEXTS[datatype]

    values, found = values_of(pa.array(texts), Use("x", datatype), is_text=True)

    assert {} == found
    np.testing.assert_array_equal(np.array(expected, values.dtype), values)


@pytest.mark.parametrize(
    ("datatype", "text"),
    [
        ("FP64", "1,5"),
        ("FP64", " 1"),
        ("FP64", "one"),
        ("FP64", "1e400"),
        ("FP64", "-1.7976931348623159e308"),
        ("FP64", "9" * 400),
        ("FP64", "0x1F"),
        ("FP64", "1_0"),
        ("INT64", "1.5"),
        ("INT64", "1e999999999"),
        ("INT64", "0x1F"),
        ("INT64", "\u0661"),
        ("INT64", "inf"),
        ("INT64", "9223372036854775808"),
        ("UINT8", "256"),
        ("BOOL", "yes"),
        ("FP64", ""),
    ],
)
def test_text_that_stands_for_nothing_is_told(datatype, text):
    """Nothing is trimmed, rounded or guessed, and the others are converted."""
    values, found = values_of(pa.array(["1", text, "1"]), Use("x", datatype), is_text=True)

    assert {1: f"column 'x' has '{text[:60]}'; expected {datatype}"} == found
    assert [1, 1] == [values[0], values[2]]


KINDS = {
    "strings for numbers": (pa.string(), Use("x", "FP64"), "expects FP64, and nothing is conv"),
    "numbers for strings": (pa.int64(), Use("x", "BYTES"), "expects BYTES"),
    "booleans for numbers": (pa.bool_(), Use("x", "FP32"), "expects FP32"),
    "dates for numbers": (pa.timestamp("ns"), Use("x", "FP64"), "expects FP64"),
    "structs": (pa.struct([("a", pa.int64())]), Use("x"), "expected numbers, booleans, strings"),
    "lists for values": (pa.list_(pa.int64()), Use("x"), "expects a plain value in each row"),
    "values for lists": (pa.int64(), Use("x", "FP32", (3,)), "expects a list nested 1 deep"),
    "strings in lists": (pa.list_(pa.string()), Use("x", "FP32", (3,)), "expects FP32"),
}


@pytest.mark.parametrize("name", KINDS)
def test_columns_of_another_kind_are_refused_before_any_row(name):
    """The message has the column, its type and what the model expects."""
    kind, use, says = KINDS[name]

    with pytest.raises(InvalidInput) as error:
        check_kind("x", kind, use, "'m' version v1")

    assert str(error.value).startswith(f"column 'x' is {kind}; ")
    assert says in str(error.value)


def test_lists_become_one_array():
    """Lists of any layout; a row that is null, short or has a gap is told by its number."""
    rows = [[1.0, 2.0], None, [3.0], [4.0, 5.0]]

    values, found = values_of(pa.array(rows), Use("x", "FP64", (2,)))

    assert {1, 2} == found.keys()
    assert [[1, 2], [4, 5]] == [values[0].tolist(), values[3].tolist()]
    for layout in (pa.list_(pa.float64(), 2), pa.large_list(pa.int32())):
        even, none = values_of(pa.array([[1, 2], [3, 4]], layout), Use("x", "FP32", (2,)))
        assert {} == none
        assert np.float32 == even.dtype
        assert [[1, 2], [3, 4]] == even.tolist()


def test_decimals_are_the_nearest_numbers():
    """Two thousand decimals, each as Python reads its text."""
    numbers = np.random.default_rng(0).integers(-(10**17), 10**17, 2000).tolist()
    decimals = [Decimal(number).scaleb(-(at % 18)) for at, number in enumerate(numbers)]

    values, found = values_of(pa.array(decimals, pa.decimal128(38, 18)), Use("x", "FP64"))

    assert {} == found
    assert list(map(float, decimals)) == values.tolist()


def test_a_column_of_other_writing_is_parsed():
    """Whole numbers written with a point, in every row."""
    texts = [f"{number}.0" for number in range(5000)]

    values, found = values_of(pa.array(texts), Use("x", "INT64"), is_text=True)

    assert {} == found
    assert list(range(5000)) == values.tolist()
