"""Counters of worker processes that end or are silent stay in the page."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, Gauge

from bundleserver.serving.metrics.exposition import write
from bundleserver.serving.metrics.requests import RequestMetrics
from bundleserver.serving.workers.merging import MergedMetrics
from bundleserver.serving.workers.remainder import REMAINDER, Remainder

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
HOSTILE = 'x",version="v9"} 3 # {trace_id="1"}\n\\'


def page(requests, models=("a",), version="v1"):
    """Write the page of one worker process that had so many requests of each model."""
    registry = CollectorRegistry()
    metrics = RequestMetrics(registry)
    states = Gauge(
        "bundleserver_version_state", ".", ["model", "version", "state"], registry=registry
    )
    for model in models:
        states.labels(model, version, "READY").set(1)
        for _ in range(requests):
            metrics.ended(model, version, "v2", "ok").inc()
            metrics.observe(model, version, "v2", 0.02, TRACE)
        metrics.in_flight(model, "v2").inc()
    return write(registry, open_metrics=True)


def scraped(remainder, pages, asks=1):
    """Merge the pages of those that answer, as the process does that asks for the others."""
    line = {"name": "metrics", "about": {"page": pages[asks]}}
    remainder.note_asking(asks, line)
    assert {} == line["about"]
    for number, text in pages.items():
        if number != asks:
            remainder.note_answer(number, {"reply": 1, "value": text})
    rest = remainder.answers("metrics", pages.keys())[REMAINDER]
    registry = CollectorRegistry()
    registry.register(MergedMetrics(list(pages.values()), 0, rest))
    return registry


def requests(registry, model="a", version="v1"):
    """Read a counter, the count of a histogram, and a gauge."""
    labels = {"model": model, "version": version, "protocol": "v2"}
    return (
        registry.get_sample_value("bundleserver_requests_total", {**labels, "outcome": "ok"}),
        registry.get_sample_value("bundleserver_request_seconds_count", labels),
        registry.get_sample_value(
            "bundleserver_requests_in_flight", {"model": model, "protocol": "v2"}
        ),
    )


@pytest.mark.parametrize("model", ["a", HOSTILE])
def test_what_an_ended_process_had_counted_stays(model):
    """Counters and histograms go on from where they were; gauges are of those that run."""
    remainder = Remainder()
    own = (model,)

    assert (5, 5, 2) == requests(scraped(remainder, {1: page(2, own), 2: page(3, own)}), model)
    remainder.end(2)
    assert (2 + 3, 5, 1) == requests(scraped(remainder, {1: page(2, own)}), model)
    assert (7, 7, 2) == requests(scraped(remainder, {1: page(3, own), 2: page(1, own)}), model)
    remainder.end(1)
    remainder.end(2)
    # The one that was asked last time may end too.
    assert (8, 8, 1) == requests(scraped(remainder, {1: page(1, own)}), model)


def test_a_silent_process_is_counted_as_it_was():
    """One that does not answer in time takes nothing away, and adds nothing twice afterwards."""
    remainder = Remainder()
    scraped(remainder, {1: page(2), 2: page(3)})

    assert (5, 5, 1) == requests(scraped(remainder, {1: page(2)}))
    assert (6, 6, 2) == requests(scraped(remainder, {1: page(2), 2: page(4)}))


def test_what_is_of_versions_that_are_gone_is_forgotten():
    """Processes that end one after the other do not make the page grow for ever."""
    remainder = Remainder()
    for number in range(20):
        version = f"v{number}"
        scraped(remainder, {1: page(1, version=version), 2: page(1, ["a", "b"], version=version)})
        remainder.end(2)
    found = scraped(remainder, {1: page(1, version="v19")})

    assert (2, 2, 1) == requests(found, version="v19")
    assert (None, None, 1) == requests(found, version="v18")


def test_other_questions_have_no_remainder():
    """Only the page of metrics has one."""
    remainder = Remainder()
    remainder.note_asking(1, {"name": "index", "about": {}})
    remainder.note_answer(2, {"reply": 1, "value": [{"name": "a"}]})
    remainder.end(2)

    assert {} == remainder.answers("index", {1})
