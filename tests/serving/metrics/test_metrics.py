"""The metrics: what a scrape shows of requests and of the manager."""

from __future__ import annotations

import asyncio

import httpx
import numpy as np
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from bundleserver.errors import (
    InvalidInput,
    ModelNotFound,
    NotReady,
    PredictionError,
    QueueFull,
    VersionNotFound,
)
from bundleserver.serving.errors import outcome_of
from bundleserver.serving.execution.answering import ServedModels
from bundleserver.serving.metrics.kserve import KServeMetrics
from bundleserver.serving.metrics.requests import RequestMetrics
from bundleserver.serving.metrics.versions import ManagerCollector
from bundleserver.serving.requests import PredictRequest
from bundleserver.tensors import TensorSpec
from bundleserver.tensors.signature import Signature
from bundleserver.versions.lifecycle import State
from tests.serving.fakes import FakeManager, FakeModel, FakeVersion, serving, sums
from tests.serving.grpc_client import connected, tensor

FEATURES = tensor("features", "FP64", [1, 2], fp64_contents=[1.0, 2.0])


@pytest.fixture
def registry():
    """Make a registry of its own for each test."""
    return CollectorRegistry()


def count(registry, outcome, version="1", protocol="v2"):
    """Read how many requests ended that way."""
    labels = {"model": "sums", "version": version, "protocol": protocol, "outcome": outcome}
    return registry.get_sample_value("bundleserver_requests_total", labels)


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (InvalidInput("x"), "invalid_input"),
        (ModelNotFound("x"), "not_found"),
        (VersionNotFound("x", "1", "y"), "not_found"),
        (NotReady("x", "y"), "not_ready"),
        (QueueFull("x", 1), "queue_full"),
        (PredictionError("x", "y", "z"), "error"),
        (RuntimeError("x"), "error"),
        (asyncio.CancelledError(), "cancelled"),
    ],
)
def test_an_error_has_one_outcome(registry, error, outcome):
    """Each kind of error is counted under its own outcome, and passes through."""

    def raises(inputs, parameters):
        raise error

    manager = FakeManager(FakeModel("sums", (FakeVersion("1", raises),)))
    served = ServedModels(manager, metrics=RequestMetrics(registry))

    async def answer():
        with pytest.raises(type(error)):
            await served.answer(PredictRequest("sums", rows=[[1.0, 2.0]]))

    if not isinstance(error, asyncio.CancelledError):
        asyncio.run(answer())
        assert 1 == count(registry, outcome, protocol="v1")
    assert outcome == outcome_of(error)


def test_an_answer_is_counted_and_timed(registry):
    """A request that is answered counts as ok, with its seconds, and is in flight until then."""
    flying, during = {"model": "sums", "protocol": "v1"}, []

    def call(inputs, parameters):
        during.append(registry.get_sample_value("bundleserver_requests_in_flight", flying))
        return sums(inputs, parameters)

    manager = FakeManager(FakeModel("sums", (FakeVersion("7", call),), default="7"))
    served = ServedModels(manager, metrics=RequestMetrics(registry))
    asyncio.run(served.answer(PredictRequest("sums", rows=[[1.0, 2.0]])))

    labels = {"model": "sums", "version": "7", "protocol": "v1"}
    assert 1 == count(registry, "ok", "7", "v1")
    assert 1 == registry.get_sample_value("bundleserver_request_seconds_count", labels)
    assert [1] == during
    assert 0 == registry.get_sample_value("bundleserver_requests_in_flight", flying)


REASON = "FAILED while LOADING: broken"
MODEL = FakeModel(
    "sums",
    (
        FakeVersion("2", state=State.FAILED, reason=REASON, load_seconds=None),
        FakeVersion("1", metadata={"digest": "abc", "trained_at": "2025-12-09", "rows": 3}),
    ),
    config_problem="labels.stable names '9'",
)


@pytest.fixture
def collected(registry):
    """Collect from a manager with one version that answers and one that failed."""
    registry.register(ManagerCollector(FakeManager(MODEL)))
    return registry


@pytest.mark.parametrize(
    ("version", "state", "value"),
    [("1", "READY", 1), ("1", "FAILED", 0), ("2", "FAILED", 1), ("2", "READY", 0)],
)
def test_a_version_is_in_one_state(collected, version, state, value):
    """The state that a version is in is 1, every other one 0."""
    labels = {"model": "sums", "version": version, "state": state}

    assert value == collected.get_sample_value("bundleserver_version_state", labels)


@pytest.mark.parametrize(
    ("name", "labels", "value"),
    [
        ("bundleserver_version_load_seconds", {"version": "1"}, 0.25),
        ("bundleserver_version_load_seconds", {"version": "2"}, None),
        (
            "bundleserver_bundle_info",
            {"version": "1", "digest": "abc", "trained_at": "2025-12-09"},
            1,
        ),
        ("bundleserver_default_version_info", {"version": "1"}, 1),
        ("bundleserver_config_problem", {}, 1),
        ("bundleserver_failures_total", {"state": "VERIFYING"}, 2),
        ("bundleserver_version_failure_info", {"version": "2", "reason": REASON}, 1),
        ("bundleserver_version_failure_info", {"version": "1", "reason": ""}, None),
    ],
)
def test_a_scrape_shows_the_manager(collected, name, labels, value):
    """Load times, bundles, the default version, problems and failures come from the manager."""
    assert value == collected.get_sample_value(name, {"model": "sums", **labels})


