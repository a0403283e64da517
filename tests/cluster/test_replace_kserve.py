"""``overlays/replace-kserve`` answers in the place of KServe's server, and gives it back.

KServe's images cannot be pulled here, so a few lines of Python stand for its scikit-learn server in
a ClusterServingRuntime of its name; where the cluster has that name already, nothing is run.
"""

from __future__ import annotations

import pickle

import pytest
from sklearn.linear_model import LogisticRegression

from tests.cluster import settings
from tests.cluster.kubectl import Document, apply, eventually, get, kubectl, kustomize
from tests.cluster.place import LABEL, inference_service
from tests.kubernetes.documents import OVERLAYS

NAME = "kserve-sklearnserver"
ROWS = [[0.1, 0.2], [0.9, 0.4]]
MODEL = LogisticRegression().fit([[0.1, 0.2], [0.9, 0.4], [0.3, 0.3]], [0, 1, 0])
SERVICES = ("chosen", "named", "likely")
"""One that leaves the choice to KServe, one that names the runtime, one that wants odds."""

STAND_IN = """
import json
from http.server import BaseHTTPRequestHandler, HTTPServer

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer({"alive": True})

    def do_POST(self):
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.answer({"predictions": ["kserve"]})

    def answer(self, body):
        said = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

HTTPServer(("", 8080), Handler).serve_forever()
"""


def stand_in(run: str) -> Document:
    """Return a runtime with the name and the formats of KServe's scikit-learn server."""
    restricted = {
        "allowPrivilegeEscalation": False,
        "runAsNonRoot": True,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    container = {
        "name": "kserve-container",
        "image": settings.SLIM,
        "command": ["python3", "-c", STAND_IN],
        "resources": {"requests": {"cpu": "50m", "memory": "50Mi"}},
        "securityContext": restricted,
    }
    return {
        "apiVersion": "serving.kserve.io/v1alpha1",
        "kind": "ClusterServingRuntime",
        "metadata": {"name": NAME, "labels": {LABEL: run}},
        "spec": {
            "supportedModelFormats": [
                {"name": "sklearn", "version": "1", "autoSelect": True, "priority": 1}
            ],
            "protocolVersions": ["v1", "v2"],
            "containers": [container],
        },
    }


@pytest.fixture(scope="module")
def services(place, run, tmp_path_factory):
    """Serve a directory by what stands for KServe's server, as it was before ours came."""
    there = [found["metadata"]["name"] for found in get("clusterservingruntimes")["items"]]
    if NAME in there:
        pytest.skip(f"the cluster has a {NAME} of its own")
    directory = tmp_path_factory.mktemp("models") / "odds"
    directory.mkdir()
    (directory / "model.pkl").write_bytes(pickle.dumps(MODEL))
    place.upload(directory, "odds")
    apply([stand_in(run)])
    storage = "pvc://model-storage-pvc/odds"
    odds = [{"name": "PREDICT_PROBA", "value": "true"}]
    sklearn = {"modelFormat": {"name": "sklearn", "version": "1"}}
    for name, more in zip(SERVICES, ({}, {"runtime": NAME}, {"env": odds}), strict=True):
        place.apply(inference_service(name, storage, "--workers=1", **sklearn, **more))
    for name in SERVICES:
        place.wait_until_ready(name)
    yield place
    kubectl("delete", "clusterservingruntime", NAME, "--timeout=60s")


def test_services_move_to_bundleserver_and_back_unchanged(services):
    """Applied, the namespace's runtimes answer the same InferenceServices; deleted, KServe's do."""
    ours = kustomize(OVERLAYS / "replace-kserve")
    before = {name: services.service(name)["spec"] for name in SERVICES}
    stood = answers(services)

    services.apply(*ours)
    look_again(services, "replaced")
    replaced = wait_for(services, {"likely": MODEL.predict_proba(ROWS).tolist()})
    status = {name: services.service(name)["status"] for name in SERVICES}
    (pod,) = services.pods("likely")

    names = [found["metadata"]["name"] for found in ours]
    services.kubectl("delete", "servingruntime", *names, "--timeout=60s")
    look_again(services, "given-back")
    returned = wait_for(services, {name: ["kserve"] for name in SERVICES})

    labels = MODEL.predict(ROWS).tolist()
    assert {name: ["kserve"] for name in SERVICES} == stood == returned
    assert (labels, labels) == (replaced["chosen"], replaced["named"])
    assert all(NAME == found["servingRuntimeName"] for found in status.values())
    assert "--first_load_failure=exit" in pod["spec"]["containers"][0]["args"]
    assert before == {name: services.service(name)["spec"] for name in SERVICES}


def answers(place) -> dict[str, object]:
    """Ask each service with V1; what does not answer yet is its status."""
    said = {name: place.predict(name, ROWS) for name in SERVICES}
    return {
        name: answer.json()["predictions"] if answer.status == 200 else answer.status
        for name, answer in said.items()
    }


def wait_for(place, expected: dict[str, object]) -> dict[str, object]:
    """Wait until services answer so, and no other one as before; return all answers."""

    def found() -> dict[str, object]:
        said = answers(place)
        moved = len({answer == ["kserve"] for answer in said.values()}) == 1
        is_so = all(said[name] == answer for name, answer in expected.items())
        return said if is_so and moved and all(type(a) is list for a in said.values()) else {}

    return eventually(found, f"the services answer {expected}")


def look_again(place, word: str) -> None:
    """Let KServe look at the services again, as the README says."""
    place.kubectl(
        "annotate", "inferenceservice", *SERVICES, f"bundleserver/runtimes={word}", "--overwrite"
    )
