"""One index and one page of metrics, made of those of several workers."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from bundleserver.serving.metrics.exposition import write
from bundleserver.serving.workers.merging import MergedMetrics, merge_index


def entry(state, reason=None, version="v1", name="fraud"):
    """Make one entry of an index."""
    return {"name": name, "version": version, "state": state, "reason": reason or state}


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (entry("READY"), entry("READY"), ("READY", "READY")),
        (
            entry("READY"),
            entry("LOADING", "WARMING"),
            ("LOADING", "WARMING (worker process 2)"),
        ),
        (
            entry("UNAVAILABLE", "FAILED while LOADING: no memory"),
            entry("READY"),
            ("UNAVAILABLE", "FAILED while LOADING: no memory (worker process 1)"),
        ),
        (
            entry("UNAVAILABLE", "FAILED: x"),
            entry("UNAVAILABLE", "FAILED: x"),
            ("UNAVAILABLE", "FAILED: x"),
        ),
    ],
)
def test_a_version_is_as_far_as_in_the_worker_that_is_behind(first, second, expected):
    """READY is READY in all; else the worker that is the least far says why."""
    (merged,) = merge_index({1: [first], 2: [second]}, ready_only=False)

    assert expected == (merged["state"], merged["reason"])


def test_a_version_that_one_worker_does_not_know_is_not_ready():
    """A version that only one worker lists does not count as ready."""
    (merged,) = merge_index({1: [entry("READY")], 2: []}, ready_only=False)

    assert ("LOADING", "not every worker process has it yet") == (
        merged["state"],
        merged["reason"],
    )


def test_a_model_without_versions_is_listed_once_and_only_where_nobody_knows_one():
    """The entry of an empty model gives way to those of its versions."""
    empty = {"name": "fraud", "state": "UNAVAILABLE", "reason": "no version found"}

    assert [empty] == merge_index({1: [empty], 2: [empty]}, ready_only=False)
    assert ["v1"] == [
        one["version"] for one in merge_index({1: [entry("READY")], 2: [empty]}, ready_only=False)
    ]


def test_the_index_of_what_is_ready_leaves_the_rest_out():
    """What is not ready in all is no part of the index of what is."""
    indexes = {
        1: [entry("READY"), entry("READY", version="v2")],
        2: [entry("READY"), entry("LOADING", version="v2")],
    }

    assert ["v1"] == [one["version"] for one in merge_index(indexes, ready_only=True)]


def page(requests, in_flight, state, seconds, polled):
    """Write the metrics of one worker."""
    registry = CollectorRegistry()
    Counter("bundleserver_requests", "Requests.", ["model"], registry=registry).labels("a").inc(
        requests
    )
    Gauge("bundleserver_requests_in_flight", "Now.", registry=registry).set(in_flight)
    states = Gauge("bundleserver_version_state", "State.", ["state"], registry=registry)
    for name in ("WARMING", "READY"):
        states.labels(name).set(name == state)
    times = Histogram("bundleserver_request_seconds", "Time.", buckets=(1, 2), registry=registry)
    times.observe(seconds)
    Gauge("bundleserver_last_poll_timestamp_seconds", "Poll.", registry=registry).set(polled)
    Gauge("bundleserver_poll_failed", "Failed.", registry=registry).set(polled == 7)
    return write(registry, open_metrics=True)


def values(*pages):
    """Merge pages and return the samples by name and labels."""
    registry = CollectorRegistry()
    registry.register(MergedMetrics(pages))
    found = {}
    for family in registry.collect():
        for sample in family.samples:
            found[(sample.name, *sample.labels.values())] = sample.value
    return found


def test_metrics_of_several_workers_are_those_of_one():
    """Counts are added up, a version is READY where it is in all, and troubles are not averaged."""
    found = values(page(3, 1, "READY", 0.5, 7), page(4, 2, "WARMING", 1.5, 9))

    assert 7 == found["bundleserver_requests_total", "a"]
    assert 3 == found[("bundleserver_requests_in_flight",)]
    assert (0, 1) == tuple(
        found["bundleserver_version_state", state] for state in ("READY", "WARMING")
    )
    assert (1, 2, 2) == tuple(
        found["bundleserver_request_seconds_bucket", bound] for bound in ("1.0", "2.0", "+Inf")
    )
    assert 2.0 == found[("bundleserver_request_seconds_sum",)]
    assert 7 == found[("bundleserver_last_poll_timestamp_seconds",)]
    assert 1 == found[("bundleserver_poll_failed",)]
    assert 2 == found[("bundleserver_workers",)]


def test_merged_metrics_can_be_written_and_read_again():
    """The merged page is one that Prometheus reads."""
    registry = CollectorRegistry()
    registry.register(MergedMetrics([page(1, 0, "READY", 0.5, 7)] * 2))
    text = write(registry, open_metrics=False)

    assert 'bundleserver_requests_total{model="a"} 2.0' in text
    assert text.count("# TYPE bundleserver_requests_total counter") == 1
