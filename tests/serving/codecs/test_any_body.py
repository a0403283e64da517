"""Whatever comes as a body, over V1, V2 or gRPC, is answered or refused as the caller's fault."""

import asyncio
import json
import struct

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bundleserver.errors import BundleServerError
from bundleserver.serving.administration import Administration
from bundleserver.serving.errors import answer_for
from bundleserver.serving.execution.answering import ServedModels
from bundleserver.serving.grpc.open_inference import ModelInferRequest
from bundleserver.serving.grpc.service import InferenceService
from bundleserver.serving.rest.app import RestApp
from bundleserver.serving.rest.repository import RepositoryRoutes
from bundleserver.serving.rest.routes import Routes
from bundleserver.tensors import NUMPY_DTYPES
from tests.serving.fakes import ECHO, FakeManager, FakeModel, FakeVersion, echo
from tests.serving.rest_fakes import LIMIT_BYTES, no_fallback

pytestmark = pytest.mark.timeout(120)
EVERY = settings(
    max_examples=400,
    deadline=5000,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


class Edge:
    """Both edges over a model that adds up rows and one that gives back whatever it takes."""

    def __init__(self) -> None:
        echoing = FakeModel("echo", (FakeVersion("1", echo, ECHO),))
        manager = FakeManager(FakeModel("sums"), echoing)
        served = ServedModels(manager)
        routes = Routes(
            answer=served.answer,
            manager=manager,
            server_name="s",
            server_version="1",
            repository=RepositoryRoutes(manager, Administration("open")),
        )
        self.app = RestApp(routes, no_fallback, max_request_bytes=LIMIT_BYTES)
        self.service = InferenceService(served, manager, "s", "1")
        self.loop = asyncio.new_event_loop()

    def post(self, path: str, body: bytes, headers: list[tuple[bytes, bytes]]) -> int:
        """Send a body over REST and return the status of its answer."""
        sent = []

        async def receive():
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message):
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": path, "headers": headers}
        self.loop.run_until_complete(self.app(scope, receive, send))
        return sent[0]["status"]

    def infer(self, body: bytes) -> int:
        """Send a body over gRPC and return the HTTP status that its answer has over REST."""
        try:
            self.loop.run_until_complete(self.service.call("ModelInfer", body))
        except BundleServerError as error:
            return answer_for(error).status
        return 200


@pytest.fixture(scope="module")
def edge():
    """Open both edges in this process."""
    opened = Edge()
    yield opened
    opened.loop.close()


def check(status: int) -> None:
    """Hold that a body is answered, or the caller's fault."""
    assert status == 200 or 400 <= status < 500


names = st.sampled_from(["features", "x", "", "cpu", "\ud800", "a\0b", "ü" * 300])
datatypes = st.sampled_from([*NUMPY_DTYPES, "fp64", "FP128", "", "BYTE"])
odd_numbers = st.sampled_from([0, -1, 2**31, 2**63, 2**64 - 1, 2**64, 10**400, 1e308, 1e-320])
leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    odd_numbers,
    st.floats(),
    st.text(st.characters(), max_size=5),
    names,
    datatypes,
)
keys = st.sampled_from(
    [
        "inputs",
        "instances",
        "outputs",
        "data",
        "name",
        "shape",
        "datatype",
        "parameters",
        "id",
        "binary_data_size",
        "binary_data",
        "binary_data_output",
        "specversion",
        "source",
        "type",
        "content_type",
        "options",
        "horizon",
        "series",
    ]
)
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4)
)
numbers = st.lists(st.floats(-9, 9) | st.integers(0, 3) | leaves, max_size=6)
sizes = st.lists(st.integers(-1, 6) | odd_numbers, max_size=4)
tensors = st.fixed_dictionaries(
    {
        "name": names,
        "datatype": datatypes,
        "shape": sizes | st.just([1, 2]) | values,
    },
    optional={
        "data": numbers | st.just([1, 2]) | st.lists(numbers, max_size=3) | values,
        "parameters": st.fixed_dictionaries({"binary_data_size": st.integers(-1, 40)}) | values,
    },
)
well_formed = st.builds(
    lambda datatype, data, outputs: {
        "inputs": [{"name": "features", "datatype": datatype, "shape": [1, 2], "data": data}],
        **outputs,
    },
    st.sampled_from(list(NUMPY_DTYPES)),
    st.sampled_from([[0, 1], [[0.5, None]], [[1, 2]], ["a", "\0"], [True, False], [1e300, 65505]]),
    st.sampled_from([{}, {"outputs": [{"name": "sum"}]}, {"id": "x"}])
    | st.just({"parameters": {"binary_data_output": True}}),
)
requests = st.one_of(
    values,
    well_formed,
    st.fixed_dictionaries(
        {"inputs": st.lists(tensors, max_size=3)},
        optional={"id": leaves, "parameters": values, "outputs": st.lists(values, max_size=2)},
    ),
    st.fixed_dictionaries(
        {"instances": st.lists(st.just([1, 2.5]) | numbers | values, max_size=4) | values},
        optional={"parameters": values},
    ),
)
documents = requests.map(lambda value: json.dumps(value).encode())
unicode_documents = requests.map(
    lambda value: json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")
)
deep = st.builds(
    lambda opening, depth, closing: b'{"instances":' + opening * depth + b"1" + closing * depth,
    st.sampled_from([b"[", b'{"data":', b'[{"a":', b"[ "]),
    st.sampled_from([1, 31, 32, 33, 64, 500, 1023, 1024, 1025, 50_000]),
    st.sampled_from([b"]", b"}", b"}]", b""]),
).map(lambda body: body + b"}")
long = st.builds(
    lambda value, count, key: b'{"%b":[%b]}' % (key, b",".join([value] * count)),
    st.sampled_from([b"1", b"[1,2]", b"[[1],[2]]", b"1e400", b"[1,null]", b"[1,2],[3]", b"[]"]),
    st.sampled_from([5000, 50_000]),
    st.sampled_from([b"instances", b"inputs", b'inputs":[{"data']),
)


