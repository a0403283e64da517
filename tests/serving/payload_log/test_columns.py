"""Arrays as columns of Arrow, and back, with every bit."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from bundleserver.serving.payload_log.rows.columns import array_of, arrow_column, dtype_name

RNG = np.random.default_rng(3)


def column_of(*arrays):
    """Make a column as a signature declares it: halves are floats, and all but numbers texts."""
    dtype = np.dtype(np.float32) if arrays[0].dtype == np.float16 else arrays[0].dtype
    leaf = pa.from_numpy_dtype(dtype.newbyteorder("=")) if dtype.kind in "biuf" else pa.string()
    return arrow_column(arrays, leaf, arrays[0].ndim - 1)


ARRAYS = [
    np.array([1.5, np.nan, -0.0, np.inf]),
    np.array([1e-45, 3.4e38], dtype=np.float32),
    np.array([65504, 1e-7], dtype=np.float16),
    np.array([2**63, 0], dtype=np.uint64),
    np.array([True, False]),
    np.array([[1, 2], [3, 4], [5, 6]], dtype=np.int8),
    RNG.random((4, 3, 2)),
    RNG.random((2, 3, 1, 2)).astype(np.float32),
    np.zeros((3, 0)),
    np.array(["a", "größer", ""], dtype=object),
    np.array([["a", None], ["c", "d"]], dtype=object),
    RNG.random((4, 6))[:, ::2],
]


@pytest.mark.parametrize("array", ARRAYS, ids=lambda a: f"{a.dtype}{list(a.shape)}")
def test_an_array_comes_back_as_it_was(array):
    """Datatype, shape and every value are the same, also of NaN, of halves and of nulls."""
    column = column_of(array)
    back = array_of(column, dtype_name(array))

    assert (array.dtype, array.shape) == (back.dtype, back.shape)
    if array.dtype == object:
        assert array.tolist() == back.tolist()
    else:
        assert array.tobytes() == back.tobytes()


def test_arrays_one_after_the_other_are_one_column():
    """Rows of several requests are one column, also where they have sequences of other lengths."""
    flat = [np.array([1.0]), np.array([2.0, 3.0])]
    ragged = [np.ones((1, 2)), np.ones((2, 3))]

    assert [1.0, 2.0, 3.0] == column_of(*flat).to_pylist()
    assert [[1, 1], [1, 1, 1], [1, 1, 1]] == column_of(*ragged).to_pylist()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b"\xff\x00", "\\xff\x00"),
        ("\ud800", "\\ud800"),
        (3, "3"),
        (None, None),
        ({"a": 1}, "{'a': 1}"),
    ],
)
def test_any_object_is_text(value, text):
    """What a model answers with is text at worst, and always valid UTF-8."""
    array = np.empty(1, dtype=object)
    array[0] = value

    assert [text] == column_of(array).to_pylist()


@pytest.mark.parametrize(
    ("array", "texts"),
    [
        (np.array(["2026-11-29T13:00"], dtype="datetime64[ns]"), ["2026-11-29T13:00:00.000000000"]),
        (np.array(["ab"]), ["ab"]),
        (np.array([1 + 2j]), ["(1+2j)"]),
    ],
)
def test_what_has_no_datatype_is_text(array, texts):
    """Dates, numpy's own texts and complex numbers are readable."""
    assert texts == column_of(array).to_pylist()


def test_the_order_of_bytes_does_not_matter():
    """Numbers of another machine's order are the same numbers."""
    array = np.array([1.0, 2.0]).astype(">f8")

    assert [1.0, 2.0] == column_of(array).to_pylist()


@pytest.mark.parametrize(
    ("array", "leaf", "values"),
    [
        (np.array([1, 2]), pa.float64(), [1.0, 2.0]),
        (np.array([True]), pa.float64(), [1.0]),
        (np.array([3.0, 4.0]), pa.int64(), [3, 4]),
        (np.array([3.5]), pa.int64(), None),
        (np.array([300]), pa.int8(), None),
        (np.array([0.1]), pa.float32(), None),
        (
            np.array([0.5, np.nan], np.float64),
            pa.float32(),
            [0.5, pytest.approx(np.nan, nan_ok=True)],
        ),
        (np.array([1, None, 2.5], dtype=object), pa.float64(), [1.0, None, 2.5]),
        (np.array([True, None], dtype=object), pa.bool_(), [True, None]),
        (np.array([None, None], dtype=object), pa.string(), [None, None]),
        (np.array(["1"], dtype=object), pa.float64(), None),
        (np.array([10**30], dtype=object), pa.float64(), None),
        (np.array([1.0]), pa.string(), None),
        (np.array([np.nan]), pa.string(), [None]),
        (np.ones((2, 1)), pa.float64(), None),
    ],
)
def test_a_column_of_a_declared_type_has_the_same_values_or_is_none(array, leaf, values):
    """A value is never changed to fit."""
    made = arrow_column([array], leaf, 0)

    assert values == (None if made is None else made.to_pylist())
