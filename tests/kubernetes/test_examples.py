"""The examples do what they say: volumes, names, rights, and Jobs that are really run."""

import re

import pytest

from bundleserver.sources.registry.uri import ModelUri
from bundleserver.store import BundleStore
from bundleserver.versions import Version
from bundleserver.versions.serving_config import ServingConfig
from tests.kubernetes.documents import (
    EXAMPLES,
    containers,
    example_files,
    examples,
    read,
)
from tests.kubernetes.jobs import run_job, write_model
from tests.kubernetes.pods import mode_of

# The directories of ADR-031 that hold one model each.
ADR_031 = {
    "predictive-analytics",
    "arima-predictor",
    "prophet-predictor",
    "lstm-predictor",
    "ensemble-predictor",
}
SERVICES = examples("InferenceService")
PODS = {job["metadata"]["name"]: job["spec"]["template"]["spec"] for job in examples("Job")} | {
    pod["metadata"]["name"]: pod["spec"] for pod in examples("Pod")
}
MODES = ("Standard", "Knative", None)

each_service = pytest.mark.parametrize(
    "service", SERVICES, ids=lambda found: found["metadata"]["name"]
)


def test_every_directory_of_the_adr_has_an_inference_service():
    """One InferenceService per directory, and both have one name."""
    services = read(EXAMPLES / "adr-031.yaml")

    assert ADR_031 == {service["metadata"]["name"] for service in services}
    for service in services:
        name = service["metadata"]["name"]
        uri = service["spec"]["predictor"]["model"]["storageUri"]
        assert f"pvc://model-storage-pvc/{name}" == uri


def test_every_example_has_a_name_of_its_own():
    """All examples may be applied side by side, and none takes another's place."""
    names = [
        (document["kind"], document["metadata"]["name"])
        for path in example_files()
        for document in read(path)
    ]

    assert sorted(set(names)) == sorted(names)


@each_service
def test_every_example_takes_its_model_from_a_volume_that_exists(service):
    """No storageUri would make it a multi-model service; no such claim, no pod."""
    claims = {claim["metadata"]["name"] for claim in examples("PersistentVolumeClaim")}

    uri = service["spec"]["predictor"]["model"]["storageUri"]
    found = re.fullmatch(r"pvc://([a-z0-9-]+)(/[\w./-]*\w)?", uri)

    assert found or ModelUri.parse(uri)
    assert not found or found[1] in claims


def test_many_pods_may_mount_every_volume():
    """Replicas run on several nodes while a notebook writes."""
    for claim in examples("PersistentVolumeClaim"):
        assert ["ReadWriteMany"] == claim["spec"]["accessModes"]


@each_service
def test_kserve_takes_the_name_and_the_mode(service):
    """A name is a DNS label that starts with a letter, the mode one of KServe's two."""
    assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", service["metadata"]["name"])
    assert mode_of(service) in MODES
    assert "name" not in service["spec"]["predictor"]["model"]


def test_the_graph_asks_services_that_exist():
    """Each step's service is one of the examples, and each node that is named is there."""
    names = {service["metadata"]["name"] for service in SERVICES}
    graphs = examples("InferenceGraph")

    assert graphs
    for graph in graphs:
        nodes = graph["spec"]["nodes"]
        assert "root" in nodes
        for step in (step for node in nodes.values() for step in node["steps"]):
            assert step.get("serviceName") in names or step.get("nodeName") in nodes


def test_nothing_asks_the_kubernetes_api():
    """No roles are needed, so none are given, and Jobs get no token."""
    kinds = {document["kind"] for path in example_files() for document in read(path)}

    assert set() == kinds & {
        "Role",
        "RoleBinding",
        "ClusterRole",
        "ClusterRoleBinding",
        "ServiceAccount",
    }
    for pod in PODS.values():
        assert False is pod["automountServiceAccountToken"]


@pytest.mark.parametrize("name", PODS)
def test_pods_run_in_a_restricted_namespace(name):
    """What works on the volume needs no more rights than a server, and mounts what it names."""
    pod = PODS[name]

    assert pod["securityContext"]["runAsNonRoot"]
    assert "runAsUser" not in pod["securityContext"]
    for container in containers(pod):
        assert False is container["securityContext"]["allowPrivilegeEscalation"]
        assert ["ALL"] == container["securityContext"]["capabilities"]["drop"]
        assert "/mnt/models" in {mount["mountPath"] for mount in container["volumeMounts"]}


def test_the_publishing_job_publishes_the_next_version(tmp_path):
    """Each run of the Job's own command makes one version more of what lies in ``incoming``."""
    (tmp_path / "incoming").mkdir()
    write_model(tmp_path / "incoming" / "predictive-analytics")

    run_job("publish-predictive-analytics", tmp_path)
    run_job("publish-predictive-analytics", tmp_path)

    published = {
        path.name for path in (tmp_path / "predictive-analytics").iterdir() if path.is_dir()
    }
    assert {"v1", "v2"} == published


def test_jobs_run_the_images_own_program():
    """A Job's arguments are a command of the server's, not a program of its own."""
    for job in examples("Job"):
        for container in containers(job):
            assert "command" not in container
            assert container["args"][0] in ("publish", "promote", "split")


def test_the_splitting_job_writes_the_serving_json_that_it_shows(tmp_path):
    """The comment over the Job is the file that its commands write."""
    write_model(tmp_path / "bundle")
    store = BundleStore(tmp_path)
    for _ in range(2):
        store.publish(tmp_path / "bundle", "fraud")
    text = (EXAMPLES / "versions.yaml").read_text("utf-8")
    (shown,) = re.findall(r"^#\s+(\{.*\})$", text, re.MULTILINE)

    run_job("split-fraud", tmp_path)

    written = (tmp_path / "fraud" / "serving.json").read_bytes()
    assert ServingConfig.from_json(shown, "comment") == ServingConfig.from_json(written, "file")


def test_the_versions_that_are_split_are_the_versions_that_are_loaded(tmp_path):
    """The policy of the example wants both versions that the Job sends requests to."""
    (service,) = (found for found in SERVICES if found["metadata"]["name"] == "fraud")
    (argument,) = service["spec"]["predictor"]["model"]["args"]

    assert "--version_policy=latest:2" == argument
    assert Version.parse("v1") < Version.parse("v2")
