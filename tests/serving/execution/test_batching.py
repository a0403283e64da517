"""Requests that wait for a busy version are answered by one call, and nobody can tell."""

from __future__ import annotations

import asyncio
import time

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from bundleserver.errors import (
    AnswerTooLarge,
    InvalidInput,
    NotReady,
    PredictionError,
    QueueFull,
    RequestTimedOut,
    VersionNotFound,
)
from bundleserver.serving.execution.answering import ServedModels
from bundleserver.serving.execution.limits import Limits
from bundleserver.serving.execution.thread_pool import ThreadPool
from bundleserver.serving.metrics.requests import RequestMetrics
from bundleserver.serving.requests import PredictRequest, RequestedOutput
from bundleserver.tensors import NamedTensor
from bundleserver.tensors.call_traits import CallTraits
from bundleserver.tensors.signature import Signature
from bundleserver.versions.serving_config import ServingConfig
from tests.serving.fakes import (
    DEADLINE_SECONDS,
    ECHO,
    SUMS,
    FakeManager,
    FakeModel,
    FakeVersion,
    Gate,
    echo,
    sums,
)

INDEPENDENT = CallTraits(batchable=True)


class Gated(Gate):
    """A model whose calls wait for the gate, and that notes the rows of each; it refuses 13."""

    def __init__(self, then=sums):
        super().__init__(self._answer)
        self.rows = []
        self._real = then

    def _answer(self, inputs, parameters):
        values = next(iter(inputs.values())).values
        self.rows.append(len(values))
        if values.dtype.kind in "biuf" and (values == 13).any():
            raise InvalidInput("13 is refused")
        if values.dtype.kind in "biuf" and (values == 14).any():
            raise PredictionError("'sums' version 1", "14 breaks it", "1")
        return self._real(inputs, parameters)


class Busy:
    """A server whose one model is busy with a request while others come."""

    def __init__(
        self,
        *versions,
        then=sums,
        max_batch_rows=64,
        max_queue=128,
        call_traits=INDEPENDENT,
        limits=None,
        **about,
    ):
        self.gate = Gated(then)
        own = FakeVersion("1", self.gate, call_traits=call_traits, cost=None)
        self.manager = FakeManager(FakeModel("sums", (own, *versions), **about))
        self.registry = CollectorRegistry()
        self.pool = ThreadPool(1, max_queue)
        self.served = ServedModels(
            self.manager, self.pool, RequestMetrics(self.registry), max_batch_rows, limits
        )

    def ask(self, *requests):
        """Ask one request, the others while it is under way, and return the others' outcomes."""
        return asyncio.run(self._ask(requests))

    async def _ask(self, requests):
        first = asyncio.create_task(self.served.answer(rows([[0.0, 0.0]])))
        await asyncio.to_thread(self.gate.entered.acquire, timeout=DEADLINE_SECONDS)
        waiting = [asyncio.create_task(self.served.answer(request)) for request in requests]
        await asyncio.wait(waiting, timeout=0)
        self.gate.opened.set()
        await first
        return await asyncio.gather(*waiting, return_exceptions=True)


def tensors(values, dtype=float, **about):
    """Make a V2 request."""
    named = NamedTensor("features", np.array(values, dtype))
    return PredictRequest("sums", tensors=(named,), **about)


def rows(values, **about):
    """Make a V1 request."""
    return PredictRequest("sums", rows=values, **about)


def sum_of(outcome):
    """Read one answer."""
    return outcome.outputs["sum"].tolist()


@pytest.mark.parametrize("form", [tensors, rows])
def test_what_waits_is_answered_by_one_call_and_each_gets_its_own_rows(form):
    """Three requests of one, two and three rows become one call of six."""
    busy = Busy()
    asked = [[[n + r, 1.0] for r in range(n)] for n in (1, 2, 3)]

    answers = busy.ask(*(form(values, id=str(len(values))) for values in asked))

    assert [1, 6] == busy.gate.rows
    assert [[sum(row) for row in values] for values in asked] == [sum_of(one) for one in answers]
    assert ["1", "2", "3"] == [answer.id for answer in answers]
    busy.pool.shutdown()
    assert 0 == busy.manager.leased


