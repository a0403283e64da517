"""Copies for shadows: after the answer, on spare capacity, compared and counted."""

from __future__ import annotations

import threading
import time

import httpx
import numpy as np
import pytest

from bundleserver.serving.execution.predict import predict
from bundleserver.serving.execution.thread_pool import ThreadPool
from bundleserver.serving.options import ServerOptions
from bundleserver.serving.requests import PredictRequest, PredictResponse
from bundleserver.serving.traffic.mirroring import MAX_QUEUE, MirroredRequest, Shadows, outputs_of
from bundleserver.serving.traffic.totals import Pair, ShadowTotals
from bundleserver.tensors import NamedTensor
from bundleserver.versions.comparison import Comparison
from bundleserver.versions.lifecycle import State
from bundleserver.versions.serving_config import ServingConfig
from tests.serving.fakes import (
    DEADLINE_SECONDS,
    FORECASTS,
    FakeManager,
    FakeModel,
    FakeVersion,
    Gate,
    forecast,
    serving,
    split_and_answer,
    sums,
)
from tests.serving.grpc_client import connected, tensor

CLIENT = httpx.Client(timeout=DEADLINE_SECONDS)
CONFIG = ServingConfig(default="1", shadow=("2",))
ROWS = [[1.0, 1.0], [1.0, 2.0]]
FEATURES = tensor("features", "FP64", [2, 2], fp64_contents=[1.0, 1.0, 1.0, 2.0])
PAIR = Pair("sums", "1", "2")


def other_sums(inputs, parameters):
    """Add up each row, but half too much, and call one row more high."""
    total = inputs["features"].values.sum(axis=1) + 0.5
    return {"sum": total, "label": np.array(["high" if v > 3 else "low" for v in total], object)}


def crash(inputs, parameters):
    """Fail as a model's own code may."""
    raise RuntimeError("no such tree")


def three_rows(inputs, parameters):
    """Answer three rows whatever came."""
    return {"sum": np.zeros(3), "label": np.array(["low"] * 3, dtype=object)}


def model(call=other_sums, config=CONFIG, **second):
    """Make a model whose second version is the shadow of its first."""
    versions = (FakeVersion("1"), FakeVersion("2", call, **second))
    return FakeModel("sums", versions, config=config)


