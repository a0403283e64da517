"""Long lists read apart, at once or in pieces, mean what they mean where all is read as a whole."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import SimpleNamespace

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bundleserver.errors import InvalidInput
from bundleserver.serving.codecs import json_body, v1, v2
from bundleserver.serving.codecs.json_pieces import LARGE_BYTES, LONG_BYTES, decode_apart
from bundleserver.serving.codecs.number_rows import NumberRows
from bundleserver.serving.requests import PredictRequest
from bundleserver.serving.rest import cloud_events
from bundleserver.tensors import NUMPY_DTYPES, TensorSpec, array_from_rows

TAKER = "'m' version 1"
PLAIN = SimpleNamespace(raw_headers={}, headers={}, most_values=0)
STRUCTURED = {"content-type": "application/cloudevents+json"}
EVENT = SimpleNamespace(raw_headers={}, headers=STRUCTURED, most_values=0)
WHOLE_LIST = 10**7


def decode_v2(document):
    """Decode a V2 request whose document has been read."""
    return v2.decode_document("m", None, None, document)


def decode_v1(document, request=PLAIN):
    """Decode a V1 request, or the event that it came in, whose document has been read."""
    return cloud_events.decode_document(request, "m", None, None, document)[1]


def at_once(decode, body):
    """Decode a body as a whole, or say why it is refused."""
    try:
        return decode(json_body.decode_object(body))
    except InvalidInput as error:
        return str(error)


def in_pieces(decode, body, piece_bytes=7):
    """Decode a body in pieces of so many bytes; None where it has to be read as a whole."""
    try:
        return decode_apart(body, decode, 1, piece_bytes)
    except InvalidInput as error:
        return str(error)


def plain(request):
    """Say everything that a request means, kinds included, in values that can be compared."""
    tensors = [
        (t.name, t.values.dtype, t.values.shape, repr(t.values.tolist()))
        for t in request.tensors or ()
    ]
    rows = None if request.rows is None else repr(list(request.rows))
    return tensors, rows, repr(request.parameters), request.id, request.outputs


def bound(rows):
    """Make an array of rows as a bundle does, or say why it cannot be made."""
    try:
        values = array_from_rows(rows, TensorSpec("x"), TAKER)
    except InvalidInput as error:
        return str(error)
    return values.dtype, values.shape, repr(values.tolist())


def first(rows):
    """Say the first row; where it is in an array of numbers, as they are in there."""
    if isinstance(rows, NumberRows) or not isinstance(bound(rows), tuple):
        return rows[0]
    return np.array(rows)[0].tolist()


def check_same(decode, body, piece_bytes):
    """Compare what is read apart with what is read as a whole, which alone refuses."""
    for size in (piece_bytes, WHOLE_LIST):
        check_same_in(size, decode, body)


def check_same_in(piece_bytes, decode, body):
    """Compare what is read in pieces of one size with what is read as a whole."""
    whole, pieces = at_once(decode, body), in_pieces(decode, body, piece_bytes)
    if isinstance(whole, str):
        assert pieces in (None, whole)
    elif pieces is not None:
        assert plain(whole) == plain(pieces)
        if whole.rows:
            assert bound(whole.rows) == bound(pieces.rows)
            assert len(whole.rows) == len(pieces.rows)
            assert first(whole.rows) == first(pieces.rows)
            assert repr(whole.rows[-1:]) == repr(pieces.rows[-1:])


numbers = st.one_of(
    st.integers(-20, 20),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.none(),
    st.booleans(),
)
few = st.integers(1, 4)


@st.composite
def nested(draw, values=numbers):
    """Draw lists of some shape, at times with something else in them."""
    shape = draw(st.lists(few, min_size=1, max_size=4))
    kind = draw(st.sampled_from([values, st.integers(-9, 99), st.floats(-9, 9)]))
    size = int(np.prod(shape))
    flat = draw(st.lists(kind, min_size=size, max_size=size))
    odd = draw(
        st.sampled_from([*[None] * 4, "x", {"a": [1, 2]}, [], [1], [[1, 2]], "]", '"[1,2]"'])
    )
    if odd is not None:
        flat[draw(st.integers(0, size - 1))] = odd
    level = flat
    for length in reversed(shape[1:]):
        level = [level[i : i + length] for i in range(0, len(level), length)]
    return level, shape


@st.composite
def bodies(draw):
    """Draw requests of both protocols, well and badly formed, printed in different ways."""
    data, shape = draw(nested())
    if draw(st.booleans()):
        document = {draw(st.sampled_from(["instances", "inputs"])): data, "parameters": {"a": [1]}}
    else:
        datatype = draw(st.sampled_from(["FP64", "FP32", "INT64", "INT8", "UINT64", "BOOL"]))
        item = {"name": 'a "data": [1,2', "datatype": datatype, "shape": shape, "data": data}
        order = draw(st.permutations(list(item)))
        others = draw(nested(st.integers(0, 5)))
        document = {
            "inputs": [
                {key: item[key] for key in order},
                {"name": "b", "datatype": "FP64", "shape": others[1], "data": others[0]},
            ],
            "id": "\\",
        }
    form = draw(st.sampled_from([{}, {"separators": (",", ":")}, {"indent": 1}, {"indent": "\t"}]))
    return json.dumps(document, **form).encode()


@given(bodies(), st.integers(1, 60))
@settings(max_examples=300, deadline=None)
def test_a_document_means_the_same_in_pieces(body, piece_bytes):
    """Whatever is asked, pieces of any size say it as the whole does."""
    for decode in (decode_v1, decode_v2):
        check_same(decode, body, piece_bytes)


@given(bodies(), st.integers(1, 60), st.data())
@settings(max_examples=600, deadline=None)
def test_a_broken_document_is_refused_in_pieces_too(body, piece_bytes, data):
    """Characters lost, doubled or replaced anywhere never make a good request of a bad one."""
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(body) - 1))
        new = data.draw(
            st.sampled_from([b"", *(bytes([c]) for c in b'[]{},:"\\ \n\v0-.e1N'), b"\xff"])
        )
        body = body[:place] + new + body[place + data.draw(st.integers(0, 2)) :]
        if not body:
            return
    for decode in (decode_v1, decode_v2):
        check_same(decode, body, piece_bytes)


@given(st.text("[],1 \n0", max_size=40), st.integers(1, 20))
@settings(max_examples=800, deadline=None)
def test_brackets_anywhere_mean_the_same_in_pieces(text, piece_bytes):
    """Brackets, commas and space in any order are read as JSON reads them, or left to it."""
    check_same(decode_v1, b'{"instances":[' + text.encode() + b"]}", piece_bytes)


def v2_body(data, datatype="FP64", shape="[12]"):
    """Make a V2 body around data as text."""
    head = f'{{"inputs":[{{"name":"x","datatype":"{datatype}","shape":{shape},"data":{data}'
    return f"{head}}}]}}".encode()


FLAT = "[1,2,3,4,5,6,7,8,9,10,11,12]"
ROWS = "[[1,2,3],[4,5,6],[7,8,9],[10,11,12]]"
BLOCKS = "[[[1,2],[3,4]],[[5,6],[7,8]],[[9,10],[11,12]]]"


PLAIN_DATA = [
    ("FP64", "[12]", FLAT),
    ("FP64", "[4,3]", FLAT),
    ("FP64", "[4,3]", ROWS),
    ("INT32", "[3,2,2]", BLOCKS),
    ("INT32", "[3,2,2]", FLAT),
    ("FP32", "[1,12]", f"[{FLAT}]"),
    ("FP32", "[12,1]", "[" + ",".join(f"[{i}]" for i in range(12)) + "]"),
    ("FP32", "[1,1,12]", f"[[{FLAT}]]"),
    ("FP64", "[4,3]", "[\n [1,\t2, 3 ],\r\n [4,5,6] ,[ 7,8,9]\n,\n[10,11,12 ] ]"),
    ("FP64", "[12]", "[\n1 ,\n2,3\t,4, 5,6,7,8,9,10,11,12 ]"),
    ("UINT64", "[5]", "[18446744073709551615,0,1,2,3]"),
    ("INT64", "[2]", "[-9223372036854775808,9223372036854775807]"),
]


@pytest.mark.parametrize("piece_bytes", [3, 4, 5, 6, 7, 11, 20, WHOLE_LIST])
@pytest.mark.parametrize(("datatype", "shape", "data"), PLAIN_DATA)
def test_plain_numbers_are_read_in_pieces(datatype, shape, data, piece_bytes):
    """Flat and nested data of every kind of number need not be read as a whole."""
    body = v2_body(data, datatype, shape)

    decoded = in_pieces(decode_v2, body, piece_bytes)

    assert plain(at_once(decode_v2, body)) == plain(decoded)
    assert NUMPY_DTYPES[datatype] == decoded.tensors[0].values.dtype
    assert decoded.tensors[0].values.flags.writeable


@pytest.mark.parametrize(
    ("datatype", "shape", "data"),
    [
        ("FP16", "[6]", "[1,-2.5,1e2,-1E-2,null,0]"),
        ("FP64", "[2,3]", "[[1,null,1e3],[0,null,2]]"),
        ("BOOL", "[5]", "[true,false,true,true,false]"),
    ],
)
def test_what_is_no_number_is_left_to_the_whole(datatype, shape, data):
    """Arrays with null, true or false are read as a whole."""
    body = v2_body(data, datatype, shape)

    assert in_pieces(decode_v2, body) is None
    assert not isinstance(at_once(decode_v2, body), str)


@pytest.mark.parametrize(
    ("rows", "is_whole"),
    [
        (ROWS, True),
        (FLAT, True),
        (BLOCKS, True),
        ("[[1,2.5],[3,4],[5,6],[7,8]]", False),
        ("[[1.0,2.0],[3.0,4.0],[5.0,6.0]]", False),
        ("[[1,9007199254740993],[3,4.5]]", False),
    ],
)
def test_rows_of_numbers_are_an_array_at_once(rows, is_whole):
    """Rows are read into an array, and each as it came where somebody asks for it."""
    body = f'{{"instances":{rows}}}'.encode()

    found = in_pieces(decode_v1, body, 20).rows

    assert isinstance(found, NumberRows)
    assert first(json.loads(rows)) == found[0]
    assert repr(json.loads(rows)) == repr(list(found))
    assert json.loads(rows)[1:] == found[1:]
    assert bound(json.loads(rows)) == bound(found)
    assert np.dtype(np.int64 if is_whole else np.float64) == found.values.dtype


def test_who_writes_to_the_array_of_rows_has_one_of_its_own():
    """A shadow reads the same rows after a model may have written to its inputs."""
    rows = in_pieces(decode_v1, f'{{"instances":{ROWS}}}'.encode()).rows

    array_from_rows(rows, TensorSpec("x"), TAKER)[:] = 0

    assert [1, 2, 3] == array_from_rows(rows, TensorSpec("x"), TAKER)[0].tolist()


def test_several_long_lists_are_read_in_pieces():
    """Each input of a request may be large, and small ones between them stay as they are."""
    small = {"name": "s", "datatype": "BYTES", "shape": [2], "data": ["a", "b"]}
    inputs = [
        {"name": name, "datatype": "FP64", "shape": [12], "data": json.loads(FLAT)}
        for name in "abc"
    ]
    body = orjson.dumps({"inputs": [inputs[0], small, *inputs[1:]], "id": "7"})

    decoded = in_pieces(decode_v2, body)

    assert plain(at_once(decode_v2, body)) == plain(decoded)
    assert ["a", "s", "b", "c"] == [tensor.name for tensor in decoded.tensors]


def test_an_event_is_read_in_pieces():
    """A structured event holds its request as 'data', and the request its rows."""
    event = {"specversion": "1.0", "id": "1", "source": "s", "type": "t"}
    body = orjson.dumps({**event, "data": {"instances": json.loads(ROWS)}})
    decode = partial(decode_v1, request=EVENT)

    decoded = in_pieces(decode, body)

    assert plain(at_once(decode, body)) == plain(decoded)
    assert isinstance(decoded.rows, NumberRows)


@pytest.mark.parametrize(
    "data",
    [
        "[1,2,3,4,5,6,7,8,9,10,11,12,]",
        "[,1,2,3,4,5,6,7,8,9,10,11]",
        "[1,2,3,4,5,,6,7,8,9,10,11]",
        "[1,2,3,4,5, ,6,7,8,9,10,11]",
        "[1,2,3,4,5 6,7,8,9,10,11,12]",
        "[1,2,3,4,5,06,7,8,9,10,11,12]",
        "[1,2,3,4,5,+6,7,8,9,10,11,12]",
        "[1,2,3,4,5,6.,7,8,9,10,11,12]",
        "[1,2,3,4,5,NaN,7,8,9,10,11,12]",
        "[1,2,3,4,5,Infinity,7,8,9,10,11,12]",
        "[1,2,3,4,5,\v6,7,8,9,10,11,12]",
        "[1,2,3,4,5,6,7,8,9,10,11,12\f]",
        "[1,2,3,4,5,[6],7,8,9,10,11,12]",
        "[1,2,3,4,5,6,7,8,9,10,11,12",
        "1,2,3,4,5,6,7,8,9,10,11,12]",
        "[1,2,3,4,5,6],[7,8,9,10,11,12]",
        "[1,2,3,4,5,6]],[[7,8,9,10,11,12]",
        "[[1,2,3],[4,5,6],[7,8,9],[10,11]]",
        "[[1,2,3],[4,5,6],[7,8,9],[10,11,12,]]",
        "[[1,2,3],[4,5,6],7,8,9,[10,11,12]]",
        "[[1,2,3],[4,5 6,7],[7,8,9],[10,11,12]]",
        "[[1,2,3],[4,5,6],[7,8,- 9],[10,11,12]]",
        "[[1,2,3],[4,5,6],[7,8,9],[10,11,12]",
        "[[1,2,3],[4,5,6],[7,8,9],[10,11,12]]]",
        "[[1,2,3],[4,5,6],[7,8,9],[10,11,12],]",
        "[[1,2,3],4[5,6],[7,8,9],[10,11,12]]",
        "[[1,2,3][4,5,6],[7,8,9],[10,11,12]]",
        "[[1,2,3],[4,5,6],[7,8,9],[10,11,12]],[]",
        "[[1,2,3],[4,5,6],[7,8,9],[10,11,12],[]]",
        "[[],[],[],[],[],[],[],[],[],[],[],[]]",
        "[1,2,3,4,5,{},7,8,9,10,11,12]",
        '[1,2,3,4,5,"6",7,8,9,10,11,12]',
        '[1,2,3,4,5,6,7,8,9,10,11,12],"data":[1,2,3,4,5,6,7,8,9,10,11,12,13]',
        '[1,2,3,4,5,6,7,8,9,10,11,12],"data":5',
        '[1,2,3,4,5,6,7,8,9,10,11,12],"x":"\udcff"',
        "[1,2,3,4,5,6,7,8,9,10,11,12,13]",
        "[1,2,3,4,5,true,7,8,9,10,11,12]",
        "[1e400,2,3,4,5,6,7,8,9,10,11,12]",
        "[" * 40 + "1,2,3" + "]" * 40,
        "[" * 2000 + "1,2,3" + "]" * 2000,
        "[" * 2000,
        "12]",
        "",
    ],
)
@pytest.mark.parametrize("shape", ["[12]", "[4,3]"])
def test_what_is_wrong_is_said_as_ever(data, shape):
    """A faulty list is left to the whole, or refused in its words."""
    body = f'{{"inputs":[{{"name":"x","datatype":"FP64","shape":{shape},"data":{data}}}]}}'
    body = body.encode(errors="surrogateescape")
    whole = at_once(decode_v2, body)
    for piece_bytes in (3, 7, 20, WHOLE_LIST):
        pieces = in_pieces(decode_v2, body, piece_bytes)

        assert pieces in (None, whole)
    assert isinstance(whole, str)


@pytest.mark.parametrize(
    "body",
    [
        # A list under a key that is no key, or that nobody reads.
        v2_body(FLAT).replace(b'"name":"x"', b'"name":"x","instances":[1,2,3,4,5,6,7,8,9,10,,]'),
        v2_body(FLAT)[:-1] + b',"instances":[1,2,3,4,5,6,7,8,9,10,11,]}',
        v2_body(FLAT)[:-1] + b',"data":[1,2,3,4,5,6,7,8,9,10,11,]}',
        b'{"\\"data":[1,2,3,4,5,6,7,8,9,],"instances":[[1,2,3],[4,5,6]]}',
        b'{"instances":[[1,2,3],[4,5,6]],"instances":[[1,2,3],[4,5,6],]}',
        b'{"instances":[[1,2,3],[4,5,6],],"instances":[[1,2,3],[4,5,6]]}',
        b'{["instances":[1,2,3,4,5,6,7,8,9]}',
        b'["instances":[1,2,3,4,5,6,7,8,9]]',
        b'{"a":"instances":[1,2,3,4,5,6,7,8,9]}',
        b'{"a":""instances":[1,2,3,4,5,6,7,8,9]}',
        b'{"a":"\\"instances":[1,2,3,4,5,6,7,8,9]"}',
        b'\xef\xbb\xbf{"instances":[1,2,3,4,5,6,7,8,9]}',
        b'{"instances":[1,2,3,4,5,6,7,8,9]}}',
        b'{"instances":[1,2,3,4,5,6,7,8,9]',
        b'{"instances":[1,2,3,4,5,6,7,8,9]]',
        b'{"instances":\v[1,2,3,4,5,6,7,8,9]}',
        b'"instances":[1,2,3,4,5,6,7,8,9]',
        b'{"instances":[1,2,3,4,5,6,7,8,9],"inputs":[1,2,3,4,5,6,7,8,9]}',
        b'{"data":[1,2,3,4,5,6,7,8,9]}',
    ],
)
def test_a_document_that_is_no_request_is_left_to_the_whole(body):
    """Lists that are not where a request has them are not taken for its own."""
    for decode in (decode_v1, decode_v2):
        assert in_pieces(decode, body) is None
        assert in_pieces(decode, body, WHOLE_LIST) is None
        assert isinstance(at_once(decode, body), str)


@pytest.mark.parametrize(
    "body",
    [
        b'{"instances":[[1,2,3],[4,5,6]],"\\"data":[1,2,3,4,5,6,7,8,9]}',
        b'{"a":"\\"instances\\":[1,2,3,4,5,6,7,8,9]","instances":[[1,2,3],[4,5,6]]}',
        b'{"instances":[1,2,3,4,5,6,7,8],"instances":[[1,2,3],[4,5,6]]}',
        b'{"data":[1,2,3,4,5,6,7,8,9],"instances":[[1,2,3],[4,5,6]]}',
        b'{"instances":[["]",2,3],[4,5,6]]}',
        b'{"instances":[{"data":[1,2,3,4,5,6,7,8,9]}]}',
        b'{"instances":[[1,2,3],[4,true,6]]}',
        b'{"instances":[[1,2,3],[4,5]]}',
        b'{"instances":[]}',
        b'{"instances":[18446744073709551615,2,3]}',
    ],
)
def test_unusual_documents_mean_what_they_mean_as_a_whole(body):
    """Keys in texts, keys that come twice and odd values change nothing."""
    assert isinstance(at_once(decode_v1, body), PredictRequest)
    for piece_bytes in (3, 7, 12):
        check_same(decode_v1, body, piece_bytes)


@pytest.mark.parametrize(
    ("data", "shape"),
    [(FLAT, "[13]"), (FLAT, "[4,4]"), (ROWS, "[5,3]"), (ROWS, "[4,2]"), (BLOCKS, "[3,2,3]")],
)
def test_a_wrong_shape_is_refused_without_reading_the_whole(data, shape):
    """What many clients get wrong at first stops nobody else."""
    body = v2_body(data, shape=shape)

    refused = in_pieces(decode_v2, body)

    assert isinstance(refused, str)
    assert at_once(decode_v2, body) == refused


@pytest.mark.parametrize("datatype", ["FP64", "FP32", "FP16", "INT64", "INT8", "UINT64", "UINT16"])
@pytest.mark.parametrize("is_nested", [False, True])
def test_a_long_list_comes_out_as_it_does_as_a_whole(datatype, is_nested):
    """A body of many rows is read to the same bits."""
    kind = NUMPY_DTYPES[datatype]
    drawn = np.random.default_rng(0).normal(size=(4096, 3)) * 10
    values = (np.abs(drawn) if kind.kind == "u" else drawn).astype(kind)
    listed = values.tolist() if is_nested else values.reshape(-1).tolist()
    body = v2_body(json.dumps(listed), datatype, "[4096,3]")
    assert LONG_BYTES < len(body) < LARGE_BYTES

    decoded = v2.decode_request(body, "m", None).tensors[0].values

    assert (kind, values.tobytes()) == (decoded.dtype, decoded.tobytes())
    assert decoded.flags.writeable
    rows = cloud_events.decode_request(
        b'{"instances":%b}' % json.dumps(values.tolist()).encode(), PLAIN, "m", None, None
    )[1].rows
    assert isinstance(rows, NumberRows)
    assert bound(values.tolist()) == bound(rows)


def test_every_double_is_the_nearest_to_its_text():
    """Numbers that other parsers round wrongly, and the largest and smallest that there are."""
    texts = [
        "9007199254740993",
        "9007199254740993.0",
        "0.1",
        "123456789012345678",
        "1e23",
        "8.5e-30",
        "1.7976931348623157e308",
        "2.2250738585072011e-308",
        "5e-324",
        "2e-324",
        "1e-400",
        "-0",
        "-0.0",
        "0.500000000000000166533453693773481063544750213623046875",
        "3.518437208883201171875e13",
        "62.5364939768271845828",
        "8.10109172351e-10",
        "1.50000000000000011102230246251565",
    ]
    body = v2_body(f"[{','.join(texts)}]", shape=f"[{len(texts)}]")

    expected = np.array([float(int(t)) if t == "-0" else float(t) for t in texts]).tobytes()

    for asked in (in_pieces(decode_v2, body, WHOLE_LIST), at_once(decode_v2, body)):
        assert expected == asked.tensors[0].values.tobytes()


def test_without_simdjson_everything_is_read_by_orjson():
    """It belongs to an extra; a server without it answers the same."""
    script = (
        "import json, sys; sys.modules['simdjson'] = None\n"
        "from bundleserver.serving.codecs import simd_numbers, v2\n"
        "data = list(range(9000))\n"
        "item = {'name': 'x', 'datatype': 'FP64', 'shape': [9000], 'data': data}\n"
        "asked = v2.decode_request(json.dumps({'inputs': [item]}).encode(), 'm', None)\n"
        "print(simd_numbers.IS_INSTALLED, asked.tensors[0].values.tolist() == data)"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert "False True" == ran.stdout.strip()


def test_threads_read_beside_each_other():
    """Each thread has a parser of its own, since a document lives in its parser's memory."""
    bodies = [v2_body(json.dumps([float(i)] * 9000), shape="[9000]") for i in range(8)]

    with ThreadPoolExecutor(8) as pool:
        decoded = pool.map(lambda body: v2.decode_request(body, "m", None), bodies * 40)

    for i, request in enumerate(decoded):
        assert {float(i % 8)} == set(request.tensors[0].values.tolist())