def test_each_gets_the_outputs_that_it_asked_for():
    """Outputs are selected for each request, and an unknown one is its own caller's mistake."""
    label, unknown = RequestedOutput("label"), RequestedOutput("x")

    one, other, all_of_them = Busy().ask(
        tensors([[1, 2]], outputs=(label,)),
        tensors([[3, 4]], outputs=(unknown,)),
        tensors([[5, 6]]),
    )

    assert {"label": ["low"]} == {name: v.tolist() for name, v in one.outputs.items()}
    assert isinstance(other, InvalidInput)
    assert ["sum", "label"] == list(all_of_them.outputs)


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        (tensors([[13, 1]]), InvalidInput),
        (tensors([[14, 1]]), PredictionError),
        (tensors([[1, 2, 3]]), InvalidInput),
        (tensors([["x", "y"]], object), InvalidInput),
        (rows([[1, 2], [3]]), InvalidInput),
        (rows([["x", "y"]]), InvalidInput),
        (tensors([[1, 2]], parameters={"content_type": 3}), InvalidInput),
    ],
    ids=["refused", "broken", "too wide", "text", "ragged", "text rows", "parameter"],
)
def test_a_bad_request_fails_alone(bad, error):
    """Its neighbours in the batch get their answers as if it had not been there."""
    busy = Busy()

    before, found, after = busy.ask(tensors([[1, 2]]), bad, tensors([[3, 4]]))

    assert isinstance(found, error)
    assert [[3.0], [7.0]] == [sum_of(before), sum_of(after)]
    busy.pool.shutdown()
    assert 0 == busy.manager.leased


def test_an_answer_that_is_not_row_by_row_is_asked_for_again():
    """Where the outputs have other rows than came in, each request is answered alone."""
    busy = Busy(then=lambda inputs, _: {"sum": np.array([inputs["features"].values.sum()])})

    one, other = busy.ask(tensors([[1, 2]]), tensors([[3, 4]]))

    assert [1, 2, 1, 1] == busy.gate.rows
    assert [[3.0], [7.0]] == [sum_of(one), sum_of(other)]


@pytest.mark.parametrize(
    ("other", "calls"),
    [
        (tensors([[3, 4]], parameters={"level": 1}), [1, 2, 1]),
        (tensors([[3, 4]], np.float32), [1, 3]),
        (tensors([[3, 4]], version="1"), [1, 3]),
        (rows([[3.0, 4.0]]), [1, 3]),
    ],
    ids=["parameters", "datatype", "version", "protocol"],
)
def test_requests_are_joined_by_what_the_version_gets(other, calls):
    """What is the same once it was validated shares a call; other parameters never do."""
    busy = Busy()

    answers = busy.ask(tensors([[1, 2]]), other, tensors([[5, 6]]))

    assert calls == busy.gate.rows
    assert [[3.0], [7.0], [11.0]] == [sum_of(answer) for answer in answers]


def test_versions_never_mix():
    """What waits for one version is not answered by another that stands in its place by then."""
    busy = Busy(FakeVersion("2", echo, ECHO, call_traits=INDEPENDENT))

    answers = busy.ask(tensors([[1, 2]]), tensors([[3, 4]], version="2"), tensors([[5, 6]]))

    assert ["1", "2", "1"] == [answer.version for answer in answers]


def test_a_version_that_goes_while_requests_wait_answers_them_first():
    """A request holds the version that it was given to, so draining waits for it."""
    busy = Busy(FakeVersion("2"), default="1")
    asked = [tensors([[1, 2]], version="1"), tensors([[3, 4]])]

    async def ask():
        first = asyncio.create_task(busy.served.answer(rows([[0.0, 0.0]])))
        await asyncio.to_thread(busy.gate.entered.acquire, timeout=DEADLINE_SECONDS)
        waiting = [asyncio.create_task(busy.served.answer(request)) for request in asked]
        await asyncio.wait(waiting, timeout=0)
        busy.manager.unload("sums", "1", timeout_seconds=1)
        held = busy.manager.leased
        busy.gate.opened.set()
        return held, await asyncio.gather(first, *waiting)

    held, answers = asyncio.run(ask())

    assert 3 == held
    assert ["1"] * 3 == [answer.version for answer in answers]


def test_a_share_that_does_not_answer_falls_to_the_default():
    """Requests of a split are answered by the default where their version does not answer."""
    config = ServingConfig.from_json(b'{"traffic": {"1": 100}}', "x")
    busy = Busy(FakeVersion("2", call_traits=INDEPENDENT), default="2", config=config)
    busy.gate.opened.set()
    busy.manager.unload("sums", "1", timeout_seconds=1)

    busy.manager.load("sums", "2", timeout_seconds=1)
    answer = asyncio.run(busy.served.answer(tensors([[1, 1]])))

    assert "2" == answer.version
    assert {"1": 1} == busy.served.splitter.diverted("sums")


