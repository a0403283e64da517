"""V2 bodies with raw tensors behind their JSON part."""

import struct

import numpy as np
import orjson
import pytest

from bundleserver.errors import InvalidInput
from bundleserver.serving.codecs import v2
from bundleserver.serving.codecs.tensor_binary import array_from_bytes, bytes_from_array
from bundleserver.serving.requests import PredictRequest, PredictResponse, RequestedOutput
from bundleserver.tensors import NUMPY_DTYPES

INPUT = {"name": "x", "datatype": "FP64", "shape": [2]}
CONTENT = np.array([1.5, np.nan]).tobytes()


def decode(
    item: dict[str, object], size: object, content: bytes, header: object = None
) -> PredictRequest:
    """Decode one raw input; the header is right unless it is given."""
    head = orjson.dumps({"inputs": [{**item, "parameters": {"binary_data_size": size}}]})
    length = str(len(head)) if header is None else header
    return v2.decode_request(head + content, "m", None, length if length != "missing" else None)


def test_decode_takes_raw_values_as_they_are():
    """Raw numbers arrive bit by bit, NaN too, in an array that a model may write to."""
    tensors = decode(INPUT, 16, CONTENT).tensors

    assert tensors is not None
    assert CONTENT == tensors[0].values.tobytes()
    assert np.float64 == tensors[0].values.dtype
    assert tensors[0].values.flags.writeable
    assert tensors[0].values.flags.aligned


def test_decode_takes_raw_and_json_inputs_side_by_side():
    """Raw contents follow each other in the order of their inputs, between inputs in JSON."""
    raw = {"parameters": {"binary_data_size": 4}, "datatype": "INT32", "shape": [1]}
    head = orjson.dumps(
        {
            "inputs": [
                {"name": "a", **raw},
                {"name": "b", "datatype": "INT64", "shape": [1], "data": [5]},
                {"name": "c", **raw},
            ]
        }
    )
    body = head + struct.pack("<ii", 7, -8)

    request = v2.decode_request(body, "m", None, str(len(head)))

    assert [7, 5, -8] == [int(tensor.values[0]) for tensor in request.tensors or ()]


@pytest.mark.parametrize(
    ("item", "size", "content", "header", "said"),
    [
        (INPUT, 16, CONTENT, "abc", "'abc'; expected the size"),
        (INPUT, 16, CONTENT, "-3", "'-3'"),
        (INPUT, 16, CONTENT, "9" * 5000, "expected the size of"),
        (INPUT, 16, CONTENT, "٣", "expected the size"),
        (INPUT, 16, CONTENT, "99999", "is 99999; expected at most"),
        (INPUT, 16, CONTENT, "5", "not valid JSON"),
        (INPUT, 16, CONTENT, "0", "body is empty"),
        (INPUT, 16, b"", "missing", "'Inference-Header-Content-Length' .* is missing"),
        (INPUT, 17, CONTENT, None, "binary_data_size is 17; expected at most 16"),
        (INPUT, 16, CONTENT + b"z", None, "1 bytes are left after the inputs"),
        (INPUT, 15, CONTENT[:-1], None, r"has 15 bytes; expected 16 for FP64 of shape \[2\]"),
        (INPUT, -1, CONTENT, None, "binary_data_size is the number -1"),
        (INPUT, 16.0, CONTENT, None, "binary_data_size is the number 16.0"),
        (INPUT, True, CONTENT, None, "binary_data_size is true"),
        (INPUT, None, CONTENT, None, "binary_data_size is null"),
        (INPUT, "16", CONTENT, None, "binary_data_size is the string '16'"),
        (
            {**INPUT, "shape": [10**15, 10**6]},
            16,
            CONTENT,
            None,
            "has 16 bytes; expected [0-9]+ for FP64 of shape",
        ),
        ({**INPUT, "data": [1, 2]}, 16, CONTENT, None, "both 'data' and binary_data_size"),
        ({**INPUT, "datatype": "BOOL"}, 2, b"\x01\x02", None, "expected bytes 0 and 1"),
        ({**INPUT, "datatype": "BYTES"}, 3, b"\1\0\0", None, "truncated in element 0"),
        ({**INPUT, "datatype": "BYTES"}, 5, b"\2\0\0\0a", None, "truncated in element 0"),
        ({**INPUT, "datatype": "BYTES"}, 9, b"\1\0\0\0a\xff\xff\xff\xff", None, "element 1"),
        (
            {**INPUT, "datatype": "BYTES"},
            5,
            b"\1\0\0\0a",
            None,
            r"has 1 values; expected 2 for its shape \[2\]",
        ),
    ],
)
def test_decode_refuses_raw_bytes_that_do_not_add_up(item, size, content, header, said):
    """Lengths that contradict each other are refused by a sentence that names them."""
    with pytest.raises(InvalidInput, match=said):
        decode(item, size, content, header)


@pytest.mark.parametrize("datatype", sorted(set(NUMPY_DTYPES) - {"BYTES"}))
def test_raw_numbers_survive_a_round_trip(datatype):
    """Bytes out and in again are the same array."""
    values = np.array([[0, 1, 1], [1, 0, 1]]).astype(NUMPY_DTYPES[datatype])

    again = array_from_bytes(bytes_from_array(values), datatype, (2, 3), "x")

    assert values.dtype == again.dtype
    assert values.tolist() == again.tolist()


def test_raw_texts_survive_a_round_trip():
    """Text comes back as text, and bytes that are no text as bytes."""
    values = np.array([["ü", ""], [b"\xff", "a\0"]], dtype=object)

    again = array_from_bytes(bytes_from_array(values), "BYTES", (2, 2), "x")

    assert values.tolist() == again.tolist()


def test_raw_bytes_are_little_endian_and_row_major():
    """The wire has one byte order whatever the array's layout is."""
    values = np.array([[1, 2], [3, 4]], dtype=">i2").T

    assert struct.pack("<4h", 1, 3, 2, 4) == bytes_from_array(values)


def respond(**asked: object) -> tuple[dict[str, object], bytes]:
    """Encode two outputs and split the body into its JSON part and its raw part."""
    response = PredictResponse(
        "m", "1", {"a": np.array([1.5, np.nan]), "b": np.array(["x"], dtype=object)}
    )
    encoded = v2.encode_response(response, PredictRequest("m", **asked))
    length = encoded.header_length or len(encoded.body)
    return orjson.loads(encoded.body[:length]), encoded.body[length:]


def test_encode_answers_raw_where_the_request_asks_for_all_outputs():
    """``binary_data_output`` makes every output raw, behind the JSON part, in order."""
    document, raw = respond(parameters={"binary_data_output": True})

    outputs = document["outputs"]
    assert [{"binary_data_size": 16}, {"binary_data_size": 5}] == [o["parameters"] for o in outputs]
    assert all("data" not in output for output in outputs)
    assert CONTENT + b"\1\0\0\0x" == raw


def test_encode_lets_one_output_differ_from_the_rest():
    """An output's own ``binary_data`` goes before the request's ``binary_data_output``."""
    document, raw = respond(
        parameters={"binary_data_output": True},
        outputs=(RequestedOutput("a", False), RequestedOutput("b")),
    )

    assert [1.5, None] == document["outputs"][0]["data"]
    assert b"\1\0\0\0x" == raw


def test_encode_answers_a_requested_output_raw():
    """``binary_data`` makes one output raw."""
    document, raw = respond(outputs=(RequestedOutput("a", True),))

    assert 16 == document["outputs"][0]["parameters"]["binary_data_size"]
    assert CONTENT == raw
