"""ManagedModel: answering in worker threads, and serving under an untouched kserve.ModelServer."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType

import httpx
import numpy as np
import pytest
import threadpoolctl
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve import errors as kserve_errors
from prometheus_client import CollectorRegistry

from bundleserver.errors import (
    HistoryTooLong,
    InvalidInput,
    ModelNotFound,
    NotReady,
    OutOfMemory,
    PredictionError,
    QueueFull,
    RequestTimedOut,
    RequestTooLarge,
    TooManyBytes,
    TooManyValues,
    VersionNotFound,
)
from bundleserver.serving.cpus import cpu_limit, limit_library_threads
from bundleserver.serving.execution.thread_pool import ThreadPool
from bundleserver.serving.kserve.model import ManagedModel
from bundleserver.serving.kserve.types import raising_kserve_errors
from bundleserver.serving.metrics.requests import RequestMetrics
from bundleserver.serving.requests import PredictRequest, RequestedOutput
from bundleserver.tensors import NamedTensor
from bundleserver.versions.lifecycle import State
from bundleserver.versions.serving_config import ServingConfig
from tests.serving.fakes import (
    DEADLINE_SECONDS,
    ECHO,
    FORECASTS,
    FakeManager,
    FakeModel,
    FakeVersion,
    Gate,
    all_versions,
    echo,
    forecast,
)

ROWS = [[1.0, 2.0], [3.0, 4.0]]


def model_of(*versions, **about):
    """Make the model 'sums' of a manager that has it."""
    manager = FakeManager(FakeModel("sums", versions or (FakeVersion("1"),), **about))
    return ManagedModel("sums", manager), manager


def ask(model, **request):
    """Answer one request on a loop of its own."""
    return asyncio.run(model.answer(PredictRequest("sums", **request)))


def features(values=ROWS):
    """Make the tensors of a V2 request."""
    return (NamedTensor("features", np.array(values)),)


def test_answer_binds_predicts_and_names_its_version():
    """Tensors are bound to the signature, and the answer says which version gave it."""
    model, _ = model_of(FakeVersion("1"), FakeVersion("2"), labels={"stable": "2"})

    response = ask(model, version="stable", tensors=features(), id="7")

    assert ("sums", "2", "7") == (response.model, response.version, response.id)
    assert [3.0, 7.0] == response.outputs["sum"].tolist()


def test_answer_takes_rows():
    """V1 rows are bound by the signature too."""
    model, _ = model_of()

    response = ask(model, rows=ROWS)

    assert ["low", "high"] == response.outputs["label"].tolist()
    assert response.rowwise


def test_answer_hands_the_content_type_to_the_signature():
    """The parameter content_type decides how tensors are bound, and must be text."""
    model, _ = model_of()

    with pytest.raises(InvalidInput, match="content_type"):
        ask(model, tensors=features(), parameters={"content_type": 3})


def test_answer_repeats_parameters_but_not_the_encoding():
    """Parameters come back with the answer; binary_data_output, which was obeyed, does not."""
    model, _ = model_of()

    response = ask(model, tensors=features(), parameters={"a": 1, "binary_data_output": True})

    assert {"a": 1} == response.parameters


def test_answer_selects_outputs():
    """Only the outputs that are named come back, in the order of their names."""
    model, _ = model_of()
    asked = (RequestedOutput("label"), RequestedOutput("sum"))

    both = ask(model, tensors=features(), outputs=asked)
    one = ask(model, tensors=features(), outputs=asked[1:])

    assert ["label", "sum"] == list(both.outputs)
    assert ["sum"] == list(one.outputs)


def test_answer_refuses_an_unknown_output():
    """An output that the model does not give is the caller's mistake and names those it gives."""
    model, _ = model_of()

    with pytest.raises(InvalidInput, match=r"unknown output 'x'.* has the outputs 'sum', 'label'"):
        ask(model, tensors=features(), outputs=(RequestedOutput("x"),))


def forecaster():
    """Make a model that forecasts."""
    return model_of(FakeVersion("1", forecast, FORECASTS))[0]


def test_each_instance_of_a_forecast_is_a_call_of_its_own():
    """Instances differ in length and level, and each is answered by one object of plain lists."""
    response = ask(
        forecaster(), rows=[{"horizon": 1, "level": 0.5}, {"horizon": 2, "history": [1, 3]}]
    )

    assert [
        {"mean": [0.0], "upper": [0.5]},
        {"mean": [2.0, 2.0], "upper": [2.95, 2.95]},
    ] == response.answers
    assert not response.rowwise


