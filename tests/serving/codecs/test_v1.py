"""V1 bodies."""

import json
from pathlib import Path

import numpy as np
import pytest

from bundleserver.errors import InvalidInput
from bundleserver.serving.codecs import json_body, v1
from bundleserver.serving.requests import PredictResponse


def answer(**outputs: np.ndarray) -> PredictResponse:
    """Answer row by row with these outputs."""
    return PredictResponse("m", "1", outputs)


@pytest.mark.parametrize("key", ["instances", "inputs"])
def test_decode_takes_rows_under_either_key(key):
    """KServe's two spellings of V1 rows mean the same."""
    request = v1.decode_request({key: [[1, 2]], "parameters": {"content_type": "pd"}}, "m", "v2")

    assert [[1, 2]] == request.rows
    assert ("m", "v2", None) == (request.model, request.version, request.tensors)
    assert {"content_type": "pd"} == request.parameters


@pytest.mark.parametrize(
    ("document", "rows"),
    [
        ({"dataframe_records": [{"a": 1}, {"a": 2}]}, [{"a": 1}, {"a": 2}]),
        (
            {"dataframe_split": {"index": [7], "columns": ["a", "b"], "data": [[1, None]]}},
            [{"a": 1, "b": None}],
        ),
        ({"dataframe_split": {"data": [[1, 2], [3, 4]]}}, [[1, 2], [3, 4]]),
        ({"dataframe_split": {"columns": [0, 1], "data": [[1, 2]]}}, [{"0": 1, "1": 2}]),
    ],
)
def test_decode_takes_the_tables_of_mlflow(document, rows):
    """MLflow's two forms of a DataFrame are rows by column."""
    assert rows == v1.decode_request(document, "m", None).rows


def test_a_long_split_is_decoded_as_a_short_one():
    """An array of numbers that would be decoded apart is decoded as a whole inside a split."""
    data = [[i, i / 3] for i in range(3000)]
    body = json.dumps({"dataframe_split": {"columns": ["a", "b"], "data": data}}).encode()

    request = json_body.decode(body, lambda document: v1.decode_request(document, "m", None))

    assert [{"a": a, "b": b} for a, b in data] == request.rows


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"instances": [[1]], "dataframe_split": {"data": [[1]]}}, "either 'instances' or"),
        ({"dataframe_split": [[1]]}, "'dataframe_split' is not valid"),
        ({"dataframe_split": {"columns": ["a"]}}, "'dataframe_split' is not valid"),
        ({"dataframe_split": {"columns": "a", "data": [[1]]}}, "'dataframe_split' is not valid"),
        ({"dataframe_split": {"columns": ["a", "a"], "data": []}}, "the column 'a' twice"),
        (
            {"dataframe_split": {"columns": ["a"], "data": [[1], [1, 2]]}},
            r"data\[1\] has 2 values; expected 1",
        ),
        ({"dataframe_split": {"columns": ["a"], "data": [3]}}, r"data\[0\] has the number 3"),
        ({"dataframe_records": {"a": 1}}, "'dataframe_records' is an object"),
        ({}, "an array of rows; got none"),
        ({"instance": [], "signature_name": "x"}, "'instance', 'signature_name'"),
        ({"instances": [[1]], "inputs": [[1]]}, "either 'instances' or 'inputs'"),
        ({"instances": {"a": 1}}, "'instances' is an object"),
        ({"inputs": None}, "'inputs' is null"),
        ({"instances": "x"}, "'instances' is the string 'x'"),
        ({"instances": [[1]], "parameters": 3}, "'parameters' is the number 3"),
    ],
)
def test_decode_refuses_other_bodies(document, said):
    """A body without rows is refused by a sentence that names what came."""
    with pytest.raises(InvalidInput, match=said):
        v1.decode_request(document, "m", None)


def test_one_output_answers_plain_values():
    """One output is a list of plain values."""
    answered = v1.predictions(answer(label=np.array([1, -1])))

    assert {"predictions": [1, -1]} == answered


def test_several_outputs_answer_one_object_for_each_row():
    """Several outputs are objects, one for each row, in the order of the outputs."""
    labels = np.array(["a", b"b"], dtype=object)

    answered = v1.predictions(answer(label=labels, score=np.array([[1.5, 2.0], [3.0, 4.0]])))

    expected = [{"label": "a", "score": [1.5, 2.0]}, {"label": "b", "score": [3.0, 4.0]}]
    assert {"predictions": expected} == answered
    assert ["label", "score"] == list(answered["predictions"][0])


