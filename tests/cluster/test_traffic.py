"""Between InferenceServices: a graph, a share of the requests by an HTTPRoute, replicas by load."""

from __future__ import annotations

import collections

import pytest

from tests.cluster.kubectl import eventually
from tests.cluster.models import ANY, save
from tests.cluster.place import gateway

ENFORCE = "baseline"
"""KServe's own graph router does not hold in a restricted namespace."""


@pytest.fixture(scope="module")
def detectors(place, tmp_path_factory):
    """Serve two models under the names that the graph's example asks."""
    root = tmp_path_factory.mktemp("models")
    for name, answer in {"predictive-analytics": 11, "lstm-predictor": 12}.items():
        save(root, name, answer)
        place.upload(root / name, name)
    place.apply_example("adr-031", _named("predictive-analytics", "lstm-predictor"))
    for name in ("predictive-analytics", "lstm-predictor"):
        place.wait_until_ready(name)
    return place


def test_a_graph_asks_two_models_at_once(detectors):
    """The InferenceGraph of ``examples/inference-graph.yaml`` has an entry per step."""
    detectors.apply_example("inference-graph")
    body = {"instances": ANY}

    def answer():
        found = detectors.ask("anomaly-detectors", "/", body)
        return found if found.status == 200 else None

    told = eventually(answer, "the graph answers").json()

    assert {"isolation_forest": {"predictions": [11]}, "lstm": {"predictions": [12]}} == told


def test_a_route_shares_requests_between_two_services(place, tmp_path):
    """``examples/canary-standard.yaml``: the weights of its HTTPRoute are the shares that come."""
    address = gateway()
    save(tmp_path, "demand", 21, 22)
    place.upload(tmp_path / "demand", "demand")
    place.apply_example("canary-standard")
    place.wait_until_ready("demand")
    place.wait_until_ready("demand-canary")
    one = place.request(
        f"http://{address}",
        "/v1/models/demand:predict",
        {"instances": ANY},
        host="demand.example.com",
    )
    eventually(lambda: place.ask_all(one)[0].status == 200, "the route is there")

    answers = place.ask_all(*[one] * 400, threads=4)
    shares = collections.Counter(answer.json()["predictions"][0] for answer in answers)

    assert {"21", "22"} == {str(answer) for answer in shares}
    assert 15 <= shares[22] <= 75


def test_load_makes_replicas_and_silence_takes_them(place, tmp_path):
    """``examples/autoscaling-hpa.yaml``: pods come while the CPU is busy, and go when it is not."""
    save(tmp_path, "scoring", 31)
    place.upload(tmp_path / "scoring", "scoring")
    place.apply_example("autoscaling-hpa", _small)
    place.wait_until_ready("scoring-hpa")
    one = place.request(
        "scoring-hpa-predictor", "/v1/models/scoring-hpa:predict", {"instances": ANY * 500}
    )

    def has_grown() -> bool:
        answers = place.ask_all(*[one] * 300, threads=4)
        assert {200} == {answer.status for answer in answers}
        return _replicas(place) >= 2

    eventually(has_grown, "a second replica is wanted")

    def has_shrunk() -> bool:
        # KServe 0.20 passes no behavior on to an HPA, and puts its own back at each of its turns.
        place.kubectl("patch", "hpa", "scoring-hpa-predictor", f"--patch={_SHORT}")
        return _replicas(place) == 1

    eventually(has_shrunk, "the second replica is gone", pause=1)


_SHORT = '{"spec": {"behavior": {"scaleDown": {"stabilizationWindowSeconds": 5}}}}'
"""In place of the five minutes that a HorizontalPodAutoscaler waits before pods go."""


def _replicas(place) -> int:
    return int(place.get("deployment", "scoring-hpa-predictor")["spec"]["replicas"])


def _small(documents) -> None:
    """Begin with one replica, and ask for so little that a small node has room for the next."""
    predictor = documents[0]["spec"]["predictor"]
    predictor.update(minReplicas=1, maxReplicas=2)


def _named(*names: str):
    def edit(documents) -> None:
        documents[:] = [each for each in documents if each["metadata"]["name"] in names]

    return edit
