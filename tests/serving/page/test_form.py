"""Which fields a signature has, what stands in them, and the line of curl that sends it."""

from __future__ import annotations

import json
import shlex

import numpy as np
import pytest

from bundleserver.serving.page.form import MOST_FIELDS, Form, Layout, form_inputs
from bundleserver.serving.page.form_curl import example_curl
from bundleserver.serving.page.form_examples import choices_of, example_row, forecast_row
from bundleserver.tensors import NamedTensor, TensorSpec
from bundleserver.tensors.signature import Signature

TABLE = TensorSpec("x", "FP64", (-1, 2), ("amount", "age"))
MIXED = TensorSpec(
    "x", "BYTES", (-1, 3), ("city", "size", "new"), column_datatypes=("BYTES", "FP64", "BOOL")
)
WIDE = TensorSpec("x", "FP64", (-1, MOST_FIELDS + 1))
PAIR = TensorSpec("x", "INT64", (-1, 2))


@pytest.mark.parametrize(
    ("spec", "layout", "fields"),
    [
        (TABLE, Layout.COLUMNS, [("amount", "number"), ("age", "number")]),
        (MIXED, Layout.COLUMNS, [("city", "string"), ("size", "number"), ("new", "boolean")]),
        (PAIR, Layout.VALUES, [("x[0]", "integer"), ("x[1]", "integer")]),
        (TensorSpec("x", "UINT8", (-1,)), Layout.VALUE, [("x", "integer")]),
        (TensorSpec("text", "BYTES", (-1,)), Layout.VALUE, [("text", "string")]),
        (TensorSpec("x", None, (-1,)), Layout.VALUE, [("x", "any")]),
        (TensorSpec("x", "FP32", (-1, 30, 3)), Layout.JSON, [("x", "json")]),
        (TensorSpec("x", "FP32", (-1, -1)), Layout.JSON, [("x", "json")]),
        (TensorSpec("x"), Layout.JSON, [("x", "json")]),
        (WIDE, Layout.JSON, [("x", "json")]),
        (TensorSpec("x", "FP64", (-1, 2), ("a", "a")), Layout.JSON, [("x", "json")]),
        (TensorSpec("x", "FP64", (-1, 1), ("x",)), Layout.VALUES, [("x", "number")]),
    ],
)
def test_an_input_has_the_fields_of_its_row(spec, layout, fields):
    """A table has its columns, a short array its positions, and anything else is JSON."""
    (made,) = form_inputs(Signature((spec,)))

    assert (layout, fields) == (made.layout, [(each.name, each.kind) for each in made.fields])


@pytest.mark.parametrize(
    ("spec", "layout"),
    [
        (TensorSpec("horizon", "INT64", (1,), optional=True), Layout.SCALAR),
        (TensorSpec("ds", "BYTES", (-1,), optional=True), Layout.LIST),
        (TensorSpec("x", "FP64", ()), Layout.SCALAR),
        (TensorSpec("x", "FP64", (2, 2)), Layout.JSON),
    ],
)
def test_an_input_without_rows_is_one_field(spec, layout):
    """A horizon is a value, dates are a list."""
    (made,) = form_inputs(Signature((spec,), rowwise=False))

    assert (layout, spec.optional) == (made.layout, made.fields[0].optional)


def test_columns_without_effect_may_stay_empty():
    """A table whose columns are not all used has optional fields."""
    spec = TensorSpec("x", "FP64", (-1, 2), ("used", "ignored"), required_columns=("used",))
    (made,) = form_inputs(Signature((spec,), lenient=True))

    assert [False, True] == [field.optional for field in made.fields]


def test_several_inputs_share_the_fields_of_a_row():
    """A row has no more fields than a person can fill in, over all of its inputs."""
    many = TensorSpec("many", "FP64", (-1, MOST_FIELDS))
    made = form_inputs(Signature((TABLE, many)))

    assert [Layout.VALUES, Layout.JSON] == [each.layout for each in made]


def test_examples_are_texts_that_keep_what_a_value_is():
    """A number is a number again, a missing one is NaN, a boolean a word."""
    inputs = form_inputs(Signature((MIXED,)))
    values = np.array([["Graz", float("nan"), True], ["Wien", 1.0, False]], dtype=object)
    sample = [NamedTensor("x", values, MIXED.columns)]

    assert (("Graz", "NaN", "true"),) == example_row(inputs, sample, rounded=True)
    assert [["Graz", "Wien"], [], []] == choices_of(inputs[0], sample)


def test_what_is_missing_in_an_example_is_no_empty_text():
    """A missing string or boolean is None, which is null; a missing number is NaN."""
    inputs = form_inputs(Signature((MIXED,)))
    values = np.array([[None, None, None], ["", 1.0, True]], dtype=object)
    sample = [NamedTensor("x", values, MIXED.columns)]

    assert ((None, "NaN", None),) == example_row(inputs, sample, rounded=False)
    assert (("", "1", "true"),) == example_row(
        inputs, [NamedTensor("x", values[1:], MIXED.columns)], rounded=False
    )


