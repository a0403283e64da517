"""The last minutes of requests: what is kept of the metrics, and what plots make of it."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry

from bundleserver.serving.metrics.requests import RequestMetrics
from bundleserver.serving.page.activity import Activities
from bundleserver.serving.page.history import STEP_SECONDS, STEPS, History, steps_of
from tests.fakes import Clock


@pytest.fixture
def clock():
    """Make a clock that goes when it is told to."""
    return Clock()


@pytest.fixture
def metrics():
    """Make metrics of requests."""
    return RequestMetrics(CollectorRegistry())


@pytest.fixture
def history(metrics, clock):
    """Make a history of them."""
    return History(metrics, clock)


def request(metrics, version="v1", outcome="ok", seconds=0.02, model="fraud", protocol="v1"):
    """Count one request as the edge does."""
    metrics.ended(model, version, protocol, outcome).inc()
    if version:
        metrics.seconds_of(model, version, protocol).observe(seconds)


def later(history, clock, steps=1):
    """Let steps pass and take a sample."""
    clock.now += steps * STEP_SECONDS
    history.sample()


def activity(*histories, clock, model="fraud"):
    """Return what is shown of a model, as several processes tell it."""
    rows = [row for history in histories for row in history.rows([model])]
    return Activities(steps_of(rows), clock).of_model(model)


def test_a_step_has_what_came_in_it(metrics, history, clock):
    """Requests are counted once, in the step in which they ended."""
    later(history, clock)
    for _ in range(3):
        request(metrics)
    later(history, clock)
    request(metrics, protocol="grpc")
    later(history, clock)
    later(history, clock)

    plots = activity(history, clock=clock).plots()
    assert [3 / STEP_SECONDS, 1 / STEP_SECONDS, 0.0] == plots["requests"][-3:]
    assert STEPS == len(plots["times"]) == len(plots["p99"])
    assert clock.now == plots["times"][-1]


def test_failures_are_the_servers_and_mistakes_the_clients(metrics, history, clock):
    """What was not valid is not a failure, and neither is what a client gave up."""
    for outcome in ("ok", "error", "timed_out", "queue_full", "not_ready"):
        request(metrics, outcome=outcome)
    for outcome in ("invalid_input", "not_found", "cancelled"):
        request(metrics, version="", outcome=outcome)
    later(history, clock)

    sum_ = activity(history, clock=clock).sum
    assert (8, 4, 2) == sum_[:3]


def test_latencies_are_of_the_window(metrics, history, clock):
    """Half of the requests took up to 25 ms, and the slowest between 2.5 and 5 s."""
    for _ in range(99):
        request(metrics, seconds=0.02)
    request(metrics, seconds=3.0)
    later(history, clock)

    shown = activity(history, clock=clock)
    assert 0.01 < shown.p50 <= 0.025
    assert shown.p99 <= 0.025
    assert 100 == shown.sum.buckets[-1]


def test_the_rate_is_of_the_last_minute(metrics, history, clock):
    """Older requests are in the window and not in the rate."""
    request(metrics)
    later(history, clock)
    clock.now += 120
    for _ in range(30):
        request(metrics)
    later(history, clock)

    shown = activity(history, clock=clock)
    assert pytest.approx(0.5) == shown.per_second
    assert 31 == shown.sum.requests


def test_what_is_old_is_forgotten(metrics, history, clock):
    """Ten minutes are kept, however long a server serves."""
    request(metrics)
    later(history, clock)
    for _ in range(STEPS):
        later(history, clock)

    assert [] == history.rows(["fraud"])


def test_only_the_busiest_versions_are_kept(metrics, clock):
    """A server of very many models keeps a bounded history."""
    history = History(metrics, clock, most_versions=2)
    for at in range(4):
        for _ in range(at + 1):
            request(metrics, model=f"model-{at}")
    later(history, clock)

    rows = history.rows([f"model-{at}" for at in range(4)])
    assert ["model-3", "model-2"] == [row[0] for row in rows]


def test_several_processes_add_up(metrics, history, clock):
    """With worker processes the steps of all are added."""
    other_metrics = RequestMetrics(CollectorRegistry())
    other = History(other_metrics, clock)
    request(metrics)
    request(other_metrics)
    request(other_metrics, version="v2")
    clock.now += STEP_SECONDS
    history.sample()
    other.sample()

    found = steps_of([*history.rows(["fraud"]), *other.rows(["fraud"])])
    assert {("fraud", "v1"): 2, ("fraud", "v2"): 1} == {
        at: sum(c.requests for c in steps.values()) for at, steps in found.items()
    }


def test_two_samples_in_a_step_are_one_step(metrics, history, clock):
    """The first sample is taken at the start, wherever in a step that is."""
    request(metrics)
    history.sample()
    request(metrics)
    history.sample()

    (row,) = history.rows(["fraud"])
    assert 2 == row[3]
