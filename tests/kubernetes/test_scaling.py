"""The examples of autoscaling and canaries keep the rules of KServe's webhook."""

import re

import pytest
from prometheus_client import CollectorRegistry

from bundleserver.serving.metrics.requests import RequestMetrics
from tests.kubernetes.documents import EXAMPLES, examples, read
from tests.kubernetes.pods import mode_of

SERVICES = examples("InferenceService")


def annotation(service, name):
    """Return an annotation of KServe's, if it is given."""
    return service["metadata"].get("annotations", {}).get(f"serving.kserve.io/{name}")


@pytest.mark.parametrize("service", SERVICES, ids=lambda found: found["metadata"]["name"])
def test_kserve_takes_the_autoscaling(service):
    """KServe's webhook has its own rules for each autoscaler; every example keeps them."""
    predictor = service["spec"]["predictor"]
    autoscaler = annotation(service, "autoscalerClass")
    least, most = predictor.get("minReplicas", 1), predictor.get("maxReplicas", 0)

    assert most == 0 or least <= most
    if mode_of(service) == "Knative":
        assert None is autoscaler
        assert predictor.get("scaleMetric", "concurrency") in (
            "concurrency",
            "rps",
            "cpu",
            "memory",
        )
        assert "deploymentStrategy" not in predictor
    elif autoscaler == "hpa":
        assert least >= 1
        assert predictor["scaleMetric"] in ("cpu", "memory")
        assert 1 <= predictor["scaleTarget"] <= 100
    elif autoscaler == "keda":
        assert "scaleMetric" not in predictor
        for metric in predictor["autoScaling"]["metrics"]:
            assert metric["external"]["metric"]["query"]
            assert "Value" == metric["external"]["target"]["type"]
    else:
        assert None is autoscaler


def test_there_is_an_example_for_each_autoscaler():
    """HPA and KEDA in mode Standard, Knative's own in mode Knative."""
    shown = {(mode_of(service), annotation(service, "autoscalerClass")) for service in SERVICES}

    assert {("Standard", "hpa"), ("Standard", "keda"), ("Knative", None)} <= shown


def test_keda_asks_for_a_metric_that_the_server_has():
    """A query for a metric that nobody exports would scale to the least for ever."""
    registry = CollectorRegistry()
    RequestMetrics(registry).in_flight("scoring-keda", "v1").inc()
    known = {
        (sample.name, frozenset(sample.labels))
        for family in registry.collect()
        for sample in family.samples
    }
    (service,) = (found for found in SERVICES if annotation(found, "autoscalerClass") == "keda")
    (metric,) = service["spec"]["predictor"]["autoScaling"]["metrics"]
    found = re.fullmatch(r'sum\((\w+)\{(\w+)="([\w-]+)"\}\)', metric["external"]["metric"]["query"])

    assert found
    assert service["metadata"]["name"] == found[3]
    assert any(name == found[1] and found[2] in labels for name, labels in known)


def test_a_canary_of_standard_mode_shares_one_model_between_two_services():
    """The route's weights are the two services', which answer as one model of two versions."""
    *services, route = read(EXAMPLES / "canary-standard.yaml")
    stable, canary = (service["spec"]["predictor"]["model"] for service in services)
    backends = [each for rule in route["spec"]["rules"] for each in rule["backendRefs"]]
    named = [f"{service['metadata']['name']}-predictor" for service in services]

    assert ["Standard", "Standard"] == [mode_of(service) for service in services]
    assert named == [backend["name"] for backend in backends]
    assert 100 == sum(backend["weight"] for backend in backends)
    assert [f"--model_name={services[0]['metadata']['name']}"] == canary["args"]
    assert stable["storageUri"] != canary["storageUri"]


def test_a_canary_of_knative_mode_is_a_share_of_one_revision():
    """``canaryTrafficPercent`` means something in mode Knative only."""
    services = [found for found in SERVICES if "canaryTrafficPercent" in found["spec"]["predictor"]]

    assert services
    for service in services:
        assert "Knative" == mode_of(service)
        assert 0 <= service["spec"]["predictor"]["canaryTrafficPercent"] <= 100
