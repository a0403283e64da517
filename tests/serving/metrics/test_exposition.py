"""The page of metrics: two formats, whatever names models have, and what readers make of it."""

from __future__ import annotations

import asyncio
import gzip
import threading

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from bundleserver.errors import QueueFull
from bundleserver.serving.metrics.exposition import OPEN_METRICS, TEXT, write
from bundleserver.serving.metrics.kserve import KServeMetrics
from bundleserver.serving.metrics.negotiating import takes_gzip
from bundleserver.serving.metrics.page import PageWriter, write_page
from bundleserver.serving.metrics.requests import RequestMetrics
from bundleserver.serving.metrics.traffic import TrafficCollector
from bundleserver.serving.metrics.versions import ManagerCollector
from bundleserver.serving.traffic.splitting import Splitter
from bundleserver.serving.workers.merging import MergedMetrics
from bundleserver.versions.lifecycle import State
from tests.serving.fakes import FakeManager, FakeModel, FakeVersion

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
NAMES = ("sums", 'say "hi"\\n', "two\nlines", "100 % %s", f' # {{trace_id="{TRACE}"}} 1 2', "größe")
REASON = 'FAILED while LOADING: "x"\\\n# EOF'
READERS = {True: read_openmetrics, False: read_text}


def registry_of(models=NAMES, trace=TRACE):
    """Make a registry with all of our collectors, each of which has counted something."""
    registry = CollectorRegistry()
    metrics = RequestMetrics(registry)
    versions = FakeVersion("2", state=State.FAILED, reason=REASON), FakeVersion("1")
    manager = FakeManager(*(FakeModel(name, versions) for name in models))
    manager.last_poll_at = None  # its age would differ from one reading to the next
    registry.register(KServeMetrics(metrics))
    registry.register(ManagerCollector(manager))
    registry.register(TrafficCollector(manager, Splitter(manager)))
    for name in models:
        metrics.observe(name, "1", "v2", 0.02, trace)
        metrics.observe(name, "1", "v1", 0.002)
        metrics.refused(name, "grpc", QueueFull(name, 1))
        metrics.decoded(name, 1e-5)
        metrics.encoded(name, 3.0)
        metrics.waited(name, 0.5)
        metrics.called(name, "1", 2, 20)
        metrics.in_flight(name, "v2").inc()
    return registry


def samples(families):
    """Return the values by name and labels."""
    return {
        (one.name, tuple(sorted(one.labels.items()))): one.value
        for family in families
        for one in family.samples
    }


@pytest.mark.parametrize("open_metrics", [True, False])
def test_a_page_is_valid_and_has_what_was_collected(open_metrics):
    """prometheus-client's own readers find every sample, with every name as it is."""
    registry = registry_of()
    page = write(registry, open_metrics=open_metrics)
    found = samples(READERS[open_metrics](page))

    assert samples(registry.collect()) == found
    assert set(NAMES) == {dict(labels)["model"] for _, labels in found if "model" in dict(labels)}


def test_metrics_of_others_are_written_as_prometheus_client_does():
    """Whatever a library registers has the lines that it would have."""
    registry = CollectorRegistry()
    Counter("asked", "How often.\nReally.", ["who"], registry=registry).labels('"a"\\').inc()
    Gauge("now", "Now.", registry=registry).set(float("nan"))
    Info("build", "Build.", registry=registry).info({"version": "1"})
    Histogram("took", "Time.", buckets=(0.5, 2), registry=registry).observe(1)

    def lines(text):
        return [line for line in text.decode().splitlines() if "_created" not in line]

    assert lines(generate_latest(registry)) == write(registry, open_metrics=False).splitlines()
    assert lines(openmetrics_latest(registry)) == write(registry, open_metrics=True).splitlines()


def exemplars(page):
    """Return the exemplars by name, model and bucket."""
    return {
        (one.name, one.labels["model"], one.labels["le"]): one.exemplar
        for family in read_openmetrics(page)
        for one in family.samples
        if one.exemplar
    }


