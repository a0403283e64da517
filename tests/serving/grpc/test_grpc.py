"""gRPC: the whole V2 service, asked over a real connection."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys

import grpc
import numpy as np
import pytest
from google.protobuf import descriptor_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from bundleserver.errors import PredictionError, QueueFull
from bundleserver.serving.grpc import open_inference
from bundleserver.serving.options import ServerOptions
from bundleserver.versions.lifecycle import State
from tests.serving.fakes import (
    ECHO,
    FORECASTS,
    FakeManager,
    FakeModel,
    FakeVersion,
    all_versions,
    echo,
    forecast,
    serving,
)
from tests.serving.grpc_client import connected, tensor

LIMIT_BYTES = 100_000


def failing(error):
    """Make a model that raises."""

    def call(inputs, parameters):
        raise error

    return call


def texts(inputs, parameters):
    """Give text of every numpy kind, in the order of the request's rows."""
    return {"text": np.array(["a", "ü", b"\xff"], dtype=object)}


def narrow(inputs, parameters):
    """Give half precision, which has no typed contents."""
    return {"half": np.array([0.5, np.nan], np.float16), "whole": np.array([1, 2])}


MODELS = (
    FakeModel(
        "sums",
        versions=(
            FakeVersion("1", metadata={"digest": "abc", "metrics": {"f1": 0.92}}),
            FakeVersion("2"),
            FakeVersion("3", state=State.FAILED, reason="FAILED while VERIFYING: sha256 differs"),
        ),
        default="2",
        labels={"stable": "1"},
    ),
    FakeModel("echo", (FakeVersion("1", echo, ECHO),)),
    FakeModel("forecast", (FakeVersion("1", forecast, FORECASTS),)),
    FakeModel("texts", (FakeVersion("1", texts, ECHO),)),
    FakeModel("narrow", (FakeVersion("1", narrow, ECHO),)),
    FakeModel("broken", (FakeVersion("1", failing(PredictionError("'broken'", "oh", "i1"))),)),
    FakeModel("full", (FakeVersion("1", failing(QueueFull("this server", 5))),)),
    FakeModel("odd", (FakeVersion("1", failing(RuntimeError("secret detail"))),)),
    FakeModel("loading", all_versions([("1", State.LOADING, "")])),
)


@pytest.fixture(scope="module")
def server():
    """One server for the tests that change nothing."""
    options = ServerOptions(
        grpc_max_receive_message_length=LIMIT_BYTES,
        grpc_max_send_message_length=LIMIT_BYTES,
        admin="open",
    )
    with serving(FakeManager(*MODELS), options) as served:
        yield served


@pytest.fixture
def client(server):
    """Connect to it."""
    with connected(server.grpc) as client:
        yield client


