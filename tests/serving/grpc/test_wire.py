"""The values of a message are counted on the wire, before protobuf builds them."""

import re

import numpy as np
import pytest
from google.protobuf.message import DecodeError

from bundleserver.errors import InvalidInput, TooManyValues
from bundleserver.serving.codecs.tensor_binary import Elements, array_from_bytes
from bundleserver.serving.grpc import open_inference as messages
from bundleserver.serving.grpc.codec import decode_request
from bundleserver.serving.grpc.wire import check_values

MOST = 1000
KIND = messages.ModelInferRequest.DESCRIPTOR


def request(**contents):
    """Make a request with one input of these contents."""
    made = messages.ModelInferRequest(model_name="m")
    made.inputs.add(name="x", datatype="INT64", shape=[1], contents=contents)
    return made


def many_parameters(count):
    """Make a request with so many parameters."""
    made = request()
    for number in range(count):
        made.parameters[str(number)].int64_param = number
    return made


def many_inputs(count):
    """Make a request with so many empty inputs."""
    made = messages.ModelInferRequest()
    for _ in range(count):
        made.inputs.add()
    return made


TOO_MANY = {
    "bools": request(bool_contents=[True] * 1500),
    "small integers": request(int64_contents=[1] * 1500),
    "large integers": request(int64_contents=[-1] * 1500),
    "unsigned": request(uint_contents=[300] * 1500),
    "floats": request(fp32_contents=[1.0] * 1500),
    "doubles": request(fp64_contents=[1.0] * 1500),
    "empty strings": request(bytes_contents=[b""] * 1500),
    "long strings": request(bytes_contents=[b"x" * 200] * 1500),
    "parameters": many_parameters(400),
    "inputs": many_inputs(600),
    "raw contents": messages.ModelInferRequest(raw_input_contents=[b""] * 1500),
    "shape": messages.ModelInferRequest(
        inputs=[messages.ModelInferRequest.InferInputTensor(shape=[1] * 1500)]
    ),
}


@pytest.mark.parametrize("kind", TOO_MANY)
def test_whatever_a_message_has_many_of_is_counted(kind):
    """Every repeated part counts, and the refusal has both numbers and the flag."""
    body = TOO_MANY[kind].SerializeToString()

    with pytest.raises(TooManyValues) as refused:
        check_values(body, KIND, MOST)

    count = int(re.search(r"has (\d+) values", str(refused.value))[1])
    assert MOST < count < 1600
    assert f"at most {MOST}" in str(refused.value)
    assert "--max_body_values" in str(refused.value)
    check_values(body, KIND, 0)
    check_values(body, KIND, 5000)


def test_unpacked_numbers_count_alike():
    """What a client does not pack is one field each."""
    field = b"\x18\x01" * 1500
    tensor = b"\x2a" + messages.InferTensorContents().SerializeToString()
    assert tensor == b"\x2a"
    size = bytes([len(field) & 0x7F | 0x80, len(field) >> 7])
    inner = b"\x2a" + size + field
    outer = bytes([len(inner) & 0x7F | 0x80, len(inner) >> 7])

    with pytest.raises(TooManyValues):
        check_values(b"\x2a" + outer + inner, KIND, MOST)


def test_raw_numbers_are_free():
    """A large raw tensor is one value."""
    made = messages.ModelInferRequest(raw_input_contents=[b"\0" * 100_000])
    made.inputs.add(name="x", datatype="FP32", shape=[25_000])

    check_values(made.SerializeToString(), KIND, MOST)

    assert (25_000,) == decode_request(made, None, MOST).tensors[0].values.shape


@pytest.mark.parametrize("seed", range(20))
def test_what_is_no_message_is_left_to_the_parser(seed):
    """Random bytes end in a count, a refusal or the parser's error, never in another one."""
    body = np.random.default_rng(seed).integers(0, 256, 5000, np.uint8).tobytes()
    try:
        check_values(body, KIND, MOST)
        messages.ModelInferRequest.FromString(body)
    except (TooManyValues, DecodeError):
        pass


def test_raw_elements_count_over_all_inputs():
    """BYTES elements of raw contents are bounded together, before they are built."""
    made = messages.ModelInferRequest(raw_input_contents=[b"\0" * 2400] * 2)
    for name in ("x", "y"):
        made.inputs.add(name=name, datatype="BYTES", shape=[600])

    with pytest.raises(TooManyValues, match=r"1200 values"):
        decode_request(made, None, MOST)
    assert 2 == len(decode_request(made, None, 1200).tensors)


def test_a_shape_cannot_hide_elements():
    """More elements than the shape has are refused at the first one; fewer cost what is there."""
    with pytest.raises(InvalidInput, match=r"more than the 2 elements"):
        array_from_bytes(b"\0" * 4000, "BYTES", (2,), "x", Elements(MOST))
    with pytest.raises(TooManyValues):
        array_from_bytes(b"\0" * 8000, "BYTES", (10**9,), "x", Elements(MOST))


def test_long_contents_are_the_same_in_pieces():
    """Numbers are converted in pieces, in their order."""
    values = np.random.default_rng(1).integers(-(2**62), 2**62, 50_000)
    made = messages.ModelInferRequest()
    made.inputs.add(
        name="x", datatype="INT64", shape=[50_000], contents={"int64_contents": values.tolist()}
    )

    np.testing.assert_array_equal(values, decode_request(made).tensors[0].values)
