"""A volume's way: uploaded, served, published anew by a Job, rolled back, split."""

from __future__ import annotations

import json

import pytest

from tests.cluster.kubectl import condition, eventually, get
from tests.cluster.models import ANY, bare, save
from tests.cluster.place import gateway, inference_service

BROUGHT = "/tmp/v1"  # noqa: S108  # in the pod


@pytest.fixture(scope="module")
def served(place, tmp_path_factory):
    """Serve what ``examples/upload.yaml`` says how to bring in: one version of a model."""
    root = tmp_path_factory.mktemp("models")
    place.wait_for_pod("model-upload")
    directory = save(root, "fraud", 11)
    place.kubectl("cp", directory / "v1", f"model-upload:{BROUGHT}")
    place.bundleserver("publish", BROUGHT, "/mnt/models/fraud")
    place.apply(
        inference_service("fraud", "pvc://model-storage-pvc/fraud", "--version_policy=latest:2")
    )
    place.wait_until_ready("fraud")
    return place


def test_an_uploaded_version_is_served(served):
    """What was copied into the upload pod and published there answers with its version."""
    answer = served.predict("fraud", ANY)

    assert (200, "v1", {"predictions": [11]}) == (answer.status, answer.version, answer.json())


def test_kserve_picks_the_runtime_by_the_format(served):
    """The format ``bundle`` without a runtime finds the ClusterServingRuntime bundleserver."""
    status = served.service("fraud")["status"]

    assert "bundleserver" == status["clusterServingRuntimeName"]
    assert "Loaded" == status["modelStatus"]["states"]["activeModelState"]


def test_a_pod_holds_in_a_restricted_namespace(served):
    """Our pods are admitted where the namespace enforces ``restricted``, and no pod restarts."""
    (pod,) = served.pods("fraud")
    (state,) = pod["status"]["containerStatuses"]

    assert (0, True) == (state["restartCount"], state["ready"])


def test_rest_and_grpc_have_ports_of_the_service(served):
    """``overlays/standard`` names both ports, so that the Service has REST at 80 and gRPC."""
    ports = served.get("service", "fraud-predictor")["spec"]["ports"]

    assert {("http", 80, 8080), ("grpc", 8081, 8081)} == {
        (port["name"], port["port"], port["targetPort"]) for port in ports
    }


def test_versions_are_split_as_the_job_says(served, tmp_path):
    """The Job of ``examples/versions.yaml`` gives v1 nine requests of ten, and v2 the rest."""
    save(tmp_path, "fraud", 11, 12)
    served.upload(tmp_path / "fraud" / "v2", "incoming/fraud-v2")
    served.bundleserver("publish", "/mnt/models/incoming/fraud-v2", "/mnt/models/fraud")
    served.wait_for_version("fraud", "v2", ANY)
    served.apply_example("versions", _only("Job"))
    served.run_job("split-fraud")
    served.wait_for_version("fraud", "v1", ANY)

    one = served.request("fraud-predictor", "/v1/models/fraud:predict", {"instances": ANY})
    answers = served.ask_all(*[one] * 400, threads=4)
    named = served.ask(
        "fraud-predictor", "/v1/models/fraud/versions/canary:predict", {"instances": ANY}
    )

    assert {("v1", 11), ("v2", 12)} == {(a.version, a.json()["predictions"][0]) for a in answers}
    assert 15 <= sum(answer.version == "v2" for answer in answers) <= 75
    assert "v2" == named.version


def test_a_rollback_reaches_the_pod(served):
    """``bundleserver rollback`` on the volume is followed without a restart, and promote too."""
    served.execute("rm", "/mnt/models/fraud/serving.json")
    served.wait_for_version("fraud", "v2", ANY)
    served.bundleserver("rollback", "/mnt/models/fraud")
    served.wait_for_version("fraud", "v1", ANY)
    served.bundleserver("promote", "/mnt/models/fraud", "latest")
    served.wait_for_version("fraud", "v2", ANY)

    assert [0] == [
        state["restartCount"]
        for pod in served.pods("fraud")
        for state in pod["status"]["containerStatuses"]
    ]


