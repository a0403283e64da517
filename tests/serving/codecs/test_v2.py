"""V2 bodies in JSON."""

import math

import numpy as np
import orjson
import pytest

from bundleserver.errors import InvalidInput
from bundleserver.serving.codecs import v2
from bundleserver.serving.requests import PredictRequest, PredictResponse, RequestedOutput
from bundleserver.tensors import NUMPY_DTYPES


def tensor(**changes: object) -> dict[str, object]:
    """One good input, with members changed; a member set to ``...`` is left out."""
    good = {"name": "x", "datatype": "FP64", "shape": [2, 2], "data": [1.0, 2.0, 3.0, 4.0]}
    return {key: value for key, value in {**good, **changes}.items() if value is not ...}


def decode(document: object) -> PredictRequest:
    """Decode a document, or a body as it is."""
    body = document if isinstance(document, bytes) else orjson.dumps(document)
    return v2.decode_request(body, "m", None)


def decoded(**changes: object) -> np.ndarray:
    """Decode one input with members changed, and return its array."""
    tensors = decode({"inputs": [tensor(**changes)]}).tensors
    assert tensors is not None
    return tensors[0].values


@pytest.mark.parametrize("data", [[1, 2.5, 3, 4], [[1, 2.5], [3, 4]]])
def test_decode_takes_flat_and_nested_data(data):
    """Data may be flat in row-major order, or nested as their shape."""
    values = decoded(data=data)

    assert np.float64 == values.dtype
    assert [[1.0, 2.5], [3.0, 4.0]] == values.tolist()


@pytest.mark.parametrize("datatype", sorted(set(NUMPY_DTYPES) - {"BOOL", "BYTES"}))
def test_decode_gives_each_datatype_its_dtype(datatype):
    """Numbers become arrays of exactly their datatype, which a model may write to."""
    values = decoded(datatype=datatype, data=[0, 1, 2, 127])

    assert NUMPY_DTYPES[datatype] == values.dtype
    assert [[0, 1], [2, 127]] == values.tolist()
    assert values.flags.writeable


def test_decode_takes_a_datatype_in_small_letters_as_kserve_does():
    """KServe reads ``fp64``, so its clients may send it."""
    assert np.float64 == decoded(datatype="fp64").dtype


def test_decode_takes_truth_values_and_text():
    """BOOL and BYTES are true or false, and text."""
    truth = decoded(datatype="BOOL", shape=[2], data=[True, False])
    text = decoded(datatype="BYTES", shape=[2, 1], data=[["a\0"], ["ü"]])

    assert [True, False] == truth.tolist()
    assert np.bool_ == truth.dtype
    assert [["a\0"], ["ü"]] == text.tolist()


@pytest.mark.parametrize("datatype", ["FP16", "FP32", "FP64"])
def test_null_is_nan_in_a_floating_point_tensor(datatype):
    """JSON says NaN as null."""
    values = decoded(datatype=datatype, shape=[3], data=[1, None, 2.5])

    assert NUMPY_DTYPES[datatype] == values.dtype
    assert math.isnan(values[1])
    assert [1.0, 2.5] == values[[0, 2]].tolist()


def test_the_largest_whole_numbers_are_exact():
    """64 bits are 64 bits."""
    assert [2**64 - 1] == decoded(datatype="UINT64", shape=[1], data=[2**64 - 1]).tolist()
    assert [-(2**63)] == decoded(datatype="INT64", shape=[1], data=[-(2**63)]).tolist()


