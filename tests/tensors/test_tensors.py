import numpy as np
import pytest

from bundleserver.errors import InvalidInput
from bundleserver.tensors import (
    NUMPY_DTYPES,
    TensorSpec,
    array_from_rows,
    datatype_of,
    is_widening,
)

TAKER = "'fraud' version 7"


@pytest.mark.parametrize(("datatype", "dtype"), NUMPY_DTYPES.items())
def test_datatype_of_names_each_datatype_of_the_protocol(datatype, dtype):
    """Every protocol datatype is recognised from the numpy dtype that holds it."""
    assert datatype == datatype_of(np.zeros(2, dtype))


@pytest.mark.parametrize(
    "values", [np.array(["a", "bc"]), np.array([b"a"]), np.array(["a"], object)]
)
def test_datatype_of_calls_text_bytes(values):
    """Text of any numpy kind is BYTES."""
    assert "BYTES" == datatype_of(values)


def test_datatype_of_big_endian_floats_is_their_datatype():
    """Byte order is no part of a datatype."""
    assert "FP64" == datatype_of(np.zeros(2, ">f8"))


def test_datatype_of_complex_numbers_is_an_error():
    """A dtype that the protocol lacks is refused by name."""
    with pytest.raises(TypeError, match="complex128"):
        datatype_of(np.zeros(2, complex))


@pytest.mark.parametrize(
    ("came", "wanted", "lossless"),
    [
        ("INT8", "INT64", True),
        ("INT32", "FP64", True),
        ("FP32", "FP64", True),
        ("FP16", "FP32", True),
        ("UINT8", "INT16", True),
        ("INT16", "FP32", True),
        ("INT64", "FP64", False),
        ("INT32", "FP32", False),
        ("UINT64", "INT64", False),
        ("FP64", "FP32", False),
        ("FP64", "INT64", False),
        ("BOOL", "INT64", False),
        ("BYTES", "FP64", False),
    ],
)
def test_is_widening_allows_only_what_loses_nothing(came, wanted, lossless):
    """A datatype is widened where every value survives, and nowhere else."""
    assert lossless == is_widening(came, wanted)


@pytest.mark.parametrize(
    ("spec", "array", "sentence"),
    [
        (
            TensorSpec("features", "FP64", (-1, 12)),
            np.zeros((4, 11)),
            "input 'features' has shape [4, 11]; 'fraud' version 7 expects [-1, 12]",
        ),
        (
            TensorSpec("features", "FP64", (-1, 3)),
            np.zeros(3),
            "input 'features' has shape [3]; 'fraud' version 7 expects [-1, 3]",
        ),
        (
            TensorSpec("features", "FP64"),
            np.zeros((1, 3), np.int64),
            "input 'features' has datatype INT64; 'fraud' version 7 expects FP64",
        ),
    ],
)
def test_fit_names_what_came_and_what_is_taken(spec, array, sentence):
    """A tensor that does not fit is refused in one sentence with both sides."""
    with pytest.raises(InvalidInput) as refused:
        spec.validate(array, TAKER)

    assert sentence == str(refused.value)


def test_fit_widens_the_datatype():
    """FP32 arrives as FP64 where FP64 is declared."""
    fitted = TensorSpec("x", "FP64", (-1,)).validate(np.float32([0.5]), TAKER)

    assert np.float64 == fitted.dtype


@pytest.mark.parametrize(
    ("rows", "datatype", "expected"),
    [
        ([[1, 2], [3, 4]], None, np.array([[1, 2], [3, 4]])),
        ([[1, 2.5]], None, np.array([[1.0, 2.5]])),
        ([1, 2], "FP64", np.array([1.0, 2.0])),
        ([1.0, None], "FP64", np.array([1.0, np.nan])),
        ([None, 2], None, np.array([np.nan, 2.0])),
        ([True, False], "BOOL", np.array([True, False])),
        (["a", "bc"], "BYTES", np.array(["a", "bc"], object)),
        ([2.0], "INT64", np.array([2])),
        ([[1, "red"]], None, np.array([[1, "red"]], object)),
    ],
)
def test_array_from_rows_takes_json_values(rows, datatype, expected):
    """JSON values become the declared datatype, or the natural one where none is declared."""
    values = array_from_rows(rows, TensorSpec("x", datatype), TAKER)

    assert expected.dtype == values.dtype
    np.testing.assert_array_equal(expected, values)


@pytest.mark.parametrize(
    ("rows", "datatype", "part"),
    [
        ([[1, 2], [3]], "FP64", "rows of different lengths"),
        (["1.5"], "FP64", "the value '1.5'"),
        ([True], "FP64", "the value True"),
        ([1.0, 1.5], "INT64", "the value 1.5"),
        ([None], "INT64", "has null;"),
        ([None], "BYTES", "has null;"),
        (["a", None], "BYTES", "has null;"),
        ([1, 300], "UINT8", "the value 300"),
        ([2**70], "INT64", "expects INT64"),
        ([2.0**63], "INT64", "the value 9.223372036854776e+18"),
        ([1], "BOOL", "the value 1"),
        ([1], "BYTES", "the value 1"),
        ([{"a": 1}], "FP64", "the value {'a': 1}"),
        ([0.5, "x"], "FP64", "the value 'x'"),
        ([float("1e400")], "INT64", "expects INT64"),
    ],
)
def test_array_from_rows_refuses_what_does_not_fit(rows, datatype, part):
    """A value of another kind is refused and shown."""
    with pytest.raises(InvalidInput) as refused:
        array_from_rows(rows, TensorSpec("x", datatype), TAKER)

    assert part in str(refused.value)
    assert TAKER in str(refused.value)