def test_the_publishing_job_publishes_what_loads(place, tmp_path):
    """The Job of ``examples/publish-job.yaml`` makes the next version of bare files."""
    bare(tmp_path, "predictive-analytics", 21)
    place.upload(tmp_path / "predictive-analytics", "predictive-analytics")
    place.apply_example("adr-031", _only_named("predictive-analytics"))
    place.wait_until_ready("predictive-analytics")
    bare(tmp_path / "next", "predictive-analytics", 22)
    place.upload(tmp_path / "next/predictive-analytics", "incoming/predictive-analytics")
    before = place.predict("predictive-analytics", ANY)

    place.apply_example("publish-job")
    log = place.run_job("publish-predictive-analytics")
    said = json.loads(log[log.index("{\n") :])

    def is_new() -> bool:
        return [22] == place.predict("predictive-analytics", ANY).json()["predictions"]

    eventually(is_new, "the published version answers")
    assert [21] == before.json()["predictions"]
    assert said["version"] == place.predict("predictive-analytics", ANY).version


def test_a_directory_of_kserves_sklearn_server_is_taken_over(place, tmp_path):
    """``examples/explicit-format.yaml`` serves sklearn's format for naming the runtime."""
    bare(tmp_path, "credit-score", 31, "model.joblib")
    place.upload(tmp_path / "credit-score", "credit-score")
    place.apply_example("explicit-format")
    place.wait_until_ready("credit-score")
    tensor = {"name": "any", "datatype": "FP64", "shape": [1, 2], "data": ANY[0]}

    answer = place.ask(
        "credit-score-predictor", "/v2/models/credit-score/infer", {"inputs": [tensor]}
    )

    assert [31] == answer.json()["outputs"][0]["data"]


def test_the_slim_image_serves_by_its_name(place, tmp_path):
    """``runtime: bundleserver-sklearn`` is the slim image of ``overlays/sklearn``."""
    save(tmp_path, "slim", 41)
    place.upload(tmp_path / "slim", "slim")
    place.apply(
        inference_service("slim", "pvc://model-storage-pvc/slim", runtime="bundleserver-sklearn")
    )
    place.wait_until_ready("slim")

    (pod,) = place.pods("slim")

    assert [41] == place.predict("slim", ANY).json()["predictions"]
    assert "bundleserver-sklearn" in pod["spec"]["containers"][0]["image"]


def test_the_gateway_has_rest_and_grpc_at_one_address(place, tmp_path):
    """``examples/grpc.yaml``: the host name of ``status.url`` answers both, in mode Standard."""
    address = gateway()
    save(tmp_path, "pricing", 51)
    place.upload(tmp_path / "pricing", "pricing")
    place.apply_example("grpc", _only_named("pricing"))
    place.wait_until_ready("pricing")
    host = place.service("pricing")["status"]["url"].removeprefix("http://")

    def routed() -> bool:
        return place.ask(f"http://{address}", "/v2/models/pricing/ready", host=host).status == 200

    eventually(routed, "the gateway routes REST")

    assert 51 == place.ask_grpc(f"{address}:80", "pricing", host)


def test_another_version_of_the_format_finds_no_runtime(place):
    """``1.0`` is not ``"1"``: KServe says that no runtime supports it."""
    service = inference_service("odd", "pvc://model-storage-pvc/fraud")
    service["spec"]["predictor"]["model"]["modelFormat"]["version"] = "1.0"
    place.apply(service)

    def told() -> str:
        return json.dumps(place.service("odd").get("status", {}))

    eventually(
        lambda: "No runtime found to support specified framework" in told(), "KServe says so"
    )
    assert "True" != condition(place.service("odd"), "Ready").get("status")


def test_the_gpu_variant_waits_for_a_gpu(place):
    """``overlays/gpu`` asks for one GPU: where there is none the scheduler says so."""
    if any("nvidia.com/gpu" in node["status"]["allocatable"] for node in get("nodes")["items"]):
        pytest.skip("this cluster has a GPU")
    place.apply(
        inference_service("gpu", "pvc://model-storage-pvc/fraud", runtime="bundleserver-gpu")
    )

    def reason() -> str:
        return "".join(
            condition(pod, "PodScheduled").get("message", "") for pod in place.pods("gpu")
        )

    eventually(lambda: "Insufficient nvidia.com/gpu" in reason(), "the scheduler says so")
    place.kubectl("delete", "inferenceservice", "gpu")


def _only(kind: str):
    def edit(documents) -> None:
        documents[:] = [document for document in documents if document["kind"] == kind]

    return edit


def _only_named(name: str):
    def edit(documents) -> None:
        documents[:] = [each for each in documents if each["metadata"]["name"] == name]

    return edit