def test_a_batch_has_a_most_number_of_rows():
    """What does not fit waits for the next call, in its order."""
    busy = Busy(max_batch_rows=4)

    answers = busy.ask(*(tensors([[n, 0], [n, 1]]) for n in range(3)))

    assert [1, 4, 2] == busy.gate.rows
    assert [[n, n + 1] for n in range(3)] == [sum_of(answer) for answer in answers]


@pytest.mark.parametrize("values", [np.zeros((33, 2)), np.zeros((0, 2))])
def test_large_and_empty_requests_stay_alone(values):
    """What fills more than half of a batch, or has no rows, has a call of its own."""
    busy = Busy()

    answers = busy.ask(tensors(values), tensors(values))

    assert [1, len(values), len(values)] == busy.gate.rows
    assert [values.sum(axis=1).tolist()] * 2 == [sum_of(answer) for answer in answers]


@pytest.mark.parametrize(
    "about",
    [
        {"call_traits": CallTraits()},
        {"call_traits": CallTraits(predictable=True)},
        {"max_batch_rows": 0},
        {"max_batch_rows": 1},
        {"config": ServingConfig.from_json(b'{"shadow": ["9"]}', "x")},
        {"config": ServingConfig.from_json(b'{"default": "1", "canary": {"version": "9"}}', "x")},
    ],
    ids=["unknown", "steady only", "zero", "one", "shadow", "canary"],
)
def test_nothing_is_joined_where_it_must_not_be(about):
    """Unknown models, a flag that says so, and versions whose times are compared: one by one."""
    busy = Busy(**about)

    answers = busy.ask(tensors([[1, 2]]), tensors([[3, 4]]))

    assert [1, 1, 1] == busy.gate.rows
    assert [[3.0], [7.0]] == [sum_of(answer) for answer in answers]


def test_a_free_version_answers_at_once():
    """There is no timer: a request that comes alone is answered alone."""
    busy = Busy()
    busy.gate.opened.set()

    async def ask():
        return [await busy.served.answer(tensors([[n, 0]])) for n in range(3)]

    assert [[0.0], [1.0], [2.0]] == [sum_of(answer) for answer in asyncio.run(ask())]
    assert [1, 1, 1] == busy.gate.rows


def test_what_gathers_counts_for_the_queue():
    """The queue's bound holds for requests that gather; their places are free again afterwards."""
    busy = Busy(max_queue=2)

    outcomes = busy.ask(*(tensors([[n, 0]]) for n in range(4)))
    again = asyncio.run(busy.served.answer(tensors([[9, 0]])))

    assert [[0.0], [1.0]] == [sum_of(outcome) for outcome in outcomes[:2]]
    assert [QueueFull, QueueFull] == [type(outcome) for outcome in outcomes[2:]]
    assert [9.0] == sum_of(again)
    assert busy.pool.wait_spare(DEADLINE_SECONDS)


def test_a_client_that_leaves_while_it_waits_is_left_out():
    """Its rows are not computed, its place is free at once, and the others get their answers."""
    busy = Busy(max_queue=2)

    async def ask():
        first = asyncio.create_task(busy.served.answer(tensors([[0, 0]])))
        await asyncio.to_thread(busy.gate.entered.acquire, timeout=DEADLINE_SECONDS)
        gone = [asyncio.create_task(busy.served.answer(tensors([[n, 0]]))) for n in (1, 2)]
        await asyncio.wait(gone, timeout=0)
        for task in gone:
            task.cancel()
        await asyncio.wait(gone)
        waiting = [asyncio.create_task(busy.served.answer(tensors([[n, 0]]))) for n in (3, 4)]
        await asyncio.wait(waiting, timeout=0)
        busy.gate.opened.set()
        return await asyncio.gather(first, *waiting)

    answers = asyncio.run(ask())

    assert [1, 2] == busy.gate.rows
    assert [[0.0], [3.0], [4.0]] == [sum_of(answer) for answer in answers]


