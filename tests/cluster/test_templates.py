"""OpenShift's side: its Template applied, any user ID of group 0, and a namespace's runtime."""

from __future__ import annotations

import json

import pytest

from tests.cluster.kubectl import kustomize
from tests.cluster.models import ANY, save
from tests.cluster.place import inference_service
from tests.kubernetes.documents import OVERLAYS

ANY_USER = 1000730000
OWNER = 1000720000


@pytest.fixture(scope="module")
def project(place, tmp_path_factory):
    """Process the Template without parameters, as ``oc process`` does, and apply its objects."""
    (template,) = kustomize(OVERLAYS / "openshift-ai")
    assert not template.get("parameters")
    for document in template["objects"]:
        document["metadata"]["name"] += "-openshift"
        place.apply(document)
    root = tmp_path_factory.mktemp("models")
    save(root, "dashboard", 11)
    place.upload(root / "dashboard", "dashboard")
    return place


def test_the_templates_runtime_serves(project):
    """What the Template stamps into a project is a runtime that an InferenceService may name."""
    storage = "pvc://model-storage-pvc/dashboard"
    project.apply(inference_service("dashboard", storage, runtime="bundleserver-openshift"))
    project.wait_until_ready("dashboard")
    runtime = project.get("servingruntime", "bundleserver-openshift")

    assert [11] == project.predict("dashboard", ANY).json()["predictions"]
    assert "true" == runtime["metadata"]["labels"]["opendatahub.io/dashboard"]
    assert "openshift.io/display-name" in runtime["metadata"]["annotations"]
    assert "bundleserver-openshift" == project.service("dashboard")["status"]["servingRuntimeName"]


def test_a_namespaces_runtime_goes_before_the_clusters(place, tmp_path):
    """With ``overlays/namespaced`` the format finds the namespace's runtime, not the cluster's."""
    (runtime,) = kustomize(OVERLAYS / "namespaced")
    place.apply(runtime)
    save(tmp_path, "near", 21)
    place.upload(tmp_path / "near", "near")
    place.apply(inference_service("near", "pvc://model-storage-pvc/near"))
    place.wait_until_ready("near")
    status = place.service("near")["status"]

    assert "bundleserver" == status["servingRuntimeName"]
    assert "clusterServingRuntimeName" not in status


def test_any_user_of_group_0_serves_and_publishes_on_anothers_volume(place, tmp_path):
    """A user ID that the platform chose reads what another one wrote, and publishes beside it."""
    place.claim("others", 0o775, (OWNER, 0))
    save(tmp_path, "foreign", 31)
    save(tmp_path, "foreign", 32)
    user = {"runAsUser": ANY_USER, "runAsGroup": 0}

    def as_user(documents) -> None:
        (pod,) = documents
        pod["metadata"]["name"] = "model-upload-any"
        pod["spec"]["securityContext"].update(user)
        pod["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"] = "others"

    place.apply_example("upload", as_user)
    place.wait_for_pod("model-upload-any")
    for version in ("v1", "v2"):
        place.kubectl("cp", tmp_path / "foreign" / version, f"model-upload-any:/tmp/{version}")
    execute = ("exec", "model-upload-any", "--")
    publish = (*execute, "bundleserver", "publish")
    place.kubectl(*publish, "/tmp/v1", "/mnt/models/foreign")  # noqa: S108
    service = inference_service("foreign", "pvc://others/foreign")
    service["spec"]["predictor"]["securityContext"] = {**user, "runAsUser": ANY_USER + 1}
    place.apply(service)
    place.wait_until_ready("foreign")
    place.kubectl(*publish, "/tmp/v2", "/mnt/models/foreign")  # noqa: S108
    place.wait_for_version("foreign", "v2", ANY)
    listed = place.kubectl(*execute, "stat", "-c", "%u:%g", "/mnt/models", "/mnt/models/foreign/v2")

    assert [f"{OWNER}:0", f"{ANY_USER}:0"] == listed.split()
    assert [32] == place.predict("foreign", ANY).json()["predictions"]
    assert f"uid={ANY_USER + 1}" in place.kubectl("exec", "deploy/foreign-predictor", "--", "id")
    assert json.dumps(place.pods("foreign")[0]["spec"]["securityContext"]).count("runAsUser") == 1