def error_of(call):
    """Run a call that must fail and return its code and sentence."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value.code(), caught.value.details()


FEATURES = tensor("features", "FP64", [2, 2], fp64_contents=[1.0, 2.0, 3.0, 4.0])


def test_infer_answers_typed_contents_with_typed_contents(client):
    """A request with typed contents gets an answer whose outputs are typed."""
    response = client.infer(FEATURES, model="sums")

    assert [3.0, 7.0] == list(response.outputs[0].contents.fp64_contents)
    assert [b"low", b"high"] == list(response.outputs[1].contents.bytes_contents)
    assert [] == list(response.raw_output_contents)


def test_infer_answers_raw_contents_with_raw_contents(client):
    """A request with raw contents gets raw outputs in the order of the outputs."""
    response = client.infer(
        tensor("features", "FP64", [2, 2]),
        model="sums",
        raw_input_contents=[np.arange(4.0).tobytes()],
    )

    assert ["sum", "label"] == [output.name for output in response.outputs]
    assert [1.0, 5.0] == np.frombuffer(response.raw_output_contents[0]).tolist()
    assert b"\x03\0\0\0low\x04\0\0\0high" == response.raw_output_contents[1]
    assert not response.outputs[0].HasField("contents")


TYPED = [
    ("BOOL", "bool_contents", [True, False]),
    ("INT8", "int_contents", [-128, 127]),
    ("INT16", "int_contents", [-32768, 32767]),
    ("INT32", "int_contents", [-(2**31), 2**31 - 1]),
    ("INT64", "int64_contents", [-(2**63), 2**63 - 1]),
    ("UINT8", "uint_contents", [0, 255]),
    ("UINT16", "uint_contents", [0, 65535]),
    ("UINT32", "uint_contents", [0, 2**32 - 1]),
    ("UINT64", "uint64_contents", [0, 2**64 - 1]),
    ("FP32", "fp32_contents", [0.5, float("inf")]),
    ("FP64", "fp64_contents", [0.1, -0.0]),
    ("BYTES", "bytes_contents", ["ü".encode(), b"\xff\x00"]),
]


@pytest.mark.parametrize(("datatype", "field", "values"), TYPED)
def test_infer_carries_every_datatype_typed(client, datatype, field, values):
    """Every datatype that has typed contents comes back as it went, to its limits."""
    response = client.infer(tensor("x", datatype, [2], **{field: values}))

    assert (datatype, [2]) == (response.outputs[0].datatype, list(response.outputs[0].shape))
    assert values == list(getattr(response.outputs[0].contents, field))


@pytest.mark.parametrize(
    ("datatype", "raw"),
    [
        ("BOOL", b"\x01\x00"),
        ("INT16", np.array([-1, 2], "<i2").tobytes()),
        ("UINT64", np.array([0, 2**64 - 1], "<u8").tobytes()),
        ("FP16", np.array([0.5, np.nan], "<f2").tobytes()),
        ("FP32", np.array([0.5, np.nan], "<f4").tobytes()),
        ("BYTES", b"\x00\0\0\0\x02\0\0\0\xff\xfe"),
    ],
)
def test_infer_carries_raw_contents_to_the_bit(client, datatype, raw):
    """Raw contents come back as the same bytes, NaN and bytes that are no text too."""
    response = client.infer(tensor("x", datatype, [2]), raw_input_contents=[raw])

    assert [raw] == list(response.raw_output_contents)


def test_infer_keeps_nan_in_typed_contents(client):
    """NaN goes in and comes out as itself."""
    response = client.infer(tensor("x", "FP64", [1], fp64_contents=[float("nan")]))

    assert np.isnan(response.outputs[0].contents.fp64_contents[0])


def test_infer_answers_all_raw_when_an_output_is_half_precision(client):
    """An FP16 output, which has no typed contents, makes the whole answer raw."""
    response = client.infer(tensor("x", "FP64", [1], fp64_contents=[1.0]), model="narrow")

    assert ["FP16", "INT64"] == [output.datatype for output in response.outputs]
    assert [4, 16] == [len(raw) for raw in response.raw_output_contents]


def test_infer_writes_text_and_bytes(client):
    """Text is written as UTF-8, bytes as they are."""
    response = client.infer(tensor("x", "FP64", [1], fp64_contents=[1.0]), model="texts")

    assert [b"a", "ü".encode(), b"\xff"] == list(response.outputs[0].contents.bytes_contents)


def test_infer_takes_empty_tensors(client):
    """A tensor of no rows is a tensor."""
    response = client.infer(tensor("x", "FP64", [0, 3]), tensor("y", "INT8", [0]))

    assert [[0, 3], [0]] == [list(output.shape) for output in response.outputs]


@pytest.mark.parametrize(("asked", "answered"), [("", "2"), ("1", "1"), ("stable", "1")])
def test_infer_honours_the_version(client, asked, answered):
    """A version, a label, or the default one answers, and the answer says which."""
    response = client.infer(FEATURES, model="sums", model_version=asked)

    assert ("sums", answered) == (response.model_name, response.model_version)


def test_infer_repeats_id_and_parameters(client):
    """The answer repeats the request's id and its parameters of every kind."""
    kinds = {
        "a": open_inference.InferParameter(bool_param=True),
        "b": open_inference.InferParameter(int64_param=-3),
        "c": open_inference.InferParameter(string_param="x"),
        "d": open_inference.InferParameter(double_param=0.5),
        "e": open_inference.InferParameter(uint64_param=2**64 - 1),
    }

    response = client.infer(FEATURES, model="sums", id="r-1", parameters=kinds)

    assert "r-1" == response.id
    assert kinds == dict(response.parameters)


def test_infer_selects_and_orders_the_outputs_that_are_asked_for(client):
    """Only the outputs that are named come back, in the order of their names in the request."""
    outputs_class = open_inference.ModelInferRequest.InferRequestedOutputTensor
    asked = [outputs_class(name="label"), outputs_class(name="sum")]

    both = client.infer(FEATURES, model="sums", outputs=asked)
    one = client.infer(FEATURES, model="sums", outputs=asked[:1])

    assert ["label", "sum"] == [output.name for output in both.outputs]
    assert ["label"] == [output.name for output in one.outputs]


