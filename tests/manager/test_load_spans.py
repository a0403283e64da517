"""The traces of polls and loads."""

from __future__ import annotations

from contextlib import suppress

import pytest

from bundleserver import spans
from bundleserver.errors import NotReady, SourceError
from bundleserver.manager.loading.phases import LoadSpans
from bundleserver.manager.loading.polls import PollSpan
from bundleserver.sources import Listing
from bundleserver.spans import Span
from bundleserver.versions.lifecycle import State


@pytest.fixture
def ended():
    """Install a tracer, and return the spans that have ended."""
    ended = []

    class Tracer:
        def begin(self, name, attributes):
            return Span(name, 1, 0, ended.append, attributes)

    spans.install(Tracer())
    yield ended
    spans.install(None)


def test_a_poll_that_finds_nothing_new_is_dropped(ended):
    """The first one, and one that finds another set, are kept."""
    one, two = (Listing("a"),), (Listing("a"), Listing("b"))

    listed = PollSpan().end(one, ())
    listed = PollSpan().end(one, listed)
    PollSpan().end(two, listed)

    assert [1, 2] == [span.attributes["bundleserver.models"] for span in ended]


def test_an_outage_is_one_trace(ended):
    """However often it is found again."""
    error = SourceError("the registry does not answer")

    PollSpan().end_failed(error, is_new=True)
    PollSpan().end_failed(error, is_new=False)

    assert [("SourceError", "the registry does not answer")] == [span.error for span in ended]


def test_the_phases_of_a_load_follow_each_other(ended):
    """The one that fails has the error, and so has the load."""
    load = LoadSpans("fraud", "v2")

    def run():
        with load:
            for state in (State.FETCHING, State.VERIFYING, State.LOADING):
                load.enter(state)
            raise KeyError("x")

    with pytest.raises(KeyError):
        run()

    assert ["fetch", "verify", "open", "load"] == [span.name for span in ended]
    assert [None, None, *[("KeyError", "'x'")] * 2] == [span.error for span in ended]
    assert {"bundleserver.model": "fraud", "bundleserver.version": "v2"} == ended[-1].attributes
    assert spans.current_trace_id() is None


def test_a_load_that_waits_is_a_trace_for_each_reason_and_no_failure(ended):
    """However often it is retried."""
    waited = ""
    for reason in ("loading", "loading", "warming"):
        load, error = LoadSpans("fraud", "v2", waited), NotReady("scores", reason)
        with suppress(NotReady), load:
            load.enter(State.LOADING)
            raise error
        waited = f"waits: {error}"

    assert ["open", "load"] * 2 == [span.name for span in ended]
    assert {False} == {span.is_failed for span in ended}
    assert ["loading", "warming"] == [
        reason
        for span in ended[1::2]
        for reason in ("loading", "warming")
        if reason in span.error[1]
    ]


def test_without_a_tracer_they_are_nothing():
    """A load and a poll go on as they would."""
    load = LoadSpans("fraud", "v2")
    with load:
        load.enter(State.FETCHING)

    assert () == PollSpan().end((Listing("a"),), ())