@st.composite
def mutated(draw, bodies):
    """Lose, double or replace some bytes."""
    body = draw(bodies)
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(body)))
        new = draw(st.binary(max_size=3) | st.sampled_from([b"[", b"]", b"NaN", b"1e999", b"\xff"]))
        body = body[:place] + new + body[place + draw(st.integers(0, 3)) :]
    return body


bodies = st.one_of(
    documents, documents, unicode_documents, mutated(documents), st.binary(), deep, long
)
headers = st.lists(
    st.one_of(
        st.tuples(
            st.just(b"inference-header-content-length"),
            st.sampled_from([b"0", b"-1", b"9" * 30, b"\xb2", b" 5 ", b"", b"1e3"])
            | st.integers(0, 300).map(lambda size: b"%d" % size),
        ),
        st.tuples(st.just(b"content-encoding"), st.sampled_from([b"gzip", b"deflate", b"br", b""])),
        st.tuples(st.just(b"content-type"), st.just(b"application/cloudevents+json")),
        st.tuples(st.sampled_from([b"ce-id", b"ce-source"]), st.binary(max_size=3)),
    ),
    max_size=2,
)
paths = st.sampled_from(
    [
        "/v1/models/sums:predict",
        "/v1/models/echo:predict",
        "/v2/models/sums/infer",
        "/v2/models/echo/infer",
        "/v2/models/echo/versions/1/infer",
        "/v2/repository/index",
        "/v2/repository/models/echo/load",
        "/v1/timeseries/forecast",
    ]
)


@EVERY
@given(path=paths, body=bodies, headers=headers)
def test_any_body_over_rest_is_an_answer_or_the_callers_fault(edge, path, body, headers):
    """No bytes, JSON or headers make the server fail."""
    check(edge.post(path, body, headers))


@EVERY
@given(
    model=st.sampled_from(["sums", "echo"]),
    document=requests.filter(lambda value: isinstance(value, dict)),
    raw=st.binary(max_size=40) | st.just(struct.pack("<2d", 1, 2)),
    off=st.sampled_from([0, 0, 0, -1, 1]),
)
def test_any_binary_body_is_an_answer_or_the_callers_fault(edge, model, document, raw, off):
    """Raw bytes behind any JSON, whatever length its header says, do not make the server fail."""
    head = json.dumps(document).encode()
    header = (b"inference-header-content-length", b"%d" % (len(head) + off))

    check(edge.post(f"/v2/models/{model}/infer", head + raw, [header]))


integers32 = st.integers(-(2**31), 2**31 - 1)
contents = st.fixed_dictionaries(
    {},
    optional={
        "bool_contents": st.lists(st.booleans(), max_size=4),
        "int_contents": st.lists(integers32, max_size=4),
        "int64_contents": st.lists(st.integers(-(2**63), 2**63 - 1), max_size=4),
        "uint_contents": st.lists(st.integers(0, 2**32 - 1), max_size=4),
        "uint64_contents": st.lists(st.integers(0, 2**64 - 1), max_size=4),
        "fp32_contents": st.lists(st.floats(width=32), max_size=4),
        "fp64_contents": st.lists(st.floats(), max_size=4),
        "bytes_contents": st.lists(st.binary(max_size=4), max_size=4),
    },
)
grpc_names = st.sampled_from(["features", "x", "", "ü" * 300, "a\0b"])
grpc_parameters = st.dictionaries(
    st.sampled_from(["content_type", "binary_data_output", "shared_memory_region", ""]),
    st.one_of(
        st.just({}),
        st.fixed_dictionaries({"bool_param": st.booleans()}),
        st.fixed_dictionaries({"int64_param": st.integers(-(2**63), 2**63 - 1)}),
        st.fixed_dictionaries({"double_param": st.floats()}),
        st.fixed_dictionaries({"string_param": grpc_names}),
    ),
    max_size=2,
)
grpc_inputs = st.fixed_dictionaries(
    {
        "name": grpc_names,
        "datatype": datatypes,
        "shape": st.lists(st.integers(-1, 6) | st.integers(-(2**63), 2**63 - 1), max_size=35)
        | st.sampled_from([[1], [2], [1, 2], [4], [0], [2**62, 0]]),
        "contents": contents,
        "parameters": grpc_parameters,
    }
)
messages = st.fixed_dictionaries(
    {"model_name": st.sampled_from(["sums", "echo", "nobody"])},
    optional={
        "id": grpc_names,
        "inputs": st.lists(grpc_inputs, max_size=3),
        "outputs": st.lists(st.fixed_dictionaries({"name": grpc_names}), max_size=2),
        "parameters": grpc_parameters,
        "raw_input_contents": st.lists(st.binary(max_size=20), max_size=3),
    },
).map(lambda fields: ModelInferRequest(**fields).SerializeToString())


@EVERY
@given(body=messages | mutated(messages) | st.binary())
def test_any_body_over_grpc_is_an_answer_or_the_callers_fault(edge, body):
    """No message, well or badly formed, makes the server fail."""
    check(edge.infer(body))