def test_infer_hands_parameters_to_the_model(client):
    """A forecaster's level arrives as a parameter, its lengths differ from the inputs'."""
    response = client.infer(
        tensor("horizon", "INT64", [1], int64_contents=[3]),
        model="forecast",
        parameters={"level": open_inference.InferParameter(double_param=0.5)},
    )

    assert [0.5, 0.5, 0.5] == list(response.outputs[1].contents.fp64_contents)


def x(datatype="FP64", shape=(2,), **contents):
    """Make the input x."""
    return tensor("x", datatype, list(shape), **contents)


two = {"fp64_contents": [1.0, 2.0]}
BAD = [
    ([x("FP33", **two)], {}, "unknown datatype 'FP33'; expected one of BOOL"),
    ([x("", **two)], {}, "unknown datatype ''"),
    ([x("BF16")], {"raw_input_contents": [b"1234"]}, "unknown datatype 'BF16'"),
    ([x(shape=(3,), **two)], {}, "has 2 values; expected 3 for its shape [3]"),
    ([x(shape=(-1,), **two)], {}, "-1 in its shape"),
    ([x(shape=(2**62, 2**62), **two)], {}, "has 2 values; expected"),
    ([x(shape=(0, 2**62))], {}, "an invalid shape"),
    ([x(shape=(1,) * 70, fp64_contents=[1.0])], {}, "70 dimensions; expected at most 32"),
    ([x(shape=(2**62,))], {"raw_input_contents": [b"1234"]}, "has 4 bytes; expected"),
    (
        [x("INT8", int_contents=[1, 300])],
        {},
        "has the value 300, which is out of range of INT8; expected -128 to 127",
    ),
    (
        [x("UINT16", uint_contents=[1, 70000])],
        {},
        "has the value 70000, which is out of range of UINT16",
    ),
    ([x("INT64", **two)], {}, "its values in fp64_contents; expected int64_contents"),
    ([x("FP16", fp32_contents=[1.0, 2.0])], {}, "FP16; use raw_input_contents"),
    ([x(**two)], {"raw_input_contents": [b"12345678" * 2]}, "both contents and raw_input"),
    ([x(), x()], {"raw_input_contents": [b""]}, "2 inputs and 1 raw_input_contents"),
    ([x(**two), x(**two)], {}, "duplicate input 'x'"),
    ([tensor("", "FP64", [0])], {}, "inputs[0].name is missing"),
    ([x("BYTES")], {"raw_input_contents": [b"\x05\0\0\0ab"]}, "truncated in element 0"),
    (
        [x("BYTES")],
        {"raw_input_contents": [b"\x01\0\0\0a"]},
        "has 1 values; expected 2 for its shape [2]",
    ),
    ([x("BOOL")], {"raw_input_contents": [b"\x01\x02"]}, "expected bytes 0 and 1"),
    ([x(**two)], {"parameters": {"p": open_inference.InferParameter()}}, "'p' without a value"),
    (
        [x(**two)],
        {"outputs": [open_inference.ModelInferRequest.InferRequestedOutputTensor(name="z")]},
        "unknown output 'z'; 'echo' version 1 has the outputs 'x'",
    ),
]


@pytest.mark.parametrize(("inputs", "fields", "sentence"), BAD)
def test_infer_refuses_what_does_not_follow_the_protocol(client, inputs, fields, sentence):
    """A tensor whose datatype, shape and contents disagree is INVALID_ARGUMENT and says why."""
    code, details = error_of(lambda: client.infer(*inputs, **fields))

    assert grpc.StatusCode.INVALID_ARGUMENT == code
    assert sentence in details


def test_infer_refuses_shared_memory(client):
    """A tensor that lies in Triton's shared memory is refused, not taken for an empty one."""
    shared = x()
    shared.parameters["shared_memory_region"].string_param = "r"

    code, details = error_of(lambda: client.infer(shared))

    assert grpc.StatusCode.INVALID_ARGUMENT == code
    assert "shared_memory_region" in details


def test_a_body_that_is_no_message_is_the_callers_mistake(client):
    """Bytes that are no protobuf message are INVALID_ARGUMENT."""
    code, details = error_of(lambda: client.send("ModelInfer", b"\xff\xff\xff"))

    assert (grpc.StatusCode.INVALID_ARGUMENT, "the request is not a valid ModelInferRequest") == (
        code,
        details,
    )