LARGE = orjson.dumps([[i + 0.5, i] for i in range(LARGE_BYTES // 12)])


def test_a_large_v2_body_comes_out_whole():
    """Over the threshold the codec reads in pieces by itself, and refuses with the same words."""
    head = b'{"inputs":[{"name":"x","datatype":"FP64","shape":[%d,2],"data":' % (LARGE_BYTES // 12)
    body = head + LARGE + b"}]}"
    short = body.replace(b"[%d,2]" % (LARGE_BYTES // 12), b"[3,2]", 1)

    decoded = v2.decode_request(body, "m", "2", None, "key")
    with pytest.raises(InvalidInput, match=r"has arrays of length .* for its shape") as caught:
        v2.decode_request(short, "m", None)

    assert ("m", "2", "key") == (decoded.model, decoded.version, decoded.routing_key)
    assert orjson.loads(LARGE) == decoded.tensors[0].values.tolist()
    with pytest.raises(InvalidInput) as whole:
        decode_v2(orjson.loads(short))
    assert str(whole.value) == str(caught.value)


def test_a_large_v1_body_comes_out_whole():
    """Over the threshold rows of numbers are an array, and broken JSON is refused as ever."""
    body = b'{"instances":' + LARGE + b"}"

    decoded: PredictRequest = cloud_events.decode_request(body, PLAIN, "m", None, None)[1]
    with pytest.raises(InvalidInput, match="not valid JSON: unexpected end"):
        cloud_events.decode_request(body[:-2], PLAIN, "m", None, None)

    assert isinstance(decoded.rows, NumberRows)
    assert orjson.loads(LARGE) == decoded.rows.values.tolist()
    assert bound(orjson.loads(LARGE)) == bound(decoded.rows)


def test_v1_itself_takes_no_rows_that_are_no_list():
    """What stands for numbers is known to be some; everything else is refused."""
    with pytest.raises(InvalidInput, match="'instances' is the string 'x'"):
        v1.decode_request({"instances": "x"}, "m", None)
