"""A server with a payload log: what is in the files of requests in every protocol."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager

import httpx
import numpy as np
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from bundleserver.serving.execution.answering import ServedModels
from bundleserver.serving.options import ServerOptions
from bundleserver.serving.payload_log.log import PayloadLog
from bundleserver.serving.payload_log.log_options import LogOptions
from bundleserver.serving.payload_log.logged_models import LoggedModels
from bundleserver.serving.payload_log.metrics import LogMetrics
from bundleserver.serving.payload_log.writing import Writer
from bundleserver.serving.requests import PredictRequest
from bundleserver.serving.server import BundleServer
from bundleserver.tensors import TensorSpec
from bundleserver.tensors.signature import Signature
from bundleserver.versions.serving_config import ServingConfig
from tests.serving.fakes import (
    DEADLINE_SECONDS,
    SUMS,
    FakeManager,
    FakeModel,
    FakeVersion,
    Gate,
    serving,
)
from tests.serving.grpc_client import connected, tensor
from tests.serving.payload_log.entries import files, read, tensors

ROW = {"instances": [[1.0, 2.0]]}


def doubled_in_place(inputs, parameters):
    """Write to the inputs, as StandardScaler(copy=False) does."""
    values = inputs["features"].values
    values *= 2
    return {"sum": values.sum(axis=1), "label": np.array(["x"] * len(values), dtype=object)}


@contextmanager
def logged(directory, *models, columns=("all",), **options):
    """Serve models with a log, which is complete after the block."""
    options = ServerOptions(log_requests=directory / "log", log_columns=columns, **options)
    with serving(FakeManager(*(models or (FakeModel("sums"),))), options) as served:
        yield served


def rows_of(directory):
    """Return all rows in the files of a log, in the order in which they were written."""
    return [row for path in files(directory) for row in read(path).to_pylist()]


def infer(served, *inputs, model="sums", **more):
    """Ask with V2."""
    body = {"inputs": list(inputs), **more}
    return httpx.post(f"{served.rest}/v2/models/{model}/infer", json=body, timeout=DEADLINE_SECONDS)


def test_every_protocol_has_the_same_columns(tmp_path):
    """V1, V2 and gRPC are rows of one file, with ids where clients sent them."""
    features = {"name": "features", "datatype": "FP64", "shape": [1, 2], "data": [1.0, 2.0]}
    with logged(tmp_path) as served:
        key = {"X-Routing-Key": "heidi"}
        httpx.post(f"{served.rest}/v1/models/sums:predict", json=ROW, headers=key)
        infer(served, features, id="mine")
        with connected(served.grpc) as client:
            client.infer(tensor("features", "FP64", [1, 2], fp64_contents=[1.0, 2.0]), model="sums")

    assert 1 == len(files(tmp_path))
    rows = rows_of(tmp_path)
    assert ["v1", "v2", "grpc"] == [row["protocol"] for row in rows]
    assert [(1.0, 2.0, 3.0, "low")] * 3 == [
        tuple(
            row[f"{name}"] for name in ("input_cpu", "input_memory", "output_sum", "output_label")
        )
        for row in rows
    ]
    assert "mine" == rows[1]["request_id"]
    assert [True, False, False] == [row["routing_key"] is not None for row in rows]
    assert all(0 < row["seconds"] < DEADLINE_SECONDS for row in rows)


def test_inputs_are_not_logged_unless_they_are_asked_for(tmp_path):
    """By default the log has outputs and what is said of requests."""
    with logged(tmp_path, columns=()) as served:
        httpx.post(f"{served.rest}/v1/models/sums:predict", json=ROW)

    (row,) = rows_of(tmp_path)
    assert not [name for name in row if name.startswith("input_")]
    assert (3.0, "low") == (row["output_sum"], row["output_label"])


def test_inputs_are_as_they_came_although_the_model_wrote_to_them(tmp_path):
    """Otherwise the log would have numbers that nobody sent; large inputs too."""
    model = FakeModel("sums", (FakeVersion("1", doubled_in_place),))
    large = np.ones((100_000, 2))
    with logged(tmp_path, model) as served:
        infer(served, {"name": "features", "datatype": "FP64", "shape": [1, 2], "data": [1.0, 2.0]})
        raw = {
            "name": "features",
            "datatype": "FP64",
            "shape": [100_000, 2],
            "data": large.tolist(),
        }
        assert 200 == infer(served, raw).status_code

    rows = rows_of(tmp_path)
    assert (1.0, 2.0, 6.0) == tuple(
        rows[0][f"{n}"] for n in ("input_cpu", "input_memory", "output_sum")
    )
    assert {(1.0, 4.0)} == {(row["input_cpu"], row["output_sum"]) for row in rows[1:]}


def test_failed_requests_have_their_outcome(tmp_path):
    """Those that do not fit the signature, and those whose model raises; no payload is in them."""

    def broken(inputs, parameters):
        raise ValueError("secret 4711")

    with logged(
        tmp_path, FakeModel("sums"), FakeModel("bad", (FakeVersion("1", broken),))
    ) as served:
        url = f"{served.rest}/v1/models"
        httpx.post(f"{url}/sums:predict", json={"instances": [["secret", 4711]]})
        httpx.post(f"{url}/bad:predict", json=ROW)
        httpx.post(f"{url}/nope:predict", json=ROW)

    found = {
        (path.parts[-5], row["outcome"])
        for path in files(tmp_path)
        for row in read(path).to_pylist()
    }
    assert {("model=sums", "invalid_input"), ("model=bad", "error")} == found
    assert not any(b"secret" in path.read_bytes() for path in files(tmp_path))


def test_mirrored_requests_are_not_logged(tmp_path):
    """Nobody asked them; the canary's and the default version's own requests are."""
    model = FakeModel(
        "sums",
        (FakeVersion("1"), FakeVersion("2")),
        config=ServingConfig(shadow=("2",)),
    )
    with logged(tmp_path, model) as served:
        for _ in range(5):
            httpx.post(f"{served.rest}/v1/models/sums:predict", json=ROW)

    assert {"version=1"} == {path.parts[-4] for path in files(tmp_path)}
    assert 5 == len(rows_of(tmp_path))


def test_a_model_without_any_declared_input_is_logged_as_it_was_asked(tmp_path):
    """Columns are those that came."""
    model = FakeModel("echo", (FakeVersion("1", lambda i, p: {"y": i["a"].values}, Signature()),))
    with logged(tmp_path, model) as served:
        infer(
            served,
            {"name": "a", "datatype": "BYTES", "shape": [2], "data": ["x", "größer"]},
            model="echo",
        )

    assert [("x", "x"), ("größer", "größer")] == [
        (row["input_a"], row["output_y"]) for row in rows_of(tmp_path)
    ]


def test_without_the_flag_nothing_is_different():
    """There is no log, no thread and no other class."""
    server = BundleServer(
        FakeManager(FakeModel("sums")), ServerOptions(configure_logging=False), CollectorRegistry()
    )

    assert (ServedModels, None) == (type(server.served), server.log)


@pytest.fixture
def parts(tmp_path):
    """Make a log that is not started, and the models that it is of."""

    def made(columns=(), sample=1.0, call=None, draw=lambda: 0.5, signature=SUMS):
        version = FakeVersion("1", call, signature) if call else FakeVersion("1")
        manager = FakeManager(FakeModel("sums", (version,)))
        options, metrics = LogOptions(tmp_path, sample, columns), LogMetrics(CollectorRegistry())
        log = PayloadLog(options, Writer(options, manager, metrics), metrics)
        return log, LoggedModels(log, manager, draw=draw)

    return made


def asked(models, request=PredictRequest("sums", rows=[[1.0, 2.0]])):  # noqa: B008
    """Answer one request."""
    return asyncio.run(models.answer(request))


@pytest.mark.parametrize(
    ("sample", "draws", "count"),
    [(0.0, [0.0, 0.5], 0), (0.1, [0.05, 0.1, 0.9], 1), (1.0, [0.0, 0.999], 2)],
)
def test_a_share_of_the_requests_is_logged(parts, sample, draws, count):
    """None of them at 0, all of them at 1."""
    left = iter(draws)
    log, models = parts(sample=sample, draw=lambda: next(left))
    for _ in draws:
        assert [3.0] == asked(models).outputs["sum"].tolist()

    assert count == len(log._queue)


def test_a_request_holds_no_inputs_unless_they_are_logged(parts):
    """By default a request of any size is a few bytes in the queue, beside its outputs."""
    log, models = parts()
    asked(models, PredictRequest("sums", tensors=tensors(features=np.ones((50_000, 2)))))

    entry, size = log._queue[0]
    assert (None, None) == (entry.request.tensors, entry.request.rows)
    assert size < 50_000 * (8 + 8 + 60)


def test_inputs_for_which_there_is_no_room_are_not_copied(parts):
    """They are counted, and the request is answered."""
    log, models = parts(columns=("all",))
    log._queued_bytes = 2**40
    response = asked(models, PredictRequest("sums", tensors=tensors(features=np.ones((1, 2)))))

    assert [2.0] == response.outputs["sum"].tolist()
    assert 'dropped_total{reason="queue_full"} 1.0' in exposed(log)


def exposed(log: PayloadLog) -> str:
    """Return the log's metrics as Prometheus reads them."""
    registry = CollectorRegistry()
    registry.register(log.metrics._dropped)
    return generate_latest(registry).decode()