ERRORS = [
    ({"model": "nope"}, "NOT_FOUND", "model 'nope' is not served here"),
    ({"model": "sums", "model_version": "9"}, "NOT_FOUND", "no version or label '9'"),
    ({"model": "sums", "model_version": "3"}, "UNAVAILABLE", "FAILED while VERIFYING"),
    ({"model": "loading"}, "UNAVAILABLE", "LOADING"),
    ({"model": "full"}, "RESOURCE_EXHAUSTED", "is full (5 waiting)"),
    ({"model": "broken"}, "INTERNAL", "incident i1"),
]


@pytest.mark.parametrize(("asked", "code", "sentence"), ERRORS)
def test_infer_says_why_it_does_not_answer(client, asked, code, sentence):
    """Each error has the status of the contract's table, and its sentence."""
    came, details = error_of(lambda: client.infer(FEATURES, **asked))

    assert code == came.name
    assert sentence in details


def test_an_error_of_the_server_itself_tells_no_details(client):
    """An error that nobody raised on purpose is INTERNAL with an incident, without its text."""
    code, details = error_of(lambda: client.infer(FEATURES, model="odd"))

    assert grpc.StatusCode.INTERNAL == code
    assert "incident" in details
    assert "secret" not in details


def test_a_long_error_arrives(client):
    """An error that quotes a long name is cut, so that its status still arrives."""
    code, details = error_of(lambda: client.infer(FEATURES, model="ü" * 20_000))

    assert grpc.StatusCode.NOT_FOUND == code
    assert details.endswith("...")


def test_a_message_over_the_limit_is_refused(client):
    """A request over the size limit is RESOURCE_EXHAUSTED."""
    raw = bytes(LIMIT_BYTES)

    code, _ = error_of(lambda: client.infer(x("UINT8", (LIMIT_BYTES,)), raw_input_contents=[raw]))

    assert grpc.StatusCode.RESOURCE_EXHAUSTED == code


def test_an_answer_over_the_limit_is_refused(client):
    """An answer over the size limit is RESOURCE_EXHAUSTED and says which flag raises it."""
    horizon = tensor("horizon", "INT64", [1], int64_contents=[LIMIT_BYTES])

    code, details = error_of(lambda: client.infer(horizon, model="forecast"))

    assert grpc.StatusCode.RESOURCE_EXHAUSTED == code
    assert "--grpc_max_send_message_length" in details


@pytest.mark.parametrize(
    ("model", "version", "ready"),
    [("sums", "", True), ("sums", "stable", True), ("sums", "3", False), ("loading", "", False)],
)
def test_model_ready_asks_the_version(client, model, version, ready):
    """A model, version or label that is known answers whether it is ready."""
    response = client.call("ModelReady", name=model, version=version)

    assert ready == response.ready


@pytest.mark.parametrize(("model", "version"), [("nope", ""), ("sums", "9")])
def test_model_ready_of_the_unknown_is_not_found(client, model, version):
    """An unknown model or version is NOT_FOUND, which a false 'ready' would hide."""
    code, _ = error_of(lambda: client.call("ModelReady", name=model, version=version))

    assert grpc.StatusCode.NOT_FOUND == code


def test_server_ready_is_the_managers_word(client):
    """A server whose models do not all answer is alive and not ready."""
    assert client.call("ServerLive").live
    assert not client.call("ServerReady").ready


def test_server_metadata_names_the_server(client):
    """Name, version and extensions are those of REST."""
    response = client.call("ServerMetadata")

    assert "bundleserver" == response.name
    assert "model_repository" in response.extensions


def test_model_metadata_describes_one_version(client):
    """Versions, tensors and the bundle's metadata come with the version that was asked for."""
    response = client.call("ModelMetadata", name="sums", version="stable")

    assert ["1", "2"] == list(response.versions)
    assert ("features", "FP64", [-1, 2]) == (
        response.inputs[0].name,
        response.inputs[0].datatype,
        list(response.inputs[0].shape),
    )
    assert ["sum", "label"] == [output.name for output in response.outputs]
    assert "1" == response.properties["model_version"]
    assert "abc" == response.properties["digest"]
    assert {"f1": 0.92} == json.loads(response.properties["metrics"])


def test_model_metadata_of_a_model_that_is_loading_says_so(client):
    """A known model that is not ready is UNAVAILABLE, as in REST."""
    code, _ = error_of(lambda: client.call("ModelMetadata", name="loading"))

    assert grpc.StatusCode.UNAVAILABLE == code


