"""Where a request runs: inline, from the cache, or in a thread."""

from __future__ import annotations

import asyncio
import threading
import time

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from bundleserver.bundle.placement import OVERRUN_SECONDS, CallCost
from bundleserver.errors import InvalidInput, QueueFull
from bundleserver.serving.execution.answering import ServedModels
from bundleserver.serving.execution.thread_pool import ThreadPool
from bundleserver.serving.metrics.requests import RequestMetrics
from bundleserver.serving.requests import PredictRequest, RequestedOutput
from bundleserver.tensors import NamedTensor
from bundleserver.tensors.call_traits import CallTraits
from bundleserver.tensors.signature import Signature
from bundleserver.versions.serving_config import ServingConfig
from tests.serving.fakes import (
    CHEAP,
    DEADLINE_SECONDS,
    SUMS,
    FakeManager,
    FakeModel,
    FakeVersion,
    Gate,
    sums,
)

PREDICTABLE = CallTraits(predictable=True)
ROWS = [[1.0, 2.0], [3.0, 4.0]]


class Watched:
    """A model that notes which thread asks it."""

    def __init__(self):
        self.threads = []

    def __call__(self, inputs, parameters):
        self.threads.append(threading.get_ident())
        if (inputs["features"].values == 13).any():
            raise InvalidInput("13 is refused")
        return sums(inputs, parameters)


def served_by(call, call_traits=PREDICTABLE, **about):
    """Serve one model, its requests not joined."""
    model = FakeModel("sums", (FakeVersion("1", call, call_traits=call_traits),), **about)
    manager = FakeManager(model)
    registry = CollectorRegistry()
    return ServedModels(manager, ThreadPool(2), RequestMetrics(registry), 0), manager, registry


def request(values=ROWS, **about):
    """Make a V2 request."""
    return PredictRequest("sums", tensors=(NamedTensor("features", np.array(values)),), **about)


def test_a_predictable_cheap_model_runs_inline_from_its_first_request():
    """Where a call runs was measured at load: no request has to be slow first."""
    model = Watched()
    served, manager, _ = served_by(model)

    answers = [asyncio.run(served.answer(request())) for _ in range(2)]

    assert {threading.get_ident()} == set(model.threads)
    assert [[3.0, 7.0]] * 2 == [answer.outputs["sum"].tolist() for answer in answers]
    assert 0 == manager.leased


@pytest.mark.parametrize(
    ("rows", "inline"),
    [
        ([[1.0, 2.0]] * 3, True),
        ([[1.0, 2.0]] * 60, True),
        ([[1.0, 2.0]] * 300, False),
        ([{"cpu": 1.0, "memory": 2.0}] * 64, False),
        ([{"cpu": 1.0, "memory": 2.0}] * 20, True),
    ],
)
def test_the_rows_of_a_request_decide_where_it_runs(rows, inline):
    """A call of 0.1 ms and 5 us a row runs inline up to 81 rows; of objects, never over 64."""
    model = Watched()
    cost = CallCost(one_row=1e-4, many_rows=1e-4 + 255 * 5e-6)
    if len(rows) == 64:
        cost = CallCost(1e-5, 1e-5)
        rows = [*rows, rows[0]]
    version = FakeVersion("1", model, call_traits=PREDICTABLE, cost=cost)
    served = ServedModels(FakeManager(FakeModel("sums", (version,))), ThreadPool(2))

    response = asyncio.run(served.answer(PredictRequest("sums", rows=rows)))

    assert [3.0] * len(rows) == response.outputs["sum"].tolist()
    assert [inline] == [thread == threading.get_ident() for thread in model.threads]