def test_a_request_parameter_is_the_level_of_every_instance_without_its_own():
    """A level of the request holds for the instances that name none."""
    response = ask(
        forecaster(), rows=[{"horizon": 1}, {"horizon": 1, "level": 0.1}], parameters={"level": 0.7}
    )

    assert [[0.7], [0.1]] == [answer["upper"] for answer in response.answers]


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([], "'instances' is an empty array"),
        ([{"horizon": 1}, 24], r"instances\[1\] is the number 24; .* expects an object"),
        ([{"horizn": 1}], r"instances\[0\]: unknown input 'horizn'.* did you mean 'horizon'"),
        ([{"horizon": "x"}], r"instances\[0\]: input 'horizon'"),
        ([{"horizon": 1, "level": "x"}], r"instances\[0\]: level is 'x'"),
        ([{"horizon": None}], r"instances\[0\]: input 'horizon'"),
    ],
)
def test_a_wrong_instance_is_named(rows, sentence):
    """An instance that does not fit is the caller's mistake and is named by its index."""
    with pytest.raises(InvalidInput, match=sentence):
        ask(forecaster(), rows=rows)


@pytest.mark.parametrize(
    ("version", "error"), [("9", VersionNotFound), ("3", NotReady), (None, NotReady)]
)
def test_answer_raises_what_the_manager_says(version, error):
    """What is not served or not ready is said by the manager's own error."""
    model, _ = model_of(*all_versions([("3", State.FAILED, "broken")]), default=None)

    with pytest.raises(error):
        ask(model, version=version, tensors=features())


def test_the_event_loop_goes_on_while_a_model_works():
    """Another task runs to its end while a prediction is under way."""
    gate = Gate()
    model, _ = model_of(FakeVersion("1", gate))

    async def both():
        answer = asyncio.create_task(model.answer(PredictRequest("sums", rows=ROWS)))
        await asyncio.to_thread(gate.entered.acquire, timeout=DEADLINE_SECONDS)
        gate.opened.set()
        return await answer

    assert [3.0, 7.0] == asyncio.run(both()).outputs["sum"].tolist()


def test_the_lease_outlives_a_cancelled_request():
    """A request that is cancelled keeps its version until the thread that predicts is done."""
    gate = Gate()
    model, manager = model_of(FakeVersion("1", gate))

    async def cancel():
        answer = asyncio.create_task(model.answer(PredictRequest("sums", rows=ROWS)))
        await asyncio.to_thread(gate.entered.acquire, timeout=DEADLINE_SECONDS)
        answer.cancel()
        await asyncio.wait({answer})
        return answer.cancelled(), manager.leased

    assert (True, 1) == asyncio.run(cancel())
    gate.opened.set()
    manager.close()
    assert 0 == manager.leased


def test_a_full_queue_refuses_and_frees_itself():
    """One thread and one place in the queue take two requests; the third is refused at once."""
    gate = Gate()
    manager = FakeManager(FakeModel("sums", (FakeVersion("1", gate),)))
    model = ManagedModel("sums", manager, ThreadPool(threads=1, max_queue=1))
    request = PredictRequest("sums", rows=ROWS)

    async def three():
        first = asyncio.create_task(model.answer(request))
        await asyncio.to_thread(gate.entered.acquire, timeout=DEADLINE_SECONDS)
        second = asyncio.create_task(model.answer(request))
        await asyncio.wait({second}, timeout=0)
        with pytest.raises(QueueFull, match="is full"):
            await model.answer(request)
        gate.opened.set()
        await asyncio.gather(first, second)
        return await model.answer(request)

    assert [3.0, 7.0] == asyncio.run(three()).outputs["sum"].tolist()


def test_a_request_that_is_cancelled_while_it_waits_never_runs():
    """A waiting request whose client left gives its place back and is not computed."""
    gate = Gate()
    manager = FakeManager(FakeModel("sums", (FakeVersion("1", gate),)))
    pool = ThreadPool(threads=1, max_queue=1)
    model = ManagedModel("sums", manager, pool)
    request = PredictRequest("sums", rows=ROWS)

    async def leave():
        first = asyncio.create_task(model.answer(request))
        await asyncio.to_thread(gate.entered.acquire, timeout=DEADLINE_SECONDS)
        for _ in range(3):
            waiting = asyncio.create_task(model.answer(request))
            await asyncio.wait({waiting}, timeout=0)
            waiting.cancel()
            await asyncio.wait({waiting})
        gate.opened.set()
        await first

    asyncio.run(leave())
    pool.shutdown()
    assert not gate.entered.acquire(blocking=False)