def test_a_client_that_leaves_during_a_joint_call_changes_nothing():
    """The lease holds until the call is over, and the neighbours get their rows."""
    busy = Busy()

    async def ask():
        first = asyncio.create_task(busy.served.answer(tensors([[0, 0]])))
        await asyncio.to_thread(busy.gate.entered.acquire, timeout=DEADLINE_SECONDS)
        joined = [asyncio.create_task(busy.served.answer(tensors([[n, 0]]))) for n in (1, 2)]
        await asyncio.wait(joined, timeout=0)
        second = replace_gate(busy)
        await first
        await asyncio.to_thread(second.entered.acquire, timeout=DEADLINE_SECONDS)
        joined[0].cancel()
        await asyncio.wait(joined[:1])
        held = busy.manager.leased
        second.opened.set()
        return held, await joined[1]

    held, answer = asyncio.run(ask())

    assert 2 == held
    assert [2.0] == sum_of(answer)
    busy.pool.shutdown()
    assert 0 == busy.manager.leased


def replace_gate(busy):
    """Let the call under way go on, and hold up the next one."""
    second, first = Gated(), busy.gate
    before = first._then

    def then(inputs, parameters):
        answer = before(inputs, parameters)
        first._then = second
        return answer

    first._then = then
    first.opened.set()
    return second


def test_a_stopped_server_leaves_nobody_waiting():
    """Requests that gather when the threads end are told so."""
    busy = Busy()

    async def ask():
        first = asyncio.create_task(busy.served.answer(tensors([[0, 0]])))
        await asyncio.to_thread(busy.gate.entered.acquire, timeout=DEADLINE_SECONDS)
        waiting = asyncio.create_task(busy.served.answer(tensors([[1, 0]])))
        await asyncio.wait({waiting}, timeout=0)
        stopping = asyncio.create_task(asyncio.to_thread(busy.pool.shutdown))
        await asyncio.to_thread(_until_stopped, busy.pool)
        busy.gate.opened.set()
        await first
        with pytest.raises(NotReady):
            await waiting
        await stopping

    asyncio.run(ask())


def test_batches_are_in_the_metrics():
    """How many requests and rows a call answered, and how long they waited, are counted."""
    busy = Busy()

    busy.ask(tensors([[1, 2], [3, 4]]), tensors([[5, 6]]))

    labels = {"model": "sums", "version": "1"}
    found = {
        name: busy.registry.get_sample_value(f"bundleserver_{name}", about)
        for name, about in (
            ("batch_requests_count", labels),
            ("batch_requests_sum", labels),
            ("batch_rows_sum", labels),
            ("queue_seconds_count", {"model": "sums"}),
        )
    }
    requests = {
        outcome: busy.registry.get_sample_value(
            "bundleserver_requests_total",
            {**labels, "protocol": protocol, "outcome": "ok"},
        )
        for outcome, protocol in (("rows", "v1"), ("tensors", "v2"))
    }
    assert {
        "batch_requests_count": 2,
        "batch_requests_sum": 3,
        "batch_rows_sum": 4,
        "queue_seconds_count": 3,
    } == found
    assert {"rows": 1, "tensors": 2} == requests


def test_an_unknown_version_is_told_while_others_gather():
    """A version that is not there is refused, and is no reason for others to wait."""
    busy = Busy()

    found, answer = busy.ask(tensors([[1, 2]], version="9"), tensors([[3, 4]]))

    assert isinstance(found, VersionNotFound)
    assert [7.0] == sum_of(answer)


class Odd(Signature):
    """A signature whose validation fails in a way that nobody meant."""

    def validate_tensors(self, tensors, taker, content_type=None):
        if (tensors[0].values == 99).any():
            raise SystemExit("validation gives up")
        return super().validate_tensors(tensors, taker, content_type)


def test_a_foreign_exception_in_validation_costs_no_other_request_anything():
    """The one whose values bring it about fails; the others and the queue go on."""
    busy = Busy(max_queue=3)
    version = FakeVersion("1", busy.gate, Odd(SUMS.inputs, SUMS.outputs), call_traits=INDEPENDENT)
    busy.manager.add(FakeModel("sums", (version,)))

    good, bad, other = busy.ask(tensors([[1, 2]]), tensors([[99, 2]]), tensors([[3, 4]]))

    assert [[3.0], [7.0]] == [sum_of(good), sum_of(other)]
    assert "validation gives up" in str(bad)
    assert busy.pool.wait_spare(DEADLINE_SECONDS)
    busy.pool.shutdown()
    assert 0 == busy.manager.leased


def test_a_batch_that_fails_as_a_whole_tells_every_request():
    """An error of batching itself reaches each caller, and the queue is free again."""

    def odd(inputs, _):
        total = inputs["features"].values.sum(axis=1)
        return {"sum": total if len(total) == 1 else total.tolist()}

    busy = Busy(max_queue=2, then=odd)

    outcomes = busy.ask(tensors([[1, 2]]), tensors([[3, 4]]))
    again = asyncio.run(busy.served.answer(tensors([[9, 0]])))

    assert [PredictionError] * 2 == [type(outcome) for outcome in outcomes]
    assert [9.0] == sum_of(again)
    assert busy.pool.wait_spare(DEADLINE_SECONDS)


