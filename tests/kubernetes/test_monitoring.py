"""The files of ``servingruntimes/monitoring``: what they name is there."""

from __future__ import annotations

import re

import pytest

from tests.kubernetes.documents import BASE, PROJECT, read
from tests.monitoring.files import (
    ALERTS,
    DASHBOARD,
    POD_MONITOR,
    RULES,
    metrics_of,
    queries,
    variables,
)

SOURCES = (PROJECT / "runtime" / "bundleserver" / "serving").rglob("*.py")
EXPORTED = {
    name
    for source in SOURCES
    for name in re.findall(
        r'"((?:bundleserver|request)_[a-z_]+)"', source.read_text(encoding="utf-8")
    )
}

PAGE = (PROJECT / "docs" / "operate.md").read_text(encoding="utf-8")
EXPRESSIONS = [*(query.expr for query in queries()), *(alert["expr"] for alert in ALERTS)]


def anchors(page):
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}


def family(name):
    """Return a metric's name without what a format or a histogram adds."""
    return re.sub(r"_(bucket|count|sum|total|info)$", "", name)


@pytest.mark.parametrize("expr", EXPRESSIONS)
def test_every_metric_that_is_asked_for_exists(expr):
    """A name that is misspelt, or gone, would show an empty panel and never fire."""
    asked = metrics_of(expr)

    assert asked
    assert {family(name) for name in asked if not name.startswith("process_")} <= EXPORTED


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_every_alert_says_what_and_where_to_read_on(alert):
    """It has a severity, a summary, a description, and a section of the operators' page."""
    page, _, anchor = alert["annotations"]["runbook_url"].partition("#")

    assert {"summary", "description", "runbook_url"} == set(alert["annotations"])
    assert alert["labels"]["severity"] in ("warning", "critical")
    assert "docs/operate.md" == page
    assert anchor in anchors(PAGE)


def test_every_alert_is_on_the_operators_page():
    """The page names each, so that it is found by the alert's name."""
    assert [] == [alert["alert"] for alert in ALERTS if f"`{alert['alert']}`" not in PAGE]


def test_every_panel_has_a_place_and_a_name_of_its_own():
    """No two panels overlap, and each has its own id and title."""
    panels = DASHBOARD["panels"]
    cells = [
        (place["x"] + column, place["y"] + line)
        for place in (panel["gridPos"] for panel in panels)
        for column in range(place["w"])
        for line in range(place["h"])
    ]

    assert len(cells) == len(set(cells))
    assert max(column for column, _ in cells) < 24
    assert len(panels) == len({panel["id"] for panel in panels})
    assert len(panels) == len({panel["title"] for panel in panels})


def test_the_dashboard_is_for_a_namespace_and_a_model():
    """Its variables narrow every query down; it names no datasource of somebody's own."""
    assert ["namespace", "model"] == list(variables())
    assert [] == [expr for _, expr in queries() if 'namespace=~"$namespace"' not in expr]
    assert {"${datasource}"} == {
        panel["datasource"]["uid"] for panel in DASHBOARD["panels"][1:] if "datasource" in panel
    }


def test_the_pod_monitor_scrapes_what_the_runtimes_annotate():
    """The port and path are those of the runtime's annotations, the container is KServe's."""
    (runtime,) = read(BASE / "clusterservingruntime.yaml")
    annotations = runtime["spec"]["annotations"]
    (endpoint,) = POD_MONITOR["spec"]["podMetricsEndpoints"]
    sources = {name for rule in endpoint["relabelings"] for name in rule["sourceLabels"]}

    assert annotations["prometheus.kserve.io/path"] == endpoint["path"]
    assert "prometheus.kserve.io/port" in annotations
    assert "__meta_kubernetes_pod_annotation_prometheus_kserve_io_port" in sources
    assert {runtime["spec"]["containers"][0]["name"]} == {
        rule["regex"]
        for rule in endpoint["relabelings"]
        if rule["sourceLabels"] == ["__meta_kubernetes_pod_container_name"]
    }


@pytest.mark.parametrize(
    ("ip", "address"), [("10.1.2.3", "10.1.2.3:8080"), ("fd00::1:2", "[fd00::1:2]:8080")]
)
def test_the_pod_monitor_addresses_pods_of_either_family(ip, address):
    """Exactly one of its rules applies, and gives an address that can be asked."""
    (endpoint,) = POD_MONITOR["spec"]["podMetricsEndpoints"]
    rules = [one for one in endpoint["relabelings"] if one.get("targetLabel") == "__address__"]
    found = [(re.fullmatch(rule["regex"], f"{ip};8080"), rule["replacement"]) for rule in rules]
    made = [match.expand(re.sub(r"\$(\d)", r"\\\1", to)) for match, to in found if match]

    assert [address] == made


def test_every_object_has_a_kind_of_the_operators():
    """The Prometheus operator reads these two kinds."""
    kinds = {(one["apiVersion"], one["kind"]) for one in (POD_MONITOR, RULES)}

    assert {"monitoring.coreos.com/v1"} == {version for version, _ in kinds}
    assert {"PodMonitor", "PrometheusRule"} == {kind for _, kind in kinds}
