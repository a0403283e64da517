"""Small pods: a part of a CPU and half a GiB, as KServe's own end-to-end tests give them."""

from __future__ import annotations

import re

import pytest

from tests.cluster.kubectl import eventually
from tests.cluster.models import save, save_linear
from tests.cluster.place import inference_service
from tests.cluster.pods import pod_of

ROWS = [[0.1, 0.2]]
KSERVE_FLAGS = ("--workers", "2", "--max_threads=4", "--nthread", "2", "--enable_docs_url=false")


@pytest.fixture(scope="module")
def small(place, tmp_path_factory):
    """Start both pods at once, since they take their time."""
    root = tmp_path_factory.mktemp("models")
    save(root, "shared", 41)
    place.upload(root / "shared", "shared")
    place.upload(save_linear(root / "linear"), "linear")
    place.apply(pod_of("sklearn", "tenth", "linear", cpu="100m", memory="512Mi"))
    resources = {
        "requests": {"cpu": "50m", "memory": "128Mi"},
        "limits": {"cpu": "500m", "memory": "512Mi"},
    }
    service = inference_service(
        "shared",
        "pvc://model-storage-pvc/shared",
        *KSERVE_FLAGS,
        runtime="bundleserver-sklearn",
        resources=resources,
    )
    place.apply(service)
    return place


def test_worker_processes_share_a_small_pod(small):
    """``--workers 2`` with KServe's flags: both protocols answer, a killed process is replaced."""
    small.wait_until_ready("shared")
    (pod,) = small.pods("shared")
    name = pod["metadata"]["name"]
    tensor = {"name": "any", "datatype": "FP64", "shape": [1, 2], "data": ROWS[0]}
    answers = small.ask_all(
        small.request("shared-predictor", "/v1/models/shared:predict", {"instances": ROWS}),
        small.request("shared-predictor", "/v2/models/shared/infer", {"inputs": [tensor]}),
    )
    by_grpc = small.ask_grpc(f"{pod['status']['podIP']}:8081", "shared")
    (number,) = re.findall(r"worker process 2 started with pid (\d+)", small.log("shared"))
    small.kubectl("exec", name, "--", "sh", "-c", f"kill -9 {number}")

    eventually(lambda: small.log("shared").count("listens: 2 of 2") > 1, "another one listens")
    after = small.predict("shared", ROWS)

    assert [[41], [41]] == [
        answers[0].json()["predictions"],
        answers[1].json()["outputs"][0]["data"],
    ]
    assert (41, [41]) == (by_grpc, after.json()["predictions"])
    assert "hangs" not in small.log("shared")
    assert [0] == [
        state["restartCount"]
        for it in small.pods("shared")
        for state in it["status"]["containerStatuses"]
    ]


def test_a_tenth_of_a_cpu_serves_two_models(small):
    """With 100m and 512Mi the pod is Ready before its probes lose patience, and computes alone."""
    small.wait_for_pod("tenth")
    pod = small.get("pod", "tenth")
    address = f"http://{pod['status']['podIP']}:8080"
    answers = small.ask_all(
        small.request(address, "/v1/models/sums:predict", {"instances": ROWS}),
        small.request(address, "/v1/models/signs:predict", {"instances": ROWS}),
    )
    threads = small.kubectl("exec", "tenth", "--", "python3", "-c", _THREADS)

    assert [0] == [state["restartCount"] for state in pod["status"]["containerStatuses"]]
    assert pytest.approx([0.3]) == answers[0].json()["predictions"]
    assert [0] == answers[1].json()["predictions"]
    assert "0.1 1" == threads.strip()


_THREADS = """
from bundleserver.serving.cpus import cpu_limit, cpu_share
print(cpu_share(), cpu_limit())
"""
