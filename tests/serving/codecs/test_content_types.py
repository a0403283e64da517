"""MLServer's content types of V2 inputs."""

import numpy as np
import pytest

from bundleserver.errors import InvalidInput
from bundleserver.serving.codecs import v2
from bundleserver.serving.codecs.content_types import converted, of_request
from bundleserver.serving.grpc.codec import decode_request
from bundleserver.serving.grpc.open_inference import ModelInferRequest
from bundleserver.tensors import TensorSpec


def decode(content_type: object, data: list[object], datatype: str = "BYTES") -> np.ndarray:
    """Decode one input of a V2 request."""
    item = {"name": "x", "datatype": datatype, "shape": [len(data)], "data": data}
    item["parameters"] = {"content_type": content_type}
    (tensor,) = v2.decode_document("m", None, None, {"inputs": [item]}).tensors or ()
    return tensor.values


@pytest.mark.parametrize(
    ("content_type", "data", "expected"),
    [
        ("np", ["a"], ["a"]),
        ("pd", ["a"], ["a"]),
        (None, ["aGk="], ["aGk="]),
        ("str", ["a", None], ["a", None]),
        ("base64", ["aGkA", "/w==", None], ["hi\0", b"\xff", None]),
    ],
)
def test_strings_are_what_their_content_type_says(content_type, data, expected):
    """Values stay as they are, or are decoded from base64; null is a gap."""
    assert expected == decode(content_type, data).tolist()


def test_times_are_in_utc():
    """ISO 8601 becomes times without an offset, and strings again where strings are declared."""
    times = decode("datetime", ["2024-02-01T03:00:00+02:00", "2024-02-01", None])

    expected = np.array(["2024-02-01T01:00", "2024-02-01T00:00", "NaT"], "M8[us]")
    np.testing.assert_array_equal(expected, times)
    strings = TensorSpec("x", "BYTES", (-1,)).validate(times[:1], "m")
    assert ["2024-02-01T01:00:00.000000"] == strings.tolist()


@pytest.mark.parametrize(
    ("content_type", "data", "datatype", "said"),
    [
        ("hg_json", ["{}"], "BYTES", "the content_type the string 'hg_json', which is not supp"),
        (7, ["a"], "BYTES", "the content_type the number 7, which"),
        (["np"], ["a"], "BYTES", "the content_type an array"),
        ("base64", ["a"], "BYTES", "the string 'a' with the content_type 'base64'.* not valid"),
        ("base64", [1], "INT64", "'base64' and the datatype INT64; expected BYTES"),
        ("str", [1.5], "FP32", "'str' and the datatype FP32; expected BYTES"),
        ("datetime", ["yesterday"], "BYTES", "'yesterday'; expected ISO 8601"),
    ],
)
def test_other_content_types_are_refused(content_type, data, datatype, said):
    """What is not known, or not of its content type, is never passed on as something else."""
    with pytest.raises(InvalidInput, match=said):
        decode(content_type, data, datatype)


def test_a_raw_input_has_a_content_type_too():
    """Raw bytes over REST and gRPC's contents are converted alike."""
    request = ModelInferRequest()
    tensor = request.inputs.add(name="x", datatype="BYTES", shape=[1])
    tensor.parameters["content_type"].string_param = "base64"
    tensor.contents.bytes_contents.append(b"aGk=")
    (typed,) = decode_request(request).tensors or ()
    head = (
        b'{"inputs":[{"name":"x","datatype":"BYTES","shape":[1],'
        b'"parameters":{"binary_data_size":8,"content_type":"base64"}}]}'
    )
    (raw,) = v2.decode_request(head + b"\4\0\0\0aGk=", "m", None, str(len(head))).tensors or ()

    assert ["hi"] == typed.values.tolist() == raw.values.tolist()


@pytest.mark.parametrize("content_type", ["hg_json", "", 3, {}])
def test_a_request_has_a_known_content_type(content_type):
    """An unknown one of the whole request is refused, and a known one is returned."""
    with pytest.raises(InvalidInput, match="parameter 'content_type' is"):
        of_request(content_type)

    assert "pd" == of_request("pd")


def test_bytes_that_are_not_text_are_no_base64():
    """Bytes of a raw input that are no ASCII are refused."""
    with pytest.raises(InvalidInput, match="not valid base64"):
        converted(np.array([b"\xff"], object), "base64", "x")