def test_a_sampled_request_is_the_exemplar_of_its_bucket():
    """OpenMetrics has the trace and the time of the newest one; text, which cannot, has none."""
    registry = registry_of()
    found = exemplars(write(registry, open_metrics=True))

    assert {("bundleserver_request_seconds_bucket", name, "0.025") for name in NAMES} == set(found)
    assert {(TRACE, 0.02)} == {(one.labels["trace_id"], one.value) for one in found.values()}
    assert ' # {trace_id="4bf92f3577b34da6a3ce929d0e0e4736"} 0.02' not in write(
        registry, open_metrics=False
    )


def test_exemplars_and_hostile_names_survive_merging():
    """The page of several processes is valid, and keeps exemplars, in either format."""
    pages = [write(registry_of(), open_metrics=True) for _ in range(2)]
    merged = MergedMetrics(pages)
    page = write(merged, open_metrics=True)
    found = samples(read_openmetrics(page))
    key = (("model", NAMES[4]), ("protocol", "v2"), ("version", "1"))

    assert 2 == found["bundleserver_request_seconds_count", key]
    assert len(NAMES) == len(exemplars(page))
    assert found == samples(read_text(write(merged, open_metrics=False)))


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", TEXT),
        ("*/*", TEXT),
        ("text/plain;version=0.0.4", TEXT),
        ("application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5", OPEN_METRICS),
        ("text/html, application/openmetrics-text; version=0.0.1", OPEN_METRICS),
        ("APPLICATION/OpenMetrics-Text", OPEN_METRICS),
        ("application/openmetrics-text;q=0", TEXT),
        ("application/openmetrics-text; Q=0.0, */*", TEXT),
        ("application/openmetrics-text;q=0.5, text/plain", TEXT),
        ("application/openmetrics-text;q=0.5, text/*;q=0.6", TEXT),
        ("application/openmetrics-text;q=0.5, text/plain;q=0.4, */*;q=0.9", OPEN_METRICS),
        ("application/openmetrics-text;q=yes", TEXT),
        ('text/plain;x="a,application/openmetrics-text"', TEXT),
        (
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
            "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;q=0.4,"
            "*/*;q=0.2",
            OPEN_METRICS,
        ),
    ],
)
def test_the_accept_header_decides_on_the_format(accept, content_type):
    """OpenMetrics is for those who ask for it."""
    page = write_page(registry_of(), accept)

    assert content_type == page.content_type
    assert page.body.endswith(b"# EOF\n") == (content_type == OPEN_METRICS)


@pytest.mark.parametrize(
    ("header", "taken"),
    [
        ("gzip", True),
        ("deflate, GZIP;q=0.5", True),
        ("gzip;q=0", False),
        ("gzip; q=0.00", False),
        ("gzip;q=0.001", True),
        ("identity", False),
        ("*", True),
        ("*;q=0, gzip", True),
        ("gzip;q=0, *", False),
        ("gzip;q=0.5, identity", False),
        ("", False),
    ],
)
def test_gzip_is_for_those_who_take_it(header, taken):
    """A quality of zero excludes it."""
    assert taken == takes_gzip(header)


def test_a_long_page_is_compressed():
    """Prometheus gets a tenth of the bytes, and the same page."""
    registry = registry_of(models=[f"model-{number}" for number in range(50)])
    plain = write_page(registry, "", "identity")
    packed = write_page(registry, "", "gzip")

    assert plain.body == gzip.decompress(packed.body)
    assert len(packed.body) < len(plain.body) / 10
    assert ("content-encoding", "gzip") in packed.headers
    vary = ("vary", "accept, accept-encoding")
    assert vary in packed.headers
    assert (vary,) == plain.headers
    assert (vary,) == write_page(CollectorRegistry(), "", "gzip").headers


def test_a_page_is_written_off_the_event_loop():
    """A collector that waits does not hold up what else the event loop does."""
    goes_on = threading.Event()

    class Waits:
        def collect(self):
            assert goes_on.wait(20)
            return []

    async def scrape():
        page = asyncio.ensure_future(PageWriter().write(Waits(), "", ""))
        await asyncio.sleep(0)
        goes_on.set()
        return await page

    assert b"" == asyncio.run(scrape()).body