def test_empty_tensors_keep_their_shape():
    """No rows are no values, not a failure."""
    assert (0, 3) == decoded(shape=[0, 3], data=[]).shape
    assert () == decoded(shape=[], data=[1.0]).shape


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"data": [1.0, 2.0, 3.0]}, r"has 3 values; expected 4 for its shape \[2, 2\]"),
        ({"data": [1.0] * 5}, "has 5 values"),
        ({"data": []}, "has 0 values"),
        ({"data": ...}, "input 'x': 'data' is missing"),
        ({"data": 3}, "'data' is the number 3; expected an array"),
        ({"data": {"a": 1}}, "'data' is an object"),
        ({"data": "1,2"}, "'data' is the string '1,2'"),
        ({"data": [[1, 2], [3]]}, r"arrays of length 1, 2; expected 2 for its shape \[2, 2\]"),
        ({"data": [[1, 2], 3]}, "not nested as its shape"),
        ({"data": [[1, 2]]}, "arrays of length 1; expected"),
        ({"data": [[1], [2], [3], [4]]}, "arrays of length 4; expected"),
        ({"data": [[[1], [2]], [[3], [4]]]}, "has an array at position 0"),
        ({"data": [1, [2], 3, 4]}, "has an array at position 1"),
        ({"data": [1, 2, 3, {}]}, "has an object at position 3"),
        (
            {"data": [1, 2, "3", 4]},
            "has the string '3' at position 2 of its data; expected numbers or null for FP64",
        ),
        ({"data": [1.5, True, 3, 4]}, "has true at position 1"),
        ({"data": [False, None, 3, 4]}, "has false at position 0"),
        ({"datatype": "INT64"}, "has the number 1.0 at position 0 of its data; expected integers"),
        ({"datatype": "INT64", "data": [1, 2, None, 4]}, "has null at position 2"),
        ({"datatype": "INT32", "data": [1, 2, True, 4]}, "has true at position 2"),
        (
            {"datatype": "INT8", "data": [1, 2, 3, 128]},
            "value 128, which is out of range of INT8; expected -128 to 127",
        ),
        ({"datatype": "UINT8", "data": [1, 2, 3, -1]}, "value -1, .* of UINT8; expected 0 to 255"),
        ({"datatype": "UINT64", "data": [1, 2, 3, -1]}, "value -1, .* of UINT64; expected 0 to"),
        ({"datatype": "INT64", "data": [2**63, 2, 3, 4]}, "value 9223372036854775808, .* of INT64"),
        ({"datatype": "INT64", "data": [1, 2, "3", 4]}, "has the string '3' at position 2"),
        ({"datatype": "INT8", "data": [300, 2, "3", 4]}, "input 'x' has the"),
        ({"datatype": "FP32", "data": [1e300, 2, 3, 4]}, "value 1e[+]300, which is out of range"),
        ({"datatype": "FP16", "data": [1e5, 2, 3, 4]}, "out of range of FP16"),
        ({"datatype": "BOOL", "data": [1, 0, 1, 0]}, "has the number 1 at .* booleans"),
        (
            {"datatype": "BYTES", "data": ["a", "b", 3, "d"]},
            "has the number 3 at .*expected strings",
        ),
        ({"datatype": "BOOL", "data": [True, True, None, True]}, "has null at position 2"),
        ({"datatype": "FP65"}, "unknown datatype 'FP65'.* did you mean 'FP64'"),
        ({"datatype": "STRING"}, "unknown datatype 'STRING'; expected one of BOOL"),
        ({"datatype": 5}, "'datatype' is the number 5"),
        ({"datatype": ...}, "'datatype' is missing"),
        ({"shape": ...}, "'shape' is missing"),
        ({"shape": 4}, "'shape' is the number 4"),
        ({"shape": [-1, 2]}, "the number -1 in its shape"),
        ({"shape": [2.0, 2]}, "the number 2.0 in its shape"),
        ({"shape": [True, 4]}, "true in its shape"),
        ({"shape": ["2", 2]}, "the string '2' in its shape"),
        ({"shape": [10**15, 10**15]}, "has 4 values"),
        ({"shape": [2**64 - 1, 0], "data": []}, "an invalid shape"),
        ({"shape": [1] * 33, "data": [1]}, "33 dimensions; expected at most 32"),
        ({"name": ...}, r"inputs\[0\].name is missing"),
        ({"name": ""}, r"inputs\[0\].name is empty"),
        ({"name": 7}, r"inputs\[0\].name is the number 7"),
        ({"parameters": []}, "'parameters' is an array"),
    ],
)
def test_decode_refuses_a_tensor_that_breaks_a_rule(changes, said):
    """Every broken rule of a tensor is refused by a sentence that names what came."""
    with pytest.raises(InvalidInput, match=said):
        decoded(**changes)


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (b"", "body is empty"),
        (b"{", "not valid JSON"),
        (b"[]", "body is an array"),
        (b'{"inputs": [NaN]}', "not valid JSON"),
        ({}, r"'inputs' is missing \(keys: none\)"),
        ({"instances": []}, r"'inputs' is missing \(keys: 'instances'\)"),
        ({"inputs": {}}, "'inputs' is an object"),
        ({"inputs": None}, "'inputs' is null"),
        ({"inputs": [3]}, r"inputs\[0\] is the number 3"),
        ({"inputs": [tensor(), tensor()]}, "duplicate input 'x'"),
        ({"inputs": [], "id": 5}, "'id' is the number 5"),
        ({"inputs": [], "parameters": [1]}, "'parameters' is an array"),
        (
            {"inputs": [], "parameters": {"binary_data_output": 1}},
            "'binary_data_output' is the num",
        ),
        ({"inputs": [], "outputs": {}}, "'outputs' is an object"),
        ({"inputs": [], "outputs": ["y"]}, r"outputs\[0\] is the string 'y'"),
        ({"inputs": [], "outputs": [{}]}, r"outputs\[0\].name is missing"),
        ({"inputs": [], "outputs": [{"name": "y"}] * 2}, "duplicate output 'y'"),
        (
            {"inputs": [], "outputs": [{"name": "y", "parameters": {"binary_data": "no"}}]},
            "output 'y': 'binary_data' is the string 'no'",
        ),
    ],
)
def test_decode_refuses_a_body_that_breaks_a_rule(document, said):
    """Every broken rule of a body is refused by a sentence that names what came."""
    with pytest.raises(InvalidInput, match=said):
        decode(document)


