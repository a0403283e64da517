"""A real Prometheus scrapes a server that does everything, and answers every query of ours."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import joblib
import pytest

from bundleserver.store import BundleStore
from tests.end_to_end.calls import ask_grpc, v2_input
from tests.end_to_end.processes import ServerProcess, eventually, running
from tests.end_to_end.published import Detector
from tests.end_to_end.test_probe import broken
from tests.monitoring.accidents import TRACE, accidents
from tests.monitoring.files import ALERTS, metrics_of, queries, variables
from tests.monitoring.prometheus import Prometheus, scraping

INPUT = v2_input("features", "FP64", [1, 3], [0.5, 0.3, 0.8])
INTERVAL = "10s"


def write_models(root):
    """Save a canary with a shadow, a split whose share is broken, and what its probe finds out."""
    store = BundleStore(root)
    for name, versions in (("detector", 4), ("split", 2), ("plain", 1)):
        for seed in range(versions):
            Detector(seed).save(store, name, metadata={"trained_at": "2026-11-29T12:00:00Z"})
    for broken_version in (store.path("detector", "v4"), store.path("split", "v2")):
        with next(broken_version.glob("model.*")).open("ab") as file:
            file.write(b"!")
    canary = {"version": "v2", "min_agreement": 0.5}
    configs = {
        "detector": {"default": "v1", "shadow": ["v3"], "canary": canary},
        "split": {"default": "v1", "traffic": {"v2": 1}},
    }
    for name, config in configs.items():
        (root / name / "serving.json").write_text(json.dumps({"policy": "all", **config}))
    sales = root / "sales" / "v1"
    sales.mkdir(parents=True)
    joblib.dump(broken(), sales / "model.joblib")


@contextmanager
def serving(root: Path) -> Iterator[Prometheus]:
    """Serve with two worker processes, ask over every protocol, and scrape; yields Prometheus."""
    (root / "models").mkdir()
    write_models(root / "models")
    flags = {"workers": 2, "probe": "warn", "admin": "closed", "log_requests": root / "log"}
    with (
        accidents() as other,
        running(root / "models", **flags) as server,
    ):
        for model, version in (("detector", "v2"), ("detector", "v3"), ("split", "v1")):
            server.wait_until_ready(model, version)
        server.wait_until_ready("plain")
        server.wait_until_ready("sales")
        ends = threading.Event()
        asking = threading.Thread(target=ask, args=(server, ends))
        asking.start()
        try:
            targets = {"demo-0": server.http_port, "accidents-0": other}
            with scraping(root, free_port(), targets) as prometheus:
                yield prometheus
        finally:
            ends.set()
            asking.join()


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """Serve for all tests; yields Prometheus."""
    with serving(tmp_path_factory.mktemp("monitoring")) as prometheus:
        yield prometheus


def free_port():
    """Return a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


def ask(server: ServerProcess, ends: threading.Event) -> None:
    """Ask every model over V1, V2 and gRPC, also wrongly, until the end."""
    while not ends.is_set():
        for model in ("detector", "split", "plain"):
            server.predict(model, {"instances": [[0.5, 0.3, 0.8]]})
            server.infer(model, INPUT)
            ask_grpc(server.grpc, model, INPUT)
        server.predict("plain", {"instances": [["wrong"]]})
        server.predict("sales", {"instances": [[0.5, 0.3, 0.8, 0.1]]})
        server.post("/v2/repository/models/plain/unload")
        ends.wait(0.05)


def test_prometheus_takes_the_pages(served):
    """Both targets are up: OpenMetrics of one process and of merged ones has no error."""

    def scraped():
        found = served.targets()
        return len(found) == 2 and all(one["health"] != "unknown" for one in found) and found

    targets = eventually(scraped, "both targets are scraped")

    assert [("up", "")] * 2 == [(one["health"], one["lastError"]) for one in targets]


@pytest.mark.parametrize("query", queries(), ids=lambda query: query.expr[:60])
def test_every_query_of_the_dashboard_returns_a_series(served, query):
    """No panel is empty while everything happens that it shows."""
    assert eventually(lambda: served.ask(query.filled(INTERVAL)), query.panel)


@pytest.mark.parametrize("name", variables())
def test_every_variable_has_values(served, name):
    """The lists of namespaces and models are not empty."""
    metric = variables()[name].partition("(")[2].partition(",")[0].split("{")[0]

    assert [one for one in served.ask(f"count by ({name}) ({metric})") if one["metric"].get(name)]


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_every_metric_of_an_alert_is_there(served, alert):
    """The expression is valid, and each metric in it is one that the server has."""
    served.ask(alert["expr"])

    for metric in metrics_of(alert["expr"]):
        assert eventually(lambda name=metric: served.ask(name), f"{metric} has a series")


def test_alerts_of_broken_versions_are_pending(served):
    """What fails in this server is seen by the rules as they are loaded."""
    wanted = {"BundleserverVersionFailed", "BundleserverProbeFailed", "BundleserverQueueFull"}

    def seen():
        return wanted <= {one["labels"]["alertname"] for one in served.get("/alerts")["alerts"]}

    assert eventually(seen, f"{wanted} are pending")


def test_exemplars_lead_to_traces(served):
    """Prometheus keeps the trace of a slow request beside its bucket."""

    def found():
        asked = {"query": "bundleserver_request_seconds_bucket", "start": 0, "end": 9999999999}
        return served.get("/query_exemplars", **asked)

    exemplars = [one for series in eventually(found, "an exemplar") for one in series["exemplars"]]

    assert {TRACE} == {one["labels"]["trace_id"] for one in exemplars}