@pytest.mark.parametrize(
    "value",
    [
        "",
        "a",
        "12",
        "true",
        "null",
        "NaN",
        '"a"',
        " 1",
        "Infinity",
        "[1]",
        None,
        True,
        1,
        1.0,
        1e-9,
    ],
)
def test_a_value_of_any_kind_is_itself_again(value):
    """Where nothing is declared, a string that looks like a number stays one, and 1.0 is no 1."""
    spec = TensorSpec("x", None, (-1, 2), ("a", "b"))
    inputs = form_inputs(Signature((spec,)))
    sample = [NamedTensor("x", np.array([[value, "b"]], dtype=object), spec.columns)]
    form = Form("m", "1", True, inputs, (), rows=(example_row(inputs, sample, rounded=False),))
    sent = json.loads(shlex.split(example_curl(form))[-1])["instances"][0]["a"]

    assert (type(value), value) == (type(sent), sent)


def test_many_columns_that_differ_in_datatype_are_told():
    """V2 has a tensor for each of them, which the form makes of a row of JSON."""
    count = MOST_FIELDS + 1
    names = tuple(f"c{place}" for place in range(count))
    kinds = ("BYTES", *["FP64"] * (count - 1))
    spec = TensorSpec("x", "BYTES", (-1, count), names, column_datatypes=kinds)
    (made,) = form_inputs(Signature((spec,)))

    assert (Layout.JSON, True) == (made.layout, made.split)
    assert tuple(zip(names, kinds, strict=True)) == made.columns


def test_made_up_numbers_are_short_and_recorded_ones_whole():
    """Six digits are enough for what nobody measured."""
    inputs = form_inputs(Signature((TensorSpec("x", "FP64", (-1,)),)))
    sample = [NamedTensor("x", np.array([0.123456789]))]

    assert (("0.123457",),) == example_row(inputs, sample, rounded=True)
    assert (("0.123456789",),) == example_row(inputs, sample, rounded=False)


def test_an_example_of_a_sequence_is_json():
    """A missing number is null there, and one that is too large for a person is left out."""
    inputs = form_inputs(Signature((TensorSpec("x", "FP64", (-1, 2, 2)),)))
    row = np.array([[[0.5, float("nan")], [1, 2]]])
    large = np.zeros((1, 200, 200))
    tiny = np.array([[[1e-6, 0.123456789], [2**53, 1]]])

    assert (("[[0.5, null], [1.0, 2.0]]",),) == example_row(
        inputs, [NamedTensor("x", row)], rounded=False
    )
    assert (("",),) == example_row(inputs, [NamedTensor("x", large)], rounded=False)
    for rounded, text in ((False, "0.123456789"), (True, "0.123457")):
        ((shown,),) = example_row(inputs, [NamedTensor("x", tiny)], rounded=rounded)
        assert shown.startswith(f"[[1e-06, {text}], [")


def test_a_forecasts_example_has_a_value_for_each_step():
    """A regressor's last value is repeated; the horizon is not above the model's maximum."""
    specs = (
        TensorSpec("horizon", "INT64", (1,), optional=True),
        TensorSpec("ds", "BYTES", (-1,), optional=True),
        TensorSpec("price", "FP64", (-1,)),
    )
    inputs = form_inputs(Signature(specs, rowwise=False))
    sample = [NamedTensor("horizon", np.ones(1)), NamedTensor("price", np.array([0.5]))]

    assert (("3",), ("",), ("0.5\n0.5\n0.5",)) == forecast_row(inputs, sample, 3)


@pytest.mark.parametrize(
    ("specs", "rows", "instances"),
    [
        ((TABLE,), ((("1", "NaN"),),), [{"amount": 1, "age": None}]),
        ((TensorSpec("t", "BYTES", (-1,)),), ((("it's",),),), ["it's"]),
        ((TensorSpec("t", "BYTES", (-1,)),), (((None,),),), [None]),
        ((MIXED,), (((None, "NaN", "false"),),), [{"city": None, "size": None, "new": False}]),
        ((MIXED,), ((("", "false", None),),), [{"city": "", "size": False, "new": None}]),
        ((PAIR,), ((("9007199254740993", "2"),),), [[2**53 + 1, 2]]),
        (
            (TensorSpec("a", "FP64", (-1,)), TensorSpec("b", "FP64", (-1, 2, 2))),
            ((("1.5",), ("[[1, 2], [3, 4]]",)),),
            [{"a": 1.5, "b": [[1, 2], [3, 4]]}],
        ),
    ],
)
def test_curl_sends_the_example(specs, rows, instances):
    """The line is what a shell reads as one request, whatever names and values have in them."""
    form = Form("it's; $(x)", "1", True, form_inputs(Signature(specs)), ("y",), rows=rows)
    words = shlex.split(example_curl(form))

    assert words[1] == "http://localhost:8080/v1/models/it%27s%3B%20%24%28x%29:predict"
    assert {"instances": instances} == json.loads(words[-1])


def test_without_an_example_there_is_no_curl():
    """Nothing is made up where nothing is known, or only a part."""
    assert not example_curl(Form("m", "1", True, (), ("y",)))
    inputs = form_inputs(Signature((TABLE,)))
    assert not example_curl(Form("m", "1", True, inputs, ("y",), rows=((("1", ""),),)))