def test_a_pool_has_as_many_threads_as_cpus():
    """Without a number of threads a pool takes the CPUs of its container."""
    assert cpu_limit() == ThreadPool().threads


def test_library_threads_are_limited_in_each_worker(monkeypatch):
    """A worker thread's BLAS and OpenMP calls use no more threads than its share."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)

    def limited():
        limit_library_threads(1)
        return [library["num_threads"] for library in threadpoolctl.threadpool_info()]

    with ThreadPoolExecutor(1) as pool:
        numbers = pool.submit(limited).result()

    assert {1} == set(numbers)
    assert "1" == os.environ["OMP_NUM_THREADS"]


def test_a_pool_starts_while_torch_is_being_imported(monkeypatch):
    """A bundle may be loading torch when the first request starts a thread."""
    monkeypatch.setitem(sys.modules, "torch", ModuleType("torch"))

    assert 3 == ThreadPool(1).submit(lambda: 3).result()


def test_a_pool_survives_a_library_whose_threads_cannot_be_limited(monkeypatch, caplog):
    """A pool whose thread does not start would answer nobody any more."""

    def refuse(limits):
        raise OSError("no such library")

    monkeypatch.setattr(threadpoolctl, "threadpool_limits", refuse)

    assert 3 == ThreadPool(1).submit(lambda: 3).result()
    assert "libraries may use more than" in caplog.text
    assert "no such library" in caplog.text


def test_readiness_is_the_managers_whatever_kserve_assigns():
    """Neither start(), load() nor an assignment makes a model healthy; its default version does."""
    model, manager = model_of(*all_versions([("1", State.LOADING, "")]))
    model.start()
    model.ready = True

    assert not model.load()
    assert not asyncio.run(model.healthy())
    manager.load("sums", timeout_seconds=1)
    model.stop()
    assert asyncio.run(model.healthy())


@pytest.mark.parametrize(
    ("model", "payload", "error", "sentence"),
    [
        ("sums", {"instances": [["a", "b"]]}, kserve_errors.InvalidInput, "expects FP64"),
        ("sums", {}, kserve_errors.InvalidInput, "'instances' or 'inputs'"),
        ("sums", [[1, 2]], kserve_errors.InvalidInput, "expected a JSON object"),
        ("sums", b"x", kserve_errors.InvalidInput, "is not valid JSON"),
        ("loading", {"instances": [[1, 2]]}, kserve_errors.ModelNotReady, "LOADING"),
        ("nope", {"instances": [[1, 2]]}, kserve_errors.ModelNotFound, "not served here"),
    ],
)
def test_predict_raises_errors_that_kserve_knows(model, payload, error, sentence):
    """The handlers of kserve get their own classes, with our sentence as message and as reason."""
    manager = FakeManager(
        FakeModel("sums"), FakeModel("loading", all_versions([("1", State.LOADING, "")]))
    )

    with pytest.raises(error, match=sentence) as caught:
        asyncio.run(ManagedModel(model, manager).predict(payload))

    assert str(caught.value) == caught.value.reason


def test_metadata_types_are_those_of_the_version_that_answers():
    """Types come from the default version, and are empty while none answers."""
    ready, _ = model_of()
    loading, _ = model_of(*all_versions([("1", State.LOADING, "")]))

    assert [{"name": "features", "datatype": "FP64", "shape": [-1, 2]}] == ready.get_input_types()
    assert ["sum", "label"] == [output["name"] for output in ready.get_output_types()]
    assert [] == loading.get_input_types()


def call(model, key=""):
    """Ask over V1 as kserve's data plane does, and return the version that its headers name."""
    _, headers = asyncio.run(model({"instances": ROWS}, headers={"x-routing-key": key}))
    return headers["X-Model-Version"]


def test_a_routing_key_stays_with_its_version():
    """Traffic is split by the header that ``serve`` splits it by."""
    config = ServingConfig(traffic={"1": 50, "2": 50})
    model, _ = model_of(FakeVersion("1"), FakeVersion("2"), config=config)

    found = {number: {call(model, f"user-{number}") for _ in range(3)} for number in range(12)}

    assert {1} == {len(versions) for versions in found.values()}
    assert {"1", "2"} == set.union(*found.values())


