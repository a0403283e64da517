"""An MLflow server in the cluster: followed with a shared cache, and fetched once at a start."""

from __future__ import annotations

import pytest

from tests.cluster import settings
from tests.cluster.kubectl import eventually
from tests.cluster.models import ANY, save
from tests.cluster.services import deployment, service_of

pytestmark = settings.needs_services


@pytest.fixture(scope="module")
def registry(place, install, tmp_path_factory):
    """Start an MLflow server with two versions of a model, one champion, one challenger."""
    install("storage-container")
    server = ["-m", "mlflow", "server", "--host=0.0.0.0", "--port=5000", "--workers=1"]
    server += ["--backend-store-uri=sqlite:////tmp/registry.db", "--allowed-hosts=*"]
    server += ["--artifacts-destination=/tmp/artifacts"]
    place.apply(deployment("mlflow", 5000, server, "/health"), service_of("mlflow", 5000))
    root = tmp_path_factory.mktemp("models")
    save(root, "fraud", 11, 12)
    place.upload(root / "fraud", "fraud")
    place.kubectl("rollout", "status", "deployment/mlflow", "--timeout=200s")
    for version, alias in {"v1": "champion", "v2": "challenger"}.items():
        _push(place, version, alias)
    place.apply_example("mlflow", _configured(place))
    return place


@pytest.fixture(scope="module")
def followed(registry):
    """Serve the registry's model by ``examples/mlflow.yaml``: two replicas, one cache."""
    registry.wait_until_ready("fraud-mlflow")
    return registry


def test_the_champion_answers_and_the_challenger_beside_it(followed):
    """The alias of ``--model_uri`` is the default, the labels answer under their own names."""
    other = "/v1/models/fraud-mlflow/versions/challenger:predict"

    def predictions() -> list[int]:
        asked = followed.ask("fraud-mlflow-predictor", other, {"instances": ANY})
        return asked.json().get("predictions", [])

    assert [11] == followed.predict("fraud-mlflow", ANY).json()["predictions"]
    eventually(lambda: predictions() == [12], "the challenger answers")
    eventually(lambda: len(followed.pods("fraud-mlflow")) == 2, "there are two replicas")


def test_an_alias_that_moves_is_followed(followed):
    """What becomes champion in the registry is served without a restart."""
    _push(followed, "v2", "champion")

    def answer() -> list[int]:
        return followed.predict("fraud-mlflow", ANY).json()["predictions"]

    eventually(lambda: answer() == [12], "the new champion answers")


def test_a_model_is_fetched_once_when_a_pod_starts(registry):
    """``examples/mlflow-once.yaml`` with ``storage-container``: ``models:/`` is a storageUri."""
    registry.apply_example("mlflow-once")
    registry.wait_until_ready("fraud-once")

    assert registry.predict("fraud-once", ANY).json()["predictions"] in ([11], [12])


def test_pods_that_start_while_the_registry_is_down_serve_from_the_cache(followed):
    """With the registry gone and both pods deleted, both come back from what they share."""
    followed.kubectl("scale", "deployment/mlflow", "--replicas=0")
    followed.kubectl("wait", "--for=delete", "pod", "--selector=app=mlflow", "--timeout=100s")
    before = {pod["metadata"]["name"] for pod in followed.pods("fraud-mlflow")}
    followed.kubectl("delete", "pod", *before)

    def back() -> bool:
        pods = followed.pods("fraud-mlflow")
        states = [pod["status"].get("containerStatuses", [{}])[0] for pod in pods]
        return len(pods) == 2 and all(state.get("ready") for state in states)

    eventually(back, "both replicas are ready again")
    index = followed.ask("fraud-mlflow-predictor", "/v2/models/fraud-mlflow").text

    assert [12] == followed.predict("fraud-mlflow", ANY).json()["predictions"]
    assert "stale_since" in index
    assert not before & {pod["metadata"]["name"] for pod in followed.pods("fraud-mlflow")}


def _push(place, version: str, alias: str) -> None:
    tracking = f"MLFLOW_TRACKING_URI={_uri(place)}"
    command = ["bundleserver", "push", f"/mnt/models/fraud/{version}", "models:/fraud"]
    place.execute("env", tracking, *command, f"--alias={alias}")


def _uri(place) -> str:
    return f"http://mlflow.{place.name}:5000"


def _configured(place):
    """Put this registry's address in, and the claim's volume where no class makes one."""

    def edit(documents) -> None:
        claim, config, secret, _ = documents
        config["data"]["MLFLOW_TRACKING_URI"] = _uri(place)
        documents.remove(secret)
        documents.remove(claim)
        place.claim(claim["metadata"]["name"])

    return edit
