"""The spans of requests that gather, wait or are mirrored."""

from __future__ import annotations

import asyncio
import threading

from prometheus_client import CollectorRegistry

from bundleserver.errors import InvalidInput
from bundleserver.serving.execution.answering import ServedModels
from bundleserver.serving.execution.thread_pool import ThreadPool
from bundleserver.serving.execution.traced import note_cache
from bundleserver.serving.metrics.requests import RequestMetrics
from bundleserver.spans import Span
from bundleserver.versions.serving_config import ServingConfig
from tests.serving.execution.test_batching import Busy, rows, sum_of, tensors
from tests.serving.fakes import DEADLINE_SECONDS, FakeManager, FakeModel, FakeVersion


def traced(number, values, ended):
    """Make a request that is traced, and its span, which tells ``ended`` of what is below it."""
    span = Span("request", number, 0, ended.append, {}, kind="server")
    return rows(values).traced(span), span


def below(span, ended):
    """Return the spans below another one, by name, once each."""
    return {one.name: one for one in ended if one.parent_id == span.span_id}


def test_each_traced_request_of_a_batch_has_the_call_and_the_others_cost_nothing():
    """With the size of the batch; the second one has a link to the first."""
    ended = []
    first, above = traced(1, [[1.0, 2.0]], ended)
    second, other = traced(2, [[3.0, 4.0], [5.0, 6.0]], ended)
    busy = Busy()

    outcomes = busy.ask(first, rows([[7.0, 8.0]]), second)

    assert [[3.0], [15.0], [7.0, 11.0]] == [sum_of(outcome) for outcome in outcomes]
    one, two = below(above, ended), below(other, ended)
    assert {"route", "wait", "predict"} == {*one} == {*two}
    size = {"bundleserver.batch.requests": 3, "bundleserver.batch.rows": 4}
    assert {"bundleserver.rows": 1, **size} == one["predict"].attributes
    assert {"bundleserver.rows": 2, **size} == two["predict"].attributes
    assert ((), ((1, one["predict"].span_id),)) == (one["predict"].links, two["predict"].links)
    assert ("sums", "1", 2) == tuple(
        other.attributes[f"bundleserver.{name}"] for name in ("model", "version", "rows")
    )


def test_a_batch_that_fails_is_in_the_trace_of_each():
    """Before the call of each request alone, of which only one fails."""
    ended = []
    good, above = traced(1, [[1.0, 2.0]], ended)
    bad, other = traced(2, [[13.0, 4.0]], ended)

    outcomes = Busy().ask(good, bad)

    assert [3.0] == sum_of(outcomes[0])
    errors = {
        span.trace_id: [
            one.error for one in ended if one.parent_id == span.span_id and one.name == "predict"
        ]
        for span in (above, other)
    }
    refused = ("InvalidInput", "13 is refused")
    assert {1: [refused, None], 2: [refused, refused]} == errors


def test_a_cached_forecast_says_so():
    """And one that is not; other models say neither."""
    said = []
    for is_cached in (lambda *_: True, lambda *_: False, None):
        ended = []
        _, span = traced(1, [], ended)
        version = FakeVersion("1", is_cached=is_cached, cost=None)
        manager = FakeManager(FakeModel("sums", (version,)))
        served = ServedModels(manager, ThreadPool(1), RequestMetrics(CollectorRegistry()), 0)
        asyncio.run(served.answer(tensors([[1.0, 2.0]]).traced(span)))
        said.append((span.attributes.get("bundleserver.cache_hit"), "wait" in below(span, ended)))

    assert [(True, False), (False, True), (None, True)] == said


def test_several_forecasts_say_whether_all_are_cached():
    """As V1's instances are; what is not valid says neither."""
    said = []
    for cached in ([True, True], [True, False], [False, True], []):
        answers = iter(cached)

        def is_cached(inputs, parameters, answers=answers):
            return next(answers)

        _, span = traced(1, [], [])
        for _ in cached:
            note_cache(span, FakeVersion("1", is_cached=is_cached), {}, {})
        said.append(span.attributes.get("bundleserver.cache_hit"))

    def refuses(inputs, parameters):
        raise InvalidInput("no horizon")

    _, span = traced(1, [], [])
    note_cache(span, FakeVersion("1", is_cached=refuses), {}, {})

    assert ([True, False, False, None], {}) == (said, span.attributes)


def test_a_forecast_in_the_thread_pool_says_so_too():
    """A request of V1, whose instances are not looked up before it gets there."""
    said = []
    for is_hit in (True, False):
        request, span = traced(1, [[1.0, 2.0]], [])
        version = FakeVersion("1", is_cached=lambda *_, is_hit=is_hit: is_hit, cost=None)
        manager = FakeManager(FakeModel("sums", (version,)))
        served = ServedModels(manager, ThreadPool(1), RequestMetrics(CollectorRegistry()), 0)
        asyncio.run(served.answer(request))
        said.append(span.attributes["bundleserver.cache_hit"])

    assert [True, False] == said


def test_a_mirrored_request_is_below_the_request_that_it_is_of():
    """With its version, whether its request was answered before or not."""
    came, ended = threading.Event(), []

    def take(one):
        ended.append(one)
        if one.name == "mirror":
            came.set()

    span = Span("request", 1, 0, take, {})
    versions = (FakeVersion("1"), FakeVersion("2"))
    model = FakeModel("sums", versions, config=ServingConfig(default="1", shadow=("2",)))
    served = ServedModels(FakeManager(model), ThreadPool(1), RequestMetrics(CollectorRegistry()))

    async def ask():
        await served.answer(tensors([[1.0, 2.0]]).traced(span))
        await asyncio.to_thread(came.wait, DEADLINE_SECONDS)

    asyncio.run(ask())

    spans = below(span, ended)
    assert {"wait", "route", "predict", "mirror"} == {*spans}
    assert ("1", "2") == (
        span.attributes["bundleserver.version"],
        spans["mirror"].attributes["bundleserver.version"],
    )
