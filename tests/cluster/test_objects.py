"""``s3://``: an object store in the cluster, fetched from by KServe's own storage initializer."""

from __future__ import annotations

import json

import pytest

from tests.cluster import settings
from tests.cluster.kubectl import Document, eventually, get, kubectl
from tests.cluster.models import ANY, bare, save
from tests.cluster.place import inference_service
from tests.cluster.services import SECURE, deployment, service_of

pytestmark = settings.needs_services

_INITIALIZER = """
import sys
from kserve_storage import Storage
for source, target in zip(sys.argv[1::2], sys.argv[2::2]):
    Storage.download(source, target)
"""

_KEYS = {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any"}

_PUT = """
import pathlib, sys, boto3
store = boto3.client("s3", endpoint_url=sys.argv[1], region_name="us-east-1",
                     aws_access_key_id="any", aws_secret_access_key="any")
store.create_bucket(Bucket="models")
for file in sorted(pathlib.Path(sys.argv[2]).rglob("*")):
    if file.is_file():
        store.upload_file(str(file), "models", str(file.relative_to(sys.argv[2])))
"""


@pytest.fixture(scope="module")
def initializer(place):
    """Give the cluster's storage container an image where it has none that can be pulled.

    Such a cluster's ``inferenceservice-config`` names no keys of S3's secrets either, so that the
    container has the credentials itself.
    """
    before = get("clusterstoragecontainer", "default")
    if not before["spec"]["container"]["image"].endswith(":none"):
        yield
        return
    command = ["python3", "-c", _INITIALIZER]
    values = {**_KEYS, "AWS_ENDPOINT_URL": _url(place), "AWS_DEFAULT_REGION": "us-east-1"}
    env = [{"name": name, "value": value} for name, value in values.items()]
    changed = {"command": command, "securityContext": SECURE, "env": env}
    _patch({"image": settings.SERVICES, **changed})
    yield
    _patch({"image": before["spec"]["container"]["image"], **dict.fromkeys(changed)})


@pytest.fixture(scope="module")
def store(place, initializer, tmp_path_factory):
    """Start an object store with one bundle, versions, bare files, and half an upload."""
    arguments = ["-m", "moto.server", "-H0.0.0.0", "-p9000"]
    place.apply(deployment("store", 9000, arguments, "/moto-api/"), service_of("store", 9000))
    root = tmp_path_factory.mktemp("models")
    save(root / "saved", "single", 11)
    (root / "saved/single/v1").rename(root / "single")
    save(root, "several", 21, 22)
    bare(root, "bare", 31)
    half = save(root, "half", 41) / "v1"
    (half / "model.joblib").unlink()
    place.upload(root, "objects")
    place.kubectl("rollout", "status", "deployment/store", "--timeout=200s")
    pod = deployment("put", 1, ["-c", _PUT, _url(place), "/mnt/models/objects"], "/")
    place.apply(_job(pod["spec"]["template"]["spec"]))
    place.run_job("put")
    place.apply(*_credentials(place))
    for name in ("single", "several", "bare", "half"):
        service = inference_service(name, f"s3://models/{name}")
        service["spec"]["predictor"]["serviceAccountName"] = "reader"
        place.apply(service)
    return place


@pytest.mark.parametrize(("name", "answer"), [("single", 11), ("several", 22), ("bare", 31)])
def test_what_an_object_store_has_is_served(store, name, answer):
    """One bundle, several versions and bare files are Ready from ``s3://``."""
    store.wait_until_ready(name)

    assert [answer] == store.predict(name, ANY).json()["predictions"]


def test_half_an_upload_is_never_ready(store):
    """A manifest whose files are not all there fails, and its reason names the file."""
    eventually(lambda: "model.joblib" in _told(store), "the reason names the file")


def test_a_running_pod_does_not_need_the_store_and_a_new_one_does(store):
    """With the store gone a container restarts from what was fetched; a new pod waits for it."""
    store.wait_until_ready("single")
    store.kubectl("scale", "deployment/store", "--replicas=0")
    store.kubectl("wait", "--for=delete", "pod", "--selector=app=store", "--timeout=100s")
    store.kubectl("exec", "deploy/single-predictor", "--", "sh", "-c", "kill 1")

    def restarted() -> bool:
        (pod,) = store.pods("single")
        (state,) = pod["status"]["containerStatuses"]
        return state["restartCount"] == 1 and state["ready"]

    eventually(restarted, "the container is ready again")
    assert [11] == store.predict("single", ANY).json()["predictions"]
    (pod,) = store.pods("bare")
    store.kubectl("delete", "pod", pod["metadata"]["name"])
    eventually(lambda: "storage-initializer" in _waiting(store), "the new pod waits for the store")
    store.kubectl("scale", "deployment/store", "--replicas=1")


def _patch(container: Document) -> None:
    patch = json.dumps({"spec": {"container": container}})
    kubectl("patch", "clusterstoragecontainer", "default", "--type=merge", f"--patch={patch}")


def _url(place) -> str:
    return f"http://store.{place.name}:9000"


def _job(pod: Document) -> Document:
    (container,) = pod["containers"]
    container.pop("readinessProbe")
    container["volumeMounts"] = [{"name": "models", "mountPath": "/mnt/models"}]
    claim = {"claimName": "model-storage-pvc"}
    pod.update(restartPolicy="Never", volumes=[{"name": "models", "persistentVolumeClaim": claim}])
    meta = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "put"}}
    return {**meta, "spec": {"backoffLimit": 0, "template": {"spec": pod}}}


def _credentials(place) -> list[Document]:
    """Return KServe's Secret and ServiceAccount for an ``s3://`` that is not Amazon's."""
    host = _url(place).removeprefix("http://")
    annotations = {"endpoint": host, "usehttps": "0", "region": "us-east-1", "verifyssl": "0"}
    named = {f"serving.kserve.io/s3-{key}": value for key, value in annotations.items()}
    secret = {"apiVersion": "v1", "kind": "Secret", "stringData": _KEYS}
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "reader"}}
    return [
        {**secret, "metadata": {"name": "store", "annotations": named}},
        {**account, "secrets": [{"name": "store"}]},
    ]


def _told(place) -> str:
    """Return what KServe says of the service, and what its pods say once they have begun."""
    states = [pod["status"].get("containerStatuses", [{}])[0] for pod in place.pods("half")]
    begun = any("running" in state.get("state", {}) for state in states)
    return json.dumps(place.service("half").get("status")) + (place.log("half") if begun else "")


def _waiting(place) -> str:
    """Return which init containers of the service's pods have not ended well."""
    states = [state for pod in place.pods("bare") for state in _init_states(pod)]
    return " ".join(state["name"] for state in states if not state["ready"])


def _init_states(pod: Document) -> list[Document]:
    return list(pod["status"].get("initContainerStatuses", ()))
