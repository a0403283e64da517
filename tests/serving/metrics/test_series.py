"""Series that many threads count in, and that are forgotten when their version is gone."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from prometheus_client import CollectorRegistry

from bundleserver.serving.metrics.exposition import write
from bundleserver.serving.metrics.kserve import KServeMetrics
from bundleserver.serving.metrics.requests import RequestMetrics
from bundleserver.serving.metrics.retention import EVERY_SECONDS, KEPT_SECONDS, MOST_GONE, Retention
from bundleserver.serving.metrics.series import counters, histograms

VERSION = ("fraud", "v1")


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_nothing_is_lost_between_threads():
    """Threads that count at the same time are all counted."""
    times = histograms("took", "Time.", ("model",), (1, 2))
    asked = counters("asked", "How often.", ("model",))

    def count(_):
        for number in range(2000):
            times.of("a").observe(number % 3)
            asked.of("a").inc()

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(count, range(4)))

    assert 8000 == asked.of("a").value == sum(times.of("a").counts)


@pytest.mark.parametrize(
    ("value", "bucket"), [(0.5, "1.0"), (1.0, "1.0"), (1.5, "2.0"), (2.0, "2.0"), (9.0, "+Inf")]
)
def test_a_bucket_has_its_upper_bound(value, bucket):
    """``le`` means less or equal."""
    registry = CollectorRegistry()
    histograms("took", "Time.", ("model",), (1, 2), registry).of("a").observe(value)
    found = {
        le: registry.get_sample_value("took_bucket", {"model": "a", "le": le})
        for le in ("1.0", "2.0", "+Inf")
    }

    assert bucket == next(le for le, count in found.items() if count)
    assert value == registry.get_sample_value("took_sum", {"model": "a"})


def test_a_version_that_is_gone_is_kept_a_while():
    """Rates over some minutes still see its last requests; then it is forgotten."""
    clock = Clock()
    retention = Retention(clock)
    present = {"fraud": {"v2"}}
    counted = [VERSION, ("fraud", "v2"), ("fraud", "")]
    before = retention.gone(counted, present)
    clock.now += KEPT_SECONDS - 1
    still = retention.gone(counted, present)
    clock.now += 1

    assert set() == before == still
    assert {VERSION} == retention.gone(counted, present)


def test_a_version_that_comes_back_is_not_gone():
    """The time starts anew when it goes again."""
    clock = Clock()
    retention = Retention(clock)
    retention.gone([VERSION], {})
    clock.now += KEPT_SECONDS
    retention.gone([VERSION], {"fraud": {"v1"}})

    assert set() == retention.gone([VERSION], {})


def test_only_so_many_versions_of_a_model_that_are_gone_have_series():
    """The newest of them; other models have their own number."""
    clock = Clock()
    retention = Retention(clock)
    counted = []
    for number in range(MOST_GONE + 5):
        clock.now += 1
        counted.append(("fraud", f"v{number}"))
        gone = retention.gone([*counted, ("other", "v1")], {})

    assert {("fraud", f"v{number}") for number in range(5)} == gone


def test_publishing_for_months_does_not_make_the_page_grow():
    """Each version is asked, replaced and scraped: the page has as many series at last as early."""
    clock, registry = Clock(), CollectorRegistry()
    metrics = RequestMetrics(registry, clock)
    registry.register(KServeMetrics(metrics))
    sizes = []
    for number in range(500):
        version = f"v{number}"
        metrics.observe("fraud", version, "v2", 0.01)
        metrics.ended("fraud", version, "v2", "ok").inc()
        metrics.called("fraud", version, 1, 1)
        metrics.overran("fraud", version)
        clock.now += EVERY_SECONDS
        metrics.keep({"fraud": {version}})
        sizes.append(write(registry, open_metrics=False).count("\n"))

    assert sizes[MOST_GONE + 1] == sizes[-1]
    assert 500 == registry.get_sample_value(
        "request_predict_seconds_count", {"model_name": "fraud"}
    )


def test_nothing_is_left_of_a_model_that_is_gone():
    """Neither its versions nor what is counted for the model as a whole; a gauge ends at zero."""
    clock, registry = Clock(), CollectorRegistry()
    metrics = RequestMetrics(registry, clock)
    registry.register(KServeMetrics(metrics))
    metrics.observe("fraud", "v1", "v2", 0.01)
    metrics.waited("fraud", 0.1)
    metrics.decoded("fraud", 0.1)
    in_flight = metrics.in_flight("fraud", "v2")
    in_flight.inc()
    for _ in range(2):
        metrics.keep({})
        clock.now += KEPT_SECONDS
    during = write(registry, open_metrics=False)
    in_flight.dec()
    metrics.observe("fraud", "v1", "v2", 0.01)
    for _ in range(3):
        metrics.keep({})
        clock.now += KEPT_SECONDS

    assert 'bundleserver_requests_in_flight{model="fraud",protocol="v2"} 1' in during
    assert "fraud" not in write(registry, open_metrics=False)