def test_a_scrape_shows_the_last_poll(collected):
    """The time of the last good look at the source is there, and whether the newest one failed."""
    assert 1000.0 == collected.get_sample_value("bundleserver_last_poll_timestamp_seconds")
    assert 0 == collected.get_sample_value("bundleserver_poll_failed")


def test_a_scrape_is_never_stale(registry):
    """A model that appears between two scrapes is in the second."""
    manager = FakeManager()
    registry.register(ManagerCollector(manager))
    before = generate_latest(registry)
    manager.add(MODEL)

    assert b'model="sums"' not in before
    assert b'model="sums"' in generate_latest(registry)


def test_every_protocol_is_counted_under_its_own_name():
    """Requests over V1, V2 and gRPC are told apart, with the version that answered or refused."""
    with serving(FakeManager(FakeModel("sums"))) as served, connected(served.grpc) as client:
        httpx.post(f"{served.rest}/v1/models/sums:predict", json={"instances": [[1, 2]]})
        wrong = {"name": "x", "datatype": "FP64", "shape": [1], "data": [1.0]}
        httpx.post(f"{served.rest}/v2/models/sums/infer", json={"inputs": [wrong]})
        client.infer(FEATURES, model="sums")

    assert 1 == count(served.registry, "ok", protocol="v1")
    assert 1 == count(served.registry, "invalid_input", protocol="v2")
    assert 1 == count(served.registry, "ok", protocol="grpc")


def test_encoding_is_timed_on_every_route():
    """KServe's post-processing counts forecasts of ``/v1/timeseries`` too."""
    outputs = tuple(TensorSpec(name, "FP64", (-1,)) for name in ("mean", "lower", "upper"))
    inputs = (TensorSpec("horizon", "INT64", (1,)), TensorSpec("history", "FP64", (-1,)))
    signature = Signature(inputs, outputs, rowwise=False)

    def ahead(inputs, parameters):
        return {spec.name: np.zeros(2) for spec in outputs}

    series = {"type": "univariate_time_series", "name": "x", "series": [1, 2], "frequency": "D"}
    asked = {"model": "ahead", "inputs": [series], "options": {"horizon": 2}}
    asked["inputs"][0]["start_timestamp"] = "2025-01-30T00:00:00Z"
    model = FakeModel("ahead", (FakeVersion("1", ahead, signature),))
    with serving(FakeManager(model)) as served:
        answer = httpx.post(f"{served.rest}/v1/timeseries/forecast", json=asked)
        count = served.registry.get_sample_value(
            "request_postprocess_seconds_count", {"model_name": "ahead"}
        )

    assert (200, 1) == (answer.status_code, count), answer.text


def test_an_unknown_model_leaves_no_label():
    """Names that callers make up do not become labels."""
    with serving(FakeManager(FakeModel("sums"))) as served:
        httpx.post(f"{served.rest}/v1/models/made-up:predict", json={"instances": [[1, 2]]})

        assert b"made-up" not in generate_latest(served.registry)


def test_the_scrape_route_shows_our_metrics_and_the_processs(free_ports, tmp_path):
    """/metrics has both in one page."""
    from tests.serving.served_process import process

    with process(free_ports(2), tmp_path / "gate") as served:
        assert served.listening.wait(60), served.log
        httpx.post(f"{served.rest}/v1/models/sums:predict", json={"instances": [[1, 2]]})
        page = httpx.get(f"{served.rest}/metrics").text

    assert "bundleserver_requests_total{" in page
    assert "bundleserver_version_state{" in page
    assert "process_resident_memory_bytes" in page
    assert 'request_predict_seconds_count{model_name="sums"} 1\n' in page


def test_kserves_latency_counts_all_versions_and_protocols_of_a_model(registry):
    """Dashboards of KServe's servers see a model's requests, however and whoever answered."""
    metrics = RequestMetrics(registry)
    registry.register(KServeMetrics(metrics))
    for protocol, version in [("v1", "1"), ("grpc", "2")]:
        metrics.seconds_of("sums", version, protocol).observe(0.25)
    metrics.seconds_of("other", "1", "v2").observe(0.5)
    own = sum(
        registry.get_sample_value(
            "bundleserver_request_seconds_sum",
            {"model": "sums", "version": version, "protocol": protocol},
        )
        for protocol, version in [("v1", "1"), ("grpc", "2")]
    )
    labels = {"model_name": "sums"}

    assert 2 == registry.get_sample_value("request_predict_seconds_count", labels)
    assert own == pytest.approx(registry.get_sample_value("request_predict_seconds_sum", labels))
    assert 2 == registry.get_sample_value(
        "request_predict_seconds_bucket", {**labels, "le": "+Inf"}
    )