def test_repository_index_lists_every_version(client):
    """The index has every version with the protocol's state and our reason."""
    response = client.call("RepositoryIndex")

    found = {(m.name, m.version): (m.state, m.reason) for m in response.models}
    assert ("READY", "READY") == found["sums", "1"]
    assert ("UNAVAILABLE", "FAILED while VERIFYING: sha256 differs") == found["sums", "3"]
    assert "LOADING" == found["loading", "1"][0]


def test_repository_index_can_list_only_what_answers(client):
    """With 'ready' set, only versions that answer are listed."""
    response = client.call("RepositoryIndex", ready=True)

    assert {"READY"} == {model.state for model in response.models}


LAYOUTS = [
    ({"repository_name": "sums"}, ["1", "2"]),
    ({"model_name": "sums"}, ["1", "2"]),
    ({"model_name": "sums", "model_version": "1"}, ["1"]),
    (
        {
            "model_name": "sums",
            "parameters": {"version": {"string_param": "2"}},
        },
        ["2"],
    ),
    ({"repository_name": "sums", "parameters": {"version": {"int64_param": 1}}}, ["1"]),
]


@pytest.mark.parametrize(("fields", "changed"), LAYOUTS)
def test_unload_and_load_take_either_layout_and_a_version(fields, changed):
    """KServe's and Triton's requests name the model; a version may come as a field or parameter."""
    options = ServerOptions(admin="open")
    with serving(FakeManager(MODELS[0]), options) as served, connected(served.grpc) as client:
        unloaded = client.call("RepositoryModelUnload", **fields)
        status = served.manager.status("sums")
        gone = [v.version for v in status.versions if v.state is State.UNLOADED]
        loaded = client.call("RepositoryModelLoad", **fields)

        assert changed == gone
        assert ("sums", True) == (unloaded.model_name, unloaded.isUnloaded)
        assert ("sums", True) == (loaded.model_name, loaded.isLoaded)
        assert served.manager.is_ready("sums")


LOAD_ERRORS = [
    ({"model_name": "nope"}, "NOT_FOUND", "'nope'"),
    ({"model_name": "sums", "model_version": "9"}, "NOT_FOUND", "'9'"),
    ({"model_name": "sums", "model_version": "3"}, "UNAVAILABLE", "FAILED while VERIFYING"),
    (
        {"model_name": "sums", "parameters": {"config": {"string_param": "{}"}}},
        "INVALID_ARGUMENT",
        "'config'",
    ),
]


@pytest.mark.parametrize(("fields", "code", "sentence"), LOAD_ERRORS)
def test_load_says_why_it_failed(client, fields, code, sentence):
    """A load that cannot be done has the status of its reason."""
    came, details = error_of(lambda: client.call("RepositoryModelLoad", **fields))

    assert code == came.name
    assert sentence in details


def health(client, service):
    """Ask the standard health service."""
    stub = health_pb2_grpc.HealthStub(client.channel)
    status = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=20.0).status
    return health_pb2.HealthCheckResponse.ServingStatus.Name(status)


@pytest.mark.parametrize(
    ("service", "status"),
    [
        ("", "NOT_SERVING"),
        (open_inference.SERVICE, "NOT_SERVING"),
        ("sums", "SERVING"),
        ("loading", "NOT_SERVING"),
    ],
)
def test_health_follows_readiness(client, service, status):
    """The standard health service says SERVING for what is ready: the server, or one model."""
    assert status == health(client, service)


def test_health_of_an_unknown_model_is_not_found(client):
    """The health of what is not served is NOT_FOUND."""
    code, _ = error_of(lambda: health(client, "nope"))

    assert grpc.StatusCode.NOT_FOUND == code


def test_health_watch_tells_changes_and_ends_with_the_server():
    """A watcher hears of a model that appears, and of the server's end."""
    request = health_pb2.HealthCheckRequest(service="sums")
    with serving(FakeManager()) as served, connected(served.grpc) as client:
        heard = health_pb2_grpc.HealthStub(client.channel).Watch(request, timeout=20.0)
        unknown = next(heard).status
        served.manager.add(FakeModel("sums"))
        ready = next(heard).status
        served.server.stop()
        last = [response.status for response in heard]

    status = health_pb2.HealthCheckResponse
    assert [status.SERVICE_UNKNOWN, status.SERVING] == [unknown, ready]
    assert [status.NOT_SERVING] == last


def reflect(client, **question):
    """Ask the reflection service one question."""
    stub = reflection_pb2_grpc.ServerReflectionStub(client.channel)
    requests = iter([reflection_pb2.ServerReflectionRequest(**question)])
    return next(stub.ServerReflectionInfo(requests, timeout=20.0))