@pytest.mark.parametrize("depth", [100, 1000, 100_000])
def test_deep_nesting_is_refused_and_never_exhausts_the_stack(depth):
    """However deep data are nested, the answer is a sentence."""
    data = b"[" * depth + b"1" + b"]" * depth
    body = b'{"inputs":[{"name":"x","shape":[1],"datatype":"FP64","data":' + data + b"}]}"

    with pytest.raises(InvalidInput, match=r"valid JSON|nested|an array"):
        decode(body)


def test_decode_keeps_id_parameters_and_requested_outputs():
    """What a request says besides its tensors arrives as it was said."""
    request = decode(
        {
            "id": "42",
            "inputs": [tensor(), tensor(name="y", shape=[1], data=[0.0])],
            "parameters": {"level": 0.9, "binary_data_output": True},
            "outputs": [{"name": "b", "parameters": {"binary_data": False}}, {"name": "a"}],
        }
    )

    assert "42" == request.id
    assert 0.9 == request.parameters["level"]
    assert (RequestedOutput("b", False), RequestedOutput("a", None)) == request.outputs
    assert ["x", "y"] == [named.name for named in request.tensors or ()]


def test_null_stands_for_an_absent_member():
    """Clients that print unset members as null are served."""
    request = decode({"id": None, "parameters": None, "outputs": None, "inputs": [tensor()]})

    assert (None, {}, ()) == (request.id, request.parameters, request.outputs)


def encoded(response: PredictResponse, **asked: object) -> dict[str, object]:
    """Encode an answer that is JSON alone, and read it again."""
    answer = v2.encode_response(response, PredictRequest("m", **asked))
    assert answer.header_length is None
    document = orjson.loads(answer.body)
    assert isinstance(document, dict)
    return document


