"""Spans, without anything that exports them."""

from __future__ import annotations

import pytest

from bundleserver import spans
from bundleserver.spans import NOTHING, Span, current_trace_id, current_traceparent, inside, timed


class Tracer:
    """Keeps every span that has ended."""

    def __init__(self):
        self.ended = []

    def begin(self, name, attributes):
        return Span(name, 0xABC, 0, self.ended.append, attributes)


@pytest.fixture
def tracer():
    """Install one while a test runs."""
    tracer = Tracer()
    spans.install(tracer)
    yield tracer
    spans.install(None)


def test_without_a_tracer_nothing_is_made():
    """One object stands for all spans, and a call is the call itself."""
    call = dict

    assert NOTHING is spans.span("predict", rows=3)
    assert spans.begin("load") is None
    assert (False, None, None, "") == (
        spans.is_on(),
        current_trace_id(),
        current_traceparent(),
        spans.log_suffix(),
    )
    assert call is timed(None, "decode", call)
    with spans.span("predict") as nothing:
        nothing.set("rows", 3)


def test_a_span_is_below_the_current_one(tracer):
    """And ends before it, within its time."""
    with spans.begin("load", model="fraud") as load:
        with spans.span("open", rows=2) as opened:
            assert f"{0xABC:032x}" == current_trace_id()
            assert f"00-{0xABC:032x}-{opened.span_id:016x}-01" == current_traceparent()
            opened.set("rows", 3)
        load.past("wait", 0.5)

    assert ["open", "wait", "load"] == [span.name for span in tracer.ended]
    inner, wait, outer = tracer.ended
    assert (outer.span_id, outer.span_id, 0) == (inner.parent_id, wait.parent_id, outer.parent_id)
    assert ({"rows": 3}, {"model": "fraud"}) == (inner.attributes, outer.attributes)
    assert outer.started_ns <= inner.started_ns <= inner.ended_ns <= outer.ended_ns
    assert 500_000_000 <= wait.ended_ns - wait.started_ns
    assert current_trace_id() is None


def test_an_error_ends_a_span_and_goes_on(tracer):
    """It is noted by its class and its message; the error itself is not kept."""
    with pytest.raises(KeyError), spans.begin("load"):
        raise KeyError("x")

    assert [("KeyError", "'x'")] == [span.error for span in tracer.ended]


def test_a_timed_call_returns_and_raises_as_the_call_does(tracer):
    """In a span of its own each time."""
    above = tracer.begin("request", {})

    def fail():
        raise ValueError("no JSON")

    assert 7 == timed(above, "decode", lambda: 7)()
    with pytest.raises(ValueError, match="no JSON"):
        timed(above, "decode", fail)()

    assert [None, ("ValueError", "no JSON")] == [span.error for span in tracer.ended]
    assert {above.span_id} == {span.parent_id for span in tracer.ended}


def test_a_span_ends_once(tracer):
    """Whoever ends it again changes nothing."""
    span = tracer.begin("request", {})
    with inside(span):
        span.end()
    ended = span.ended_ns
    span.end()

    assert ([span], ended) == (tracer.ended, span.ended_ns)