def _until_stopped(pool):
    """Wait until the pool takes no more calls."""
    end = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < end:
        try:
            pool.run(lambda: None)
        except NotReady:
            return
    raise AssertionError("the pool goes on")


def test_each_request_of_a_batch_has_its_own_limit_of_values():
    """Where no width is known the values of an answer count when they come, for each request."""

    def wide(inputs, _):
        return {"sum": np.zeros((len(inputs["features"].values), 100))}

    busy = Busy(then=wide, limits=Limits(max_answer_values=250))

    small, large, other = busy.ask(
        tensors([[1, 2]]), tensors([[3, 4], [5, 6], [7, 8]]), tensors([[1, 2], [3, 4]])
    )

    assert [1, 6] == busy.gate.rows
    assert (1, 100) == small.outputs["sum"].shape
    assert isinstance(large, AnswerTooLarge)
    assert "300 values" in str(large)
    assert "at most 250" in str(large)
    assert (2, 100) == other.outputs["sum"].shape


def test_an_inline_call_of_open_widths_counts_its_values():
    """What no signature tells is counted on the event loop too."""

    def wide(inputs, _):
        return {"sum": np.zeros((len(inputs["features"].values), 100))}

    version = FakeVersion("1", wide, call_traits=CallTraits(True, True), has_open_widths=True)
    served = ServedModels(
        FakeManager(FakeModel("sums", (version,))),
        ThreadPool(1),
        RequestMetrics(CollectorRegistry()),
        limits=Limits(max_answer_values=250),
    )

    assert "inline" == served.runs("sums")
    assert (2, 100) == asyncio.run(served.answer(rows([[1, 2]] * 2))).outputs["sum"].shape
    with pytest.raises(AnswerTooLarge, match="300 values"):
        asyncio.run(served.answer(rows([[1, 2]] * 3)))


@pytest.mark.parametrize("ends", ["late", "gone"])
def test_who_is_late_or_gone_is_not_in_a_batch_and_the_others_are_answered(ends):
    """A request whose time is over, or whose client has left, costs its neighbours nothing."""
    busy = Busy()

    async def ask():
        first = asyncio.create_task(busy.served.answer(rows([[0.0, 0.0]])))
        await asyncio.to_thread(busy.gate.entered.acquire, timeout=DEADLINE_SECONDS)
        soon = time.monotonic() + 0.05 if ends == "late" else None
        asked = [tensors([[1, 2]]), tensors([[9, 9]], deadline=soon), tensors([[3, 4]])]
        waiting = [asyncio.create_task(busy.served.answer(request)) for request in asked]
        await asyncio.wait(waiting, timeout=0)
        if ends == "gone":
            waiting[1].cancel()
        await asyncio.wait([waiting[1]])
        busy.gate.opened.set()
        await first
        return await asyncio.gather(*waiting, return_exceptions=True)

    before, ended, after = asyncio.run(ask())

    assert [1, 2] == busy.gate.rows
    assert isinstance(ended, RequestTimedOut if ends == "late" else asyncio.CancelledError)
    assert [[3.0], [7.0]] == [sum_of(before), sum_of(after)]
    busy.pool.shutdown()
    assert 0 == busy.manager.leased


def test_who_leaves_while_its_batch_runs_takes_no_answer_from_the_others():
    """A batch that has begun goes on for those who still wait."""
    busy = Busy()

    async def ask():
        first = asyncio.create_task(busy.served.answer(rows([[0.0, 0.0]])))
        await asyncio.to_thread(busy.gate.entered.acquire, timeout=DEADLINE_SECONDS)
        waiting = [asyncio.create_task(busy.served.answer(tensors([[n, n]]))) for n in (1, 2)]
        await asyncio.wait(waiting, timeout=0)
        busy.gate.opened.set()
        await asyncio.to_thread(busy.gate.entered.acquire, timeout=DEADLINE_SECONDS)
        waiting[0].cancel()
        return await asyncio.gather(first, *waiting, return_exceptions=True)

    _, _, other = asyncio.run(ask())

    assert [4.0] == sum_of(other)
    busy.pool.shutdown()
    assert 0 == busy.manager.leased
