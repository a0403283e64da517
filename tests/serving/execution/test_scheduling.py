"""Where a request is answered: on the event loop, or in a thread."""

from __future__ import annotations

import asyncio
import threading

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from bundleserver.errors import InvalidInput, QueueFull
from bundleserver.serving.execution.answering import ServedModels
from bundleserver.serving.execution.costs import MEASURED_FIRST
from bundleserver.serving.execution.thread_pool import WorkerPool
from bundleserver.serving.metrics.collectors import RequestMetrics
from bundleserver.serving.requests import PredictRequest, RequestedOutput
from bundleserver.tensors import NamedTensor
from bundleserver.tensors.call_traits import CallTraits
from bundleserver.versions.serving_config import ServingConfig
from tests.serving.fakes import DEADLINE_SECONDS, FakeManager, FakeModel, FakeVersion, Gate, sums

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
    return ServedModels(manager, WorkerPool(2), RequestMetrics(registry), 0), manager, registry


def request(values=ROWS, **about):
    """Make a V2 request."""
    return PredictRequest("sums", tensors=(NamedTensor("features", np.array(values)),), **about)


async def warmed_up(served, asked=None):
    """Ask as often as it takes to be measured."""
    for _ in range(MEASURED_FIRST):
        await served.answer(asked or request())


def test_a_steady_cheap_model_is_asked_on_the_event_loop_once_it_was_measured():
    """The first calls run in threads, the next ones where the event loop is, with equal answers."""
    model = Watched()
    served, manager, _ = served_by(model)

    async def ask():
        return [await served.answer(request()) for _ in range(MEASURED_FIRST + 2)]

    answers = asyncio.run(ask())

    own = threading.get_ident()
    assert [False] * MEASURED_FIRST + [True] * 2 == [thread == own for thread in model.threads]
    assert [[3.0, 7.0]] * len(answers) == [answer.outputs["sum"].tolist() for answer in answers]
    assert 0 == manager.leased


def test_a_v1_request_is_asked_on_the_event_loop_too():
    """Rows are measured as tensors are."""
    model = Watched()
    served, _, _ = served_by(model)

    async def ask():
        await warmed_up(served, PredictRequest("sums", rows=ROWS))
        return await served.answer(PredictRequest("sums", rows=ROWS))

    assert [3.0, 7.0] == asyncio.run(ask()).outputs["sum"].tolist()
    assert threading.get_ident() == model.threads[-1]


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
    """Models that are not known to be steady, and values that are not finite, go to a thread."""
    model = Watched()
    served, _, _ = served_by(model, call_traits)

    async def ask():
        for _ in range(2 * MEASURED_FIRST):
            await served.answer(request(values))

    asyncio.run(ask())

    assert threading.get_ident() not in model.threads


def _asked_of_memory(asked, remembers):
    """Ask a model that may remember once, and return whether it was asked on the event loop."""
    model = Watched()
    version = FakeVersion("1", model, remembers=remembers)
    manager = FakeManager(FakeModel("sums", (version,)))
    served = ServedModels(manager, WorkerPool(2), RequestMetrics(CollectorRegistry()), 0)
    response = asyncio.run(served.answer(asked))
    assert [3.0, 7.0] == response.outputs["sum"].tolist()[:2]
    return threading.get_ident() == model.threads[-1]


def test_what_is_remembered_is_answered_on_the_event_loop():
    """It costs nothing, however dear it was at first; the question is put with the inputs bound."""
    heard = []

    def remembers(inputs, parameters):
        heard.append((list(inputs), dict(parameters)))
        return True

    assert _asked_of_memory(request(parameters={"level": 0.5}), remembers)
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


def test_a_dear_model_stays_with_the_threads():
    """What costs more than handing it over goes on in threads, so that the loop is free."""

    def dear(inputs, parameters):
        model(inputs, parameters)
        sum(i * i for i in range(200_000))
        return sums(inputs, parameters)

    model = Watched()
    served, _, _ = served_by(dear)

    asyncio.run(warmed_up(served))
    asyncio.run(warmed_up(served))

    assert threading.get_ident() not in model.threads


@pytest.mark.parametrize(
    "asked",
    [request([[13.0, 1.0]]), request([[1.0, 2.0, 3.0]]), request(outputs=(RequestedOutput("x"),))],
    ids=["by the model", "by the signature", "an unknown output"],
)
def test_a_refused_request_is_refused_alike_on_the_event_loop(asked):
    """An error keeps its class and sentence wherever it happens, and the lease is given back."""
    served, manager, _ = served_by(Watched())

    async def refuse():
        with pytest.raises(InvalidInput) as refusal:
            await served.answer(asked)
        return str(refusal.value)

    async def both():
        in_a_thread = await refuse()
        await warmed_up(served)
        return in_a_thread, await refuse()

    in_a_thread, at_once = asyncio.run(both())

    assert in_a_thread == at_once
    assert 0 == manager.leased


def test_a_canary_counts_alike_on_the_event_loop():
    """Requests that run at once count for the rules: answers, refusals and all."""
    config = ServingConfig.from_json(
        b'{"default": "1", "canary": {"version": "2", "steps": [100], "min_requests": 1000}}', "x"
    )
    versions = tuple(FakeVersion(v, Watched(), call_traits=PREDICTABLE) for v in ("1", "2"))
    served = ServedModels(FakeManager(FakeModel("sums", versions, config=config)), WorkerPool(2))

    async def ask():
        await warmed_up(served)
        for _ in range(4):
            await served.answer(request())
        with pytest.raises(InvalidInput):
            await served.answer(request([[13.0, 1.0]] * 2))

    asyncio.run(ask())

    canary = served.splitter.describe_traffic("sums")["canary"]
    assert MEASURED_FIRST + 5 == canary["requests"]


def test_a_small_call_needs_no_place_in_the_queue():
    """While the threads are busy and the queue is full, what is small is answered all the same."""
    gate = Gate()
    small, busy = FakeVersion("1", call_traits=PREDICTABLE), FakeVersion("1", gate)
    manager = FakeManager(FakeModel("sums", (small,)), FakeModel("busy", (busy,)))
    served = ServedModels(manager, WorkerPool(1, max_queue=1))

    async def ask():
        await warmed_up(served)
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
        await warmed_up(served)
        await served.answer(request())

    asyncio.run(ask())

    counted = registry.get_sample_value("bundleserver_queue_seconds_count", {"model": "sums"})
    assert MEASURED_FIRST == counted
