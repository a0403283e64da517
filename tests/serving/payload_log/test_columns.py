"""Arrays as columns of Arrow, and back, with every bit."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from bundleserver.serving.payload_log.columns import array_of, arrow_column, type_of

RNG = np.random.default_rng(3)
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
    column = arrow_column([array], type_of(array))
    back = array_of(column, array.dtype.str)

    assert (array.dtype, array.shape) == (back.dtype, back.shape)
    if array.dtype == object:
        assert array.tolist() == back.tolist()
    else:
        assert array.tobytes() == back.tobytes()


def test_arrays_one_after_the_other_are_one_column():
    """Rows of several requests are one column, also where they have sequences of other lengths."""
    flat = [np.array([1.0]), np.array([2.0, 3.0])]
    ragged = [np.ones((1, 2)), np.ones((2, 3))]

    assert [1.0, 2.0, 3.0] == arrow_column(flat, type_of(flat[0])).to_pylist()
    assert [[1, 1], [1, 1, 1], [1, 1, 1]] == arrow_column(ragged, type_of(ragged[0])).to_pylist()


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

    assert [text] == arrow_column([array], pa.string()).to_pylist()


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
    assert pa.string() == type_of(array)
    assert texts == arrow_column([array], type_of(array)).to_pylist()


def test_the_order_of_bytes_does_not_matter():
    """Numbers of another machine's order are the same numbers."""
    array = np.array([1.0, 2.0]).astype(">f8")

    assert [1.0, 2.0] == arrow_column([array], type_of(array)).to_pylist()