def test_the_header_names_the_models_own_version():
    """A model that asks another one before and after its own prediction names its own version."""
    other, _ = model_of(FakeVersion("1"))

    class Asking(ManagedModel):
        async def preprocess(self, payload, headers=None):
            await other(payload)
            return payload

        async def postprocess(self, result, headers=None):
            await other.predict({"instances": ROWS})
            return result

    manager = FakeManager(FakeModel("own", (FakeVersion("2"),), default="2"))

    assert "2" == call(Asking("own", manager))


UNTOUCHED = """
import sys
import threading
from bundleserver.serving.kserve.repository import BundleRepository
from kserve import ModelServer
from tests.serving.fakes import ECHO, FakeManager, FakeModel, FakeVersion, all_versions, echo
from bundleserver.versions.lifecycle import State

manager = FakeManager(
    FakeModel("sums", (FakeVersion("1"), FakeVersion("2"))),
    FakeModel("echo", (FakeVersion("1", echo, ECHO),)),
    FakeModel("loading", all_versions([("1", State.LOADING, "")])),
)
http_port, grpc_port = map(int, sys.argv[1:])
server = ModelServer(
    http_port=http_port,
    grpc_port=grpc_port,
    registered_models=BundleRepository(manager),
)
server.start([])
"""


@pytest.fixture(scope="module")
def untouched(free_ports):
    """Run kserve's own server, nothing of it replaced, in a process of its own."""
    http_port, grpc_port = free_ports(2)
    process = subprocess.Popen(
        [sys.executable, "-c", UNTOUCHED, str(http_port), str(grpc_port)],
        stderr=subprocess.PIPE,
        text=True,
    )
    lines = []
    listening = threading.Event()

    def read():
        for line in process.stderr:
            lines.append(line)
            if "Uvicorn running" in line:
                listening.set()

    reader = threading.Thread(target=read)
    reader.start()
    assert listening.wait(60), "".join(lines)
    yield f"http://127.0.0.1:{http_port}", f"127.0.0.1:{grpc_port}"
    process.kill()
    process.wait(DEADLINE_SECONDS)
    reader.join(DEADLINE_SECONDS)


@pytest.mark.parametrize("content_type", ["application/json", "application/x-www-form-urlencoded"])
def test_an_untouched_kserve_server_answers_v1(untouched, content_type):
    """V1 requests reach the model through kserve's own routes, those of a bare curl too."""
    rest, _ = untouched
    body, headers = json.dumps({"instances": ROWS}), {"content-type": content_type}

    answer = httpx.post(f"{rest}/v1/models/sums:predict", content=body, headers=headers)

    assert {
        "predictions": [{"sum": 3.0, "label": "low"}, {"sum": 7.0, "label": "high"}]
    } == answer.json()
    assert "1" == answer.headers["x-model-version"]


@pytest.mark.parametrize("binary", [False, True])
def test_an_untouched_kserve_server_answers_v2(untouched, binary):
    """The clients of kserve get the same values over REST and gRPC, as JSON and raw."""
    rest, grpc_address = untouched

    def request():
        given = InferInput("features", [2, 2], "FP64", parameters={})
        given.set_data_from_numpy(np.array(ROWS), binary_data=binary)
        return InferRequest("sums", [given], request_id="7")

    async def both():
        config = RESTConfig(protocol="v2")
        async with InferenceGRPCClient(grpc_address) as client:
            over_grpc = await client.infer(request())
        async with InferenceRESTClient(config) as client:
            over_rest = await client.infer(rest, request(), model_name="sums")
        return over_grpc, over_rest

    for response in asyncio.run(both()):
        assert [3.0, 7.0] == response.outputs[0].as_numpy().tolist()
        assert ["sum", "label"] == [output.name for output in response.outputs]
        assert "7" == response.id


@pytest.mark.parametrize(
    ("datatype", "values"),
    [
        ("BOOL", [True, False]),
        ("INT8", [-1, 2]),
        ("UINT64", [0, 2**64 - 1]),
        ("FP32", [0.5, 1.5]),
        ("BYTES", ["a", "ü"]),
    ],
)
def test_an_untouched_kserve_server_carries_every_kind(untouched, datatype, values):
    """Datatypes pass through kserve's types unchanged."""
    rest, _ = untouched
    tensor = {"name": "x", "datatype": datatype, "shape": [2], "data": values}

    answer = httpx.post(f"{rest}/v2/models/echo/infer", json={"inputs": [tensor]}).json()

    assert (datatype, values) == (answer["outputs"][0]["datatype"], answer["outputs"][0]["data"])