def test_one_inline_call_that_takes_too_long_moves_its_version_to_the_threads(caplog):
    """It is logged, counted, and said in the metadata; the answer itself is given."""

    def burns_on_13(inputs, parameters):
        watched.threads.append(threading.get_ident())
        if (inputs["features"].values == 13).any():
            end = time.thread_time() + 2 * OVERRUN_SECONDS
            while time.thread_time() < end:
                pass
        return sums(inputs, parameters)

    watched = Watched()
    served, _, registry = served_by(burns_on_13)

    async def ask():
        before = served.runs("sums")
        await served.answer(request())
        slow = await served.answer(request([[13.0, 1.0]]))
        await served.answer(request())
        return before, slow, served.runs("sums")

    before, slow, after = asyncio.run(ask())

    own = threading.get_ident()
    assert ("inline", "threads") == (before, after)
    assert [14.0] == slow.outputs["sum"].tolist()
    assert [True, True, False] == [thread == own for thread in watched.threads]
    assert "until it is reloaded" in caplog.text
    labels = {"model": "sums", "version": "1"}
    assert 1 == registry.get_sample_value("bundleserver_inline_overruns_total", labels)


@pytest.mark.parametrize(
    ("traits", "cost", "batch_rows", "expected"),
    [
        (CallTraits(True, True), CHEAP, 64, "inline"),
        (CallTraits(True, True), CallCost(0.01, 0.01), 64, "batched"),
        (CallTraits(True, True), CallCost(0.01, 0.01), 0, "threads"),
        (CallTraits(False, True), None, 64, "batched"),
        (CallTraits(True, False), None, 64, "threads"),
        (CallTraits(), CHEAP, 64, "threads"),
    ],
)
def test_a_version_says_where_its_calls_run(traits, cost, batch_rows, expected):
    """The word in the metadata is what happens to a request of one row."""
    version = FakeVersion("1", call_traits=traits, cost=cost)
    manager = FakeManager(FakeModel("sums", (version,)))
    served = ServedModels(manager, ThreadPool(2), max_batch_rows=batch_rows)

    assert expected == served.runs("sums")


@pytest.mark.parametrize(
    ("call_traits", "values"),
    [
        (CallTraits(), ROWS),
        (CallTraits(batchable=True), ROWS),
        (PREDICTABLE, [[float("nan"), 1.0]]),
        (PREDICTABLE, [[float("inf"), 1.0]]),
    ],
)
def test_what_may_cost_more_than_it_did_is_never_asked_on_the_event_loop(call_traits, values):
    """Models not known to be predictable, and values that are not finite, go to a thread."""
    model = Watched()
    served, _, _ = served_by(model, call_traits)

    async def ask():
        for _ in range(3):
            await served.answer(request(values))

    asyncio.run(ask())

    assert threading.get_ident() not in model.threads


def _asked_of_memory(asked, is_cached):
    """Ask a model that may remember once, and return whether it was asked on the event loop."""
    model = Watched()
    version = FakeVersion("1", model, is_cached=is_cached)
    manager = FakeManager(FakeModel("sums", (version,)))
    served = ServedModels(manager, ThreadPool(2), RequestMetrics(CollectorRegistry()), 0)
    response = asyncio.run(served.answer(asked))
    assert [3.0, 7.0] == response.outputs["sum"].tolist()[:2]
    return threading.get_ident() == model.threads[-1]


def test_what_is_remembered_is_answered_on_the_event_loop():
    """It costs nothing, however dear it was at first; the question is put with the inputs bound."""
    heard = []

    def is_cached(inputs, parameters):
        heard.append((list(inputs), dict(parameters)))
        return True

    assert _asked_of_memory(request(parameters={"level": 0.5}), is_cached)
    assert [(["features"], {"level": 0.5})] == heard
    assert not _asked_of_memory(request(), lambda inputs, parameters: False)


def test_what_takes_time_to_look_up_goes_to_a_thread():
    """Long inputs are hashed there, and instances answered one by one."""

    def never(inputs, parameters):
        raise AssertionError("this was not to be looked up")

    assert not _asked_of_memory(request(ROWS * 40), never)
    assert not _asked_of_memory(PredictRequest("sums", rows=ROWS), never)


def test_a_refusal_by_the_memory_is_left_to_the_model():
    """The model says itself, and once, what it does not take."""

    def refuses(inputs, parameters):
        raise InvalidInput("no such horizon")

    assert not _asked_of_memory(request(), refuses)