def test_reflection_lists_the_services(client):
    """Reflection names every service that is answered."""
    listed = reflect(client, list_services="").list_services_response.service

    assert {
        "inference.GRPCInferenceService",
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    } == {service.name for service in listed}


@pytest.mark.parametrize("symbol", [open_inference.SERVICE, "grpc.health.v1.Health"])
def test_reflection_describes_the_services(client, symbol):
    """Reflection gives the file that defines a service, so that grpcurl can call it."""
    response = reflect(client, file_containing_symbol=symbol).file_descriptor_response

    file = descriptor_pb2.FileDescriptorProto.FromString(response.file_descriptor_proto[0])
    assert symbol in {f"{file.package}.{service.name}" for service in file.service}


def test_kserves_client_reads_typed_and_raw_answers(server):
    """KServe's own client gets the same values from typed and from raw requests."""
    from kserve import InferenceGRPCClient, InferInput, InferRequest

    async def ask(binary: bool):
        given = InferInput("features", [2, 2], "FP64")
        given.set_data_from_numpy(np.arange(4.0).reshape(2, 2), binary_data=binary)
        async with InferenceGRPCClient(server.grpc, retries=0) as client:
            response = await client.infer(InferRequest("sums", [given], model_version="stable"))
            ready = await client.is_model_ready("sums")
        arrays = {output.name: output.as_numpy().tolist() for output in response.outputs}
        return arrays, response.model_version, ready

    typed, raw = asyncio.run(ask(False)), asyncio.run(ask(True))

    assert ({"sum": [1.0, 5.0], "label": [b"low", b"high"]}, "1", True) == typed
    assert typed == raw


TRITON = """
import sys
import numpy as np
import tritonclient.grpc as triton

client = triton.InferenceServerClient(sys.argv[1])
given = triton.InferInput("features", [2, 2], "FP64")
given.set_data_from_numpy(np.arange(4.0).reshape(2, 2))
label = triton.InferRequestedOutput("label")
answer = client.infer("sums", [given], model_version="stable", request_id="7", outputs=[label])
print(answer.as_numpy("label").tolist(), answer.as_numpy("sum"), answer.get_response().id)
print(client.infer("sums", [given]).as_numpy("sum").tolist())
print(client.is_server_live(), client.is_server_ready(), client.is_model_ready("sums", "1"))
about = client.get_model_metadata("sums")
print(list(about.versions), about.inputs[0].datatype, [output.name for output in about.outputs])
print([(m.name, m.version, m.state) for m in client.get_model_repository_index().models])
client.unload_model("sums")
print(client.is_model_ready("sums"))
client.load_model("sums")
print(client.is_model_ready("sums"))
try:
    client.infer("nope", [given])
except triton.InferenceServerException as error:
    print(error.status())
"""


def test_tritons_client_works():
    """Triton's own client infers, reads metadata and the index, unloads and loads."""
    model = FakeModel("sums", labels={"stable": "1"})
    with serving(FakeManager(model), ServerOptions(admin="open")) as served:
        ended = subprocess.run(
            [sys.executable, "-c", TRITON, served.grpc], capture_output=True, text=True, timeout=60
        )

    assert [
        "[b'low', b'high'] None 7",
        "[1.0, 5.0]",
        "True True True",
        "['1'] FP64 ['sum', 'label']",
        "[('sums', '1', 'READY')]",
        "False",
        "True",
        "StatusCode.NOT_FOUND",
    ] == ended.stdout.splitlines(), ended.stderr


def test_the_compiled_service_is_its_proto_file(tmp_path):
    """The descriptor set that is shipped is what protoc makes of the .proto beside it."""
    from grpc_tools import protoc

    source = open_inference.COMPILED.with_suffix(".proto")
    made = tmp_path / "made.binpb"

    code = protoc.main(
        ["protoc", f"-I{source.parent}", f"--descriptor_set_out={made}", str(source)]
    )

    assert 0 == code
    files = descriptor_pb2.FileDescriptorSet.FromString
    assert files(made.read_bytes()) == files(open_inference.COMPILED.read_bytes())


def test_the_service_answers_every_rpc_of_its_proto(client):
    """No RPC of the service is left unimplemented."""
    codes = set()
    for rpc in open_inference.METHODS:
        try:
            client.call(rpc)
        except grpc.RpcError as error:
            codes.add(error.code())

    assert {grpc.StatusCode.NOT_FOUND} == codes