@pytest.mark.parametrize(
    ("model", "body", "status"),
    [
        ("nope", {"instances": ROWS}, 404),
        ("loading", {"instances": ROWS}, 503),
        ("sums", {"instances": [["a", "b"]]}, 400),
    ],
)
def test_an_untouched_kserve_server_has_the_right_errors(untouched, model, body, status):
    """Errors have the statuses that kserve's own models give."""
    rest, _ = untouched

    answer = httpx.post(f"{rest}/v1/models/{model}:predict", json=body)

    assert status == answer.status_code
    assert "error" in answer.json()


def test_an_untouched_kserve_server_says_unavailable_over_grpc(untouched):
    """A model that is loading is UNAVAILABLE over gRPC, where kserve's own class would crash."""
    import grpc

    _, address = untouched
    given = InferInput("features", [2, 2], "FP64")
    given.set_data_from_numpy(np.array(ROWS))

    async def ask_loading():
        async with InferenceGRPCClient(address, retries=0) as client:
            await client.infer(InferRequest("loading", [given]))

    with pytest.raises(grpc.RpcError) as caught:
        asyncio.run(ask_loading())

    assert grpc.StatusCode.UNAVAILABLE == caught.value.code()
    assert "LOADING" in caught.value.details()


def test_an_untouched_kserve_server_reads_metadata_and_readiness(untouched):
    """Metadata, readiness, unload and load of kserve's own routes reflect the manager."""
    rest, _ = untouched

    about = httpx.get(f"{rest}/v2/models/sums").json()
    before = httpx.get(f"{rest}/v2/models/echo/ready").status_code
    unloaded = httpx.post(f"{rest}/v2/repository/models/echo/unload").status_code
    gone = httpx.get(f"{rest}/v2/models/echo/ready").status_code
    loaded = httpx.post(f"{rest}/v2/repository/models/echo/load").status_code
    unknown = httpx.post(f"{rest}/v2/repository/models/nope/unload").status_code

    assert "features" == about["inputs"][0]["name"]
    assert [200, 200, 503, 200, 404] == [before, unloaded, gone, loaded, unknown]


def test_requests_are_measured():
    """A model counts its requests where it was given metrics."""
    registry = CollectorRegistry()
    manager = FakeManager(FakeModel("sums"))
    model = ManagedModel("sums", manager, metrics=RequestMetrics(registry))

    ask(model, rows=ROWS)

    labels = {"model": "sums", "version": "1", "protocol": "v1", "outcome": "ok"}
    assert 1 == registry.get_sample_value("bundleserver_requests_total", labels)


def test_an_echo_gives_back_what_came():
    """A model with an open signature gets the tensors under their own names."""
    model, _ = model_of(FakeVersion("1", echo, ECHO))

    response = ask(
        model, tensors=(NamedTensor("a", np.array([1])), NamedTensor("b", np.array([2])))
    )

    assert ["a", "b"] == list(response.outputs)


def test_an_unknown_model_is_not_found():
    """A model that the manager has dropped is not found any more."""
    with pytest.raises(ModelNotFound):
        ask(ManagedModel("sums", FakeManager()), rows=ROWS)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RequestTooLarge(5), kserve_errors.InvalidInput),
        (TooManyValues(5, 4), kserve_errors.InvalidInput),
        (HistoryTooLong(5, 4, 8), kserve_errors.InvalidInput),
        (TooManyBytes(5, 4, 8), kserve_errors.ModelNotReady),
        (OutOfMemory("'m' version 1", "no", "1"), kserve_errors.ModelNotReady),
        (RequestTimedOut(2, 1), kserve_errors.ModelNotReady),
        (VersionNotFound("m", "1", "no"), kserve_errors.ModelNotFound),
        (PredictionError("'m' version 1", "no", "1"), PredictionError),
    ],
)
def test_each_error_is_of_the_kind_that_its_status_says(error, expected):
    """An unmodified server answers as ours does, by the one table."""
    with pytest.raises(expected) as raised, raising_kserve_errors("m"):
        raise error

    told = raised.value
    assert str(error) in (str(told), getattr(told, "reason", ""))