@pytest.mark.parametrize(
    "asked",
    [request([[13.0, 1.0]]), request([[1.0, 2.0, 3.0]]), request(outputs=(RequestedOutput("x"),))],
    ids=["by the model", "by the signature", "an unknown output"],
)
def test_a_refused_request_is_refused_alike_on_the_event_loop(asked):
    """An error keeps its class and sentence wherever it happens, and the lease is given back."""
    inline, manager, _ = served_by(Watched())
    threads, other, _ = served_by(Watched(), CallTraits())

    said = []
    for served in (inline, threads):
        with pytest.raises(InvalidInput) as refusal:
            asyncio.run(served.answer(asked))
        said.append(str(refusal.value))

    assert said[0] == said[1]
    assert (0, 0) == (manager.leased, other.leased)


@pytest.mark.parametrize("traits", [PREDICTABLE, CallTraits(), CallTraits(batchable=True)])
@pytest.mark.parametrize("odd", [SystemExit(3), MemoryError("no"), ValueError("odd")])
def test_a_foreign_exception_in_validation_is_one_requests_error(traits, odd):
    """Wherever it runs, the request fails as an Exception, the lease ends, and the next answers."""

    class Odd(Signature):
        def validate_tensors(self, tensors, taker, content_type=None):
            if (tensors[0].values == 99).any():
                raise odd
            return super().validate_tensors(tensors, taker, content_type)

    version = FakeVersion("1", signature=Odd(SUMS.inputs, SUMS.outputs), call_traits=traits)
    manager = FakeManager(FakeModel("sums", (version,)))
    pool = ThreadPool(1, max_queue=1)
    served = ServedModels(manager, pool)

    async def ask():
        for _ in range(4):
            with pytest.raises((Exception, SystemExit)):
                await served.answer(request([[99.0, 1.0]]))
        return await served.answer(request())

    assert [3.0, 7.0] == asyncio.run(ask()).outputs["sum"].tolist()
    assert pool.wait_spare(DEADLINE_SECONDS)
    assert 0 == manager.leased


def test_nothing_of_a_model_with_a_canary_runs_on_the_event_loop():
    """Its progress is kept in files: it is selected, asked and counted in a thread."""
    config = ServingConfig.from_json(
        b'{"default": "1", "canary": {"version": "2", "steps": [100], "min_requests": 1000}}', "x"
    )
    models = [Watched(), Watched()]
    versions = tuple(
        FakeVersion(v, model, call_traits=PREDICTABLE)
        for v, model in zip(("1", "2"), models, strict=True)
    )
    served = ServedModels(FakeManager(FakeModel("sums", versions, config=config)), ThreadPool(2))

    async def ask():
        for _ in range(4):
            await served.answer(request())
        with pytest.raises(InvalidInput):
            await served.answer(request([[13.0, 1.0]] * 2))

    asyncio.run(ask())

    canary = served.splitter.describe_traffic("sums")["canary"]
    assert 5 == canary["requests"]
    assert threading.get_ident() not in [*models[0].threads, *models[1].threads]


def test_a_small_call_needs_no_place_in_the_queue():
    """While the threads are busy and the queue is full, what is small is answered all the same."""
    gate = Gate()
    small, busy = FakeVersion("1", call_traits=PREDICTABLE), FakeVersion("1", gate)
    manager = FakeManager(FakeModel("sums", (small,)), FakeModel("busy", (busy,)))
    served = ServedModels(manager, ThreadPool(1, max_queue=1))

    async def ask():
        waiting = [
            asyncio.create_task(served.answer(PredictRequest("busy", rows=ROWS))) for _ in range(2)
        ]
        await asyncio.to_thread(gate.entered.acquire, timeout=DEADLINE_SECONDS)
        with pytest.raises(QueueFull):
            await served.answer(PredictRequest("busy", rows=ROWS))
        answer = await served.answer(request())
        gate.opened.set()
        await asyncio.gather(*waiting)
        return answer

    assert [3.0, 7.0] == asyncio.run(ask()).outputs["sum"].tolist()


def test_waiting_for_a_thread_is_measured():
    """The queue's histogram counts what went to a thread, and not what ran at once."""
    served, _, registry = served_by(Watched())

    async def ask():
        await served.answer(request())
        await served.answer(request([[float("nan"), 1.0]]))

    asyncio.run(ask())

    counted = registry.get_sample_value("bundleserver_queue_seconds_count", {"model": "sums"})
    assert 1 == counted