def test_encode_writes_the_protocols_answer():
    """An answer names its model, its version and each output's shape, datatype and flat data."""
    response = PredictResponse(
        "m",
        "v3",
        {"y": np.array([[1, 2], [3, 4]]), "s": np.array(["a", b"b"], dtype=object)},
        {"level": 0.9},
        "42",
    )

    expected = {
        "model_name": "m",
        "model_version": "v3",
        "id": "42",
        "parameters": {"level": 0.9},
        "outputs": [
            {"name": "y", "shape": [2, 2], "datatype": "INT64", "data": [1, 2, 3, 4]},
            {"name": "s", "shape": [2], "datatype": "BYTES", "data": ["a", "b"]},
        ],
    }
    assert expected == encoded(response)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_encode_writes_nan_and_infinity_as_null(dtype):
    """What JSON cannot say is null."""
    response = PredictResponse("m", "1", {"y": np.array([0.5, np.nan, np.inf], dtype=dtype)})

    assert [0.5, None, None] == encoded(response)["outputs"][0]["data"]


@pytest.mark.parametrize(
    "values",
    [
        np.array([0.1, 1 / 3], dtype=np.float32),
        np.array([0.1, 1 / 3], dtype=np.float16),
        np.arange(6, dtype=">i4").reshape(2, 3).T,
        np.array([True, False]),
        np.array([2**64 - 1], dtype=np.uint64),
        np.array(1.5),
        np.zeros((0, 2), dtype=np.float32),
    ],
    ids=["FP32", "FP16", "foreign and transposed", "BOOL", "UINT64", "scalar", "empty"],
)
def test_encode_writes_exactly_the_values(values):
    """Any layout and datatype is printed as its exact values in row-major order, as KServe does."""
    output = encoded(PredictResponse("m", "1", {"y": values}))["outputs"][0]

    assert values.ravel().tolist() == output["data"]
    assert list(values.shape) == output["shape"]


def test_encode_gives_the_requested_outputs_in_their_order():
    """A request selects outputs and their order."""
    response = PredictResponse("m", "1", {"a": np.zeros(1), "b": np.zeros(1), "c": np.zeros(1)})

    outputs = encoded(response, outputs=(RequestedOutput("c"), RequestedOutput("a")))["outputs"]

    assert ["c", "a"] == [output["name"] for output in outputs]


def test_encode_refuses_an_unknown_output():
    """An output that the model does not give is refused, naming those that it gives."""
    response = PredictResponse("m", "1", {"a": np.zeros(1), "b": np.zeros(1)})

    with pytest.raises(
        InvalidInput, match="unknown output 'z'; model 'm' has the outputs 'a', 'b'"
    ):
        encoded(response, outputs=(RequestedOutput("z"),))


def test_encode_refuses_bytes_that_json_cannot_carry():
    """Bytes that are not UTF-8 are refused with the way to get them."""
    response = PredictResponse("m", "1", {"a": np.array([b"\xff"], dtype=object)})

    with pytest.raises(InvalidInput, match=r"output 'a'.*'binary_data'"):
        encoded(response)


@pytest.mark.parametrize("count", [2**14, 2**14 + 1, 2**15, 50_000])
@pytest.mark.parametrize("kind", ["f8", "f4", "i4", "?", "O"])
def test_a_long_output_is_printed_as_a_short_one(count, kind):
    """What is printed in pieces is one list, with the same numbers in it."""
    values = (np.arange(count) % 7 / 3).astype(kind)
    if kind == "f8":
        values[[3, 40]] = math.nan, math.inf
    response = PredictResponse("m", "1", {"y": values.reshape(-1), "z": np.ones(1)}, {}, None)

    answer = orjson.loads(v2.encode_response(response, PredictRequest("m")).body)

    printed, after = answer["outputs"]
    expected = [str(value) for value in values] if kind == "O" else values.tolist()
    expected = [None if value != value or value == math.inf else value for value in expected]
    assert expected == printed["data"]
    assert ([count], [1.0]) == (printed["shape"], after["data"])