def test_an_answer_that_is_part_of_a_batch_does_not_hold_the_batch(parts):
    """A view of it would keep all other answers in memory."""
    batch = np.zeros(100_000)
    signature = Signature(SUMS.inputs, (TensorSpec("sum", "FP64", (-1,)),))
    log, models = parts(call=lambda i, p: {"sum": batch[:1]}, signature=signature)
    asked(models)

    ((_, size),) = log._queue
    assert size < 10_000


def test_a_version_that_is_replaced_meanwhile_is_logged(parts):
    """What its requests are read with is noted with the answer, not looked for afterwards."""

    def replaced(inputs, parameters):
        models._manager.add(FakeModel("sums", (FakeVersion("2", signature=Signature()),), "2"))
        return {"sum": np.array([3.0]), "label": np.array(["low"], dtype=object)}

    log, models = parts(columns=("all",), call=replaced)
    asked(models)

    ((entry, _),) = log._queue
    assert ("1", SUMS) == (entry.response.version, entry.taker.signature)


def test_a_request_that_its_client_leaves_is_logged_as_cancelled(parts):
    """And it ends as it did without a log."""
    gate = Gate()
    log, models = parts(call=gate)

    async def leave():
        task = asyncio.create_task(models.answer(PredictRequest("sums", rows=[[1.0, 2.0]] * 5000)))
        assert await asyncio.to_thread(gate.entered.acquire, timeout=DEADLINE_SECONDS)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        gate.opened.set()

    asyncio.run(leave())

    assert ["cancelled"] == [entry.outcome for entry, _ in log._queue]