def test_a_forecaster_answers_one_object_for_each_instance():
    """A model that is not rowwise answers what it answered for each instance, arrays made plain."""
    dates = np.array(["2024-01-01"], dtype=object)
    response = PredictResponse(
        "m", "1", rowwise=False, answers=[{"mean": np.array([1.0]), "ds": dates}, {"mean": [2.0]}]
    )

    answered = v1.predictions(response)

    assert {"predictions": [{"mean": [1.0], "ds": ["2024-01-01"]}, {"mean": [2.0]}]} == answered


def test_outputs_of_different_lengths_are_never_cut():
    """Rows are not made of outputs whose lengths differ; the error names the lengths."""
    with pytest.raises(ValueError, match="'b': 1"):
        v1.predictions(answer(a=np.zeros(2), b=np.zeros(1)))


def test_nan_and_infinity_are_null():
    """JSON has neither NaN nor infinity."""
    body = json_body.encode(v1.predictions(answer(x=np.array([1.0, np.nan, -np.inf]))))

    assert b'{"predictions":[1.0,null,null]}' == body


def test_dates_are_iso_8601():
    """Dates are text, not nanoseconds."""
    dates = np.array(["2024-01-02T03:04:05"], dtype="datetime64[ns]")

    answered = v1.predictions(answer(ds=dates))

    assert {"predictions": ["2024-01-02T03:04:05.000000000"]} == answered


def test_bytes_that_json_cannot_carry_are_refused():
    """Bytes that are not UTF-8 are refused by name instead of being replaced."""
    with pytest.raises(InvalidInput, match="output 'x' has bytes that are not UTF-8"):
        v1.predictions(answer(x=np.array([b"\xff"], dtype=object)))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.array(["a", None], dtype=object), ["a", None]),
        (np.array([[1, 2], [3, 4]]).T, [[1, 3], [2, 4]]),
        (np.array(["2024-01-02"], dtype="datetime64[D]"), ["2024-01-02T00:00:00"]),
        (np.float32(0.5), 0.5),
        ((1, 2), [1, 2]),
        (b"\xff", "\ufffd"),
        (Path("/mnt/models"), "/mnt/models"),
    ],
    ids=["objects", "transposed", "dates", "scalar", "tuple", "bytes", "path"],
)
def test_whatever_metadata_hold_can_be_printed(value, expected):
    """A document is printed whole, whatever kinds of values stand in it."""
    assert {"value": expected} == json.loads(json_body.encode({"value": value}))


def test_a_forecaster_without_single_answers_answers_one_object():
    """Outputs that are not row by row stay together."""
    response = PredictResponse("m", "1", {"mean": np.zeros(2), "step": np.zeros(1)}, rowwise=False)

    assert {"predictions": [{"mean": [0.0, 0.0], "step": [0.0]}]} == v1.predictions(response)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "body is empty"),
        (b"[1]", "body is an array"),
        (b'{"instances": [NaN]}', "not valid JSON"),
        (b'{"instances": [1]', "not valid JSON"),
        (b"\xff\xfe", "not valid JSON"),
        (b'{"instances": ' + b"[" * 5000 + b"]" * 5000 + b"}", "not valid JSON"),
        (b'{"instances": [1' + b"0" * 5000 + b"]}", "not valid JSON"),
    ],
)
def test_a_body_that_is_no_json_object_is_refused(body, said):
    """What does not parse is the caller's to mend, however deep or long it is."""
    with pytest.raises(InvalidInput, match=said):
        json_body.decode_object(body)


@pytest.mark.parametrize(
    "shape", [(2**14 + 1,), (50_000, 1), (3, 20_000), (1, 2, 17_000), (20_000, 0)]
)
@pytest.mark.parametrize("kind", ["f8", "i8", "O"])
def test_a_long_output_is_printed_as_a_short_one(shape, kind):
    """What is printed in pieces is what is printed at once."""
    values = (np.arange(np.prod(shape)) % 7 / 3).astype(kind).reshape(shape)
    response = PredictResponse("m", "1", {"y": values})

    assert json_body.encode(v1.predictions(response)) == v1.encode_response(response)