def ended(server, count=1):
    """Wait until so many copies have ended, and return how, and the last total."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    totals = server.server.served.splitter.totals
    while True:
        found = [total for _, total in totals.snapshot("sums")]
        if sum(sum(total.mirrored.values()) for total in found) >= count:
            return dict(found[0].mirrored), found[0]
        assert time.monotonic() < deadline, "no copy has ended"
        threading.Event().wait(0.01)


def v1(server, path="/v1/models/sums:predict"):
    """Ask over V1."""
    answer = CLIENT.post(f"{server.rest}{path}", json={"instances": ROWS})
    assert 200 == answer.status_code, answer.text
    return answer


def v2(server):
    """Ask over V2."""
    values = {"name": "features", "datatype": "FP64", "shape": [2, 2], "data": ROWS}
    answer = CLIENT.post(f"{server.rest}/v2/models/sums/infer", json={"inputs": [values]})
    assert 200 == answer.status_code, answer.text


def test_a_copy_is_compared_over_every_protocol():
    """V1, V2 and gRPC requests are answered by the default and compared with the shadow."""
    with serving(FakeManager(model())) as server, connected(server.grpc) as client:
        assert "1" == v1(server).headers["x-model-version"]
        v2(server)
        assert "1" == client.infer(FEATURES, model="sums").model_version
        copies, total = ended(server, 3)

    assert {"compared": 3} == copies
    assert 0.5 == total.outputs["label"].agreement
    assert (0.5, 0.5) == (total.outputs["sum"].mean, total.outputs["sum"].maximum)
    assert total.latency_ratio > 0


def test_metrics_and_metadata_show_the_comparison():
    """Agreement, differences, latency ratio and the ends of copies are in a scrape."""
    with serving(FakeManager(model())) as server:
        v1(server)
        ended(server)
        about = CLIENT.get(f"{server.rest}/v2/models/sums").json()["traffic"]["shadow"]
        labels = {"model": "sums", "version": "1", "shadow": "2"}

        def value(name, **more):
            return server.registry.get_sample_value(f"bundleserver_shadow_{name}", labels | more)

        assert 1 == value("copies_total", outcome="compared")
        assert 0 == value("copies_total", outcome="dropped")
        assert 0.5 == value("agreement", output="label")
        assert 0.5 == value("mean_absolute_difference", output="sum")
        assert 0.5 == value("max_absolute_difference", output="sum")
        assert value("max_absolute_difference", output="label") is None
        assert value("latency_ratio") > 0
    (pair,) = about
    assert ("2", "1") == (pair["version"], pair["compared_with"])
    assert 0.5 == pair["outputs"]["label"]["agreement"]


@pytest.mark.parametrize(
    ("call", "outcome", "problem"),
    [
        (crash, "failed", "no such tree"),
        (three_rows, "differs_in_form", "output 'sum' has different shapes: [2] and [3]"),
    ],
)
def test_a_shadow_that_fails_or_answers_otherwise_is_counted(call, outcome, problem):
    """The answer stands, and the reason is kept."""
    with serving(FakeManager(model(call))) as server:
        assert "1" == v1(server).headers["x-model-version"]
        copies, total = ended(server)

    assert {outcome: 1} == copies
    assert problem in total.problem


def test_a_shadow_that_is_not_ready_is_counted():
    """A version that does not answer costs nobody anything."""
    with serving(FakeManager(model(state=State.FAILED, reason="broken"))) as server:
        v1(server)
        copies, total = ended(server)

    assert {"not_ready": 1} == copies
    assert "broken" in total.problem


def test_a_shadow_that_hangs_keeps_nobody_waiting():
    """Answers go on, its queue fills up, and what does not fit is dropped and counted."""
    gate = Gate()
    options = ServerOptions(max_asyncio_workers=2)
    with serving(FakeManager(model(gate)), options) as server:
        v1(server)
        assert gate.entered.acquire(timeout=DEADLINE_SECONDS)
        for _ in range(MAX_QUEUE + 5):
            v1(server)
        copies, _ = ended(server, 5)
        gate.opened.set()

    assert {"dropped": 5} == copies


def test_one_shadow_that_hangs_does_not_hold_up_another():
    """Each shadowed version has a queue and a thread of its own."""
    gate = Gate()
    config = ServingConfig(default="1", shadow=("2", "3"))
    versions = (FakeVersion("1"), FakeVersion("2", gate), FakeVersion("3"))
    with serving(FakeManager(FakeModel("sums", versions, config=config))) as server:
        v1(server)
        assert gate.entered.acquire(timeout=DEADLINE_SECONDS)
        copies, _ = ended(server)
        gate.opened.set()

    assert {"compared": 1} == copies


def test_a_copy_waits_until_a_thread_that_predicts_is_free():
    """While requests need every thread no copy begins; it does as soon as one is spare."""
    pool, manager, totals = ThreadPool(threads=1), FakeManager(model()), ShadowTotals()
    shadows = Shadows(manager, pool, totals, predict)
    busy, compared = threading.Event(), threading.Event()
    pool.submit(lambda: busy.wait(DEADLINE_SECONDS))
    response = PredictResponse("sums", "1", sums({"features": features()}, {}))
    request = PredictRequest("sums", tensors=(features(),))

    shadows.offer(MirroredRequest(PAIR, request, response, 0.1, lambda found: compared.set()))

    assert not compared.wait(0.3)
    busy.set()
    assert compared.wait(DEADLINE_SECONDS)
    pool.shutdown()


def features():
    """Make the tensor of a request."""
    return NamedTensor("features", np.array(ROWS))


def test_copies_that_take_too_much_memory_are_dropped():
    """A queue is bounded in bytes too."""
    totals = ShadowTotals()
    shadows = Shadows(FakeManager(model()), ThreadPool(threads=1), totals, predict)
    large = NamedTensor("features", np.zeros((3_000_000, 2)))

    shadows.offer(
        MirroredRequest(
            PAIR, PredictRequest("sums", tensors=(large,)), PredictResponse("s", "1"), 1
        )
    )

    assert [{"dropped": 1}] == [dict(total.mirrored) for _, total in totals.snapshot()]


def test_nothing_begins_after_the_end():
    """A server that stops drops what waits and takes nothing more."""
    totals = ShadowTotals()
    shadows = Shadows(FakeManager(model()), ThreadPool(threads=1), totals, predict)
    shadows.stop()

    shadows.offer(MirroredRequest(PAIR, PredictRequest("sums"), PredictResponse("sums", "1"), 1))

    assert [{"dropped": 1}] == [dict(total.mirrored) for _, total in totals.snapshot()]


def test_a_request_that_names_a_version_is_not_copied():
    """Whoever asks for a version by name is no part of the comparison."""
    with serving(FakeManager(model())) as server:
        v1(server, "/v1/models/sums/versions/1:predict")
        v1(server)
        copies, _ = ended(server)

    assert {"compared": 1} == copies


@pytest.mark.parametrize(("drawn", "count"), [(0.24, 1), (0.26, 0)])
def test_a_share_of_the_requests_is_copied(drawn, count):
    """shadow_share says how many of them; chance chooses which."""
    from bundleserver.serving.traffic.splitting import Splitter

    config = ServingConfig(default="1", shadow=("2",), shadow_share=0.25)
    splitter = Splitter(FakeManager(model(config=config)), draw=lambda: drawn)

    _, copies = split_and_answer(splitter, PredictRequest("sums", rows=ROWS))

    assert count == len(copies)


def test_a_forecast_of_rows_is_compared_as_one():
    """The answers of a V1 forecast are held against each other one behind the other."""
    versions = (FakeVersion("1", forecast, FORECASTS), FakeVersion("2", forecast, FORECASTS))
    with serving(FakeManager(FakeModel("sums", versions, config=CONFIG))) as server:
        rows = [{"horizon": 2}, {"horizon": 3}]
        CLIENT.post(f"{server.rest}/v1/models/sums:predict", json={"instances": rows})
        copies, total = ended(server)

    assert {"compared": 1} == copies
    assert 5 == total.outputs["mean"].values
    assert total.outputs["mean"].agreement == 1.0


def test_answers_that_are_plain_values_become_arrays():
    """Texts of a V1 answer are labels, whatever their lengths."""
    answers = [{"ds": ["a", "bb"]}, {"ds": "ccc"}]

    found = outputs_of(PredictResponse("sums", "1", answers=answers))

    assert ["a", "bb", "ccc"] == found["ds"].tolist()


def test_what_was_counted_ends_with_the_files():
    """A republished version is compared from nothing."""
    totals = ShadowTotals()
    totals.count(Pair("sums", "1", "2", ("a", "b")), "dropped")
    totals.add(Pair("sums", "1", "2", ("a", "c")), Comparison(), 1.0, 2.0)

    ((_, total),) = totals.snapshot("sums")
    assert {"compared": 1} == dict(total.mirrored)
    assert total.latency_ratio == 2.0


class NoThreads(threading.Thread):
    """A thread that the machine refuses once."""

    refused = 0

    def start(self):
        if self.name == "shadow" and not NoThreads.refused:
            NoThreads.refused += 1
            raise RuntimeError("can't start new thread")
        super().start()


def test_a_shadow_whose_thread_cannot_start_is_mirrored_to_later(monkeypatch):
    """What was queued is kept, and processed with the next mirrored request."""
    monkeypatch.setattr(threading, "Thread", NoThreads)
    totals, compared = ShadowTotals(), threading.Semaphore(0)
    shadows = Shadows(FakeManager(model()), ThreadPool(threads=1), totals, predict)
    response = PredictResponse("sums", "1", sums({"features": features()}, {}))
    request = PredictRequest("sums", tensors=(features(),))
    mirrored = MirroredRequest(PAIR, request, response, 0.1, lambda found: compared.release())

    shadows.offer(mirrored)
    refused = NoThreads.refused
    shadows.offer(mirrored)

    assert 1 == refused
    assert all(compared.acquire(timeout=DEADLINE_SECONDS) for _ in range(2))
