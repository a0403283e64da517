"""What happens to a service under load: no request is lost, and no answer is wrong.

The load is V1, V2 and gRPC at once (``loading.py``), from a pod, against the Service of two
replicas. Every request that does not end in an answer of success is lost, also one for which no
connection could be opened; every answer tells the request and the version that it names. What a
killed process had in flight is excused, one request of each connection to it, and so are the new
connections that its Service sends to its port until Kubernetes knows that nobody listens there.

``CLUSTER_REQUESTS`` is how many requests each protocol makes at least.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

from bundleserver import BundleStore
from tests.cluster import settings
from tests.cluster.kubectl import eventually
from tests.cluster.load import PROTOCOLS, Load, hold
from tests.cluster.place import CLAIM, inference_service
from tests.cluster.slow_volume import slow_view, why_not

NAME = "loaded"
DIRECTORY = f"/mnt/models/{NAME}"
REQUESTS = int(os.environ.get("CLUSTER_REQUESTS", "2500"))
EVENTS = 11
EACH = -(-REQUESTS // EVENTS)
"""Requests of each protocol that an event has at least."""

CONNECTIONS = int(os.environ.get("CLUSTER_CONNECTIONS", "3"))
PAUSE_SECONDS = float(os.environ.get("CLUSTER_PAUSE_SECONDS", "0.015"))
KNOWN_WITHIN_SECONDS = 3.0
"""After a container has ended, until its Service sends nobody there, and gRPC has tried again."""

SLOW_FOR_SECONDS, SLOW_SECONDS = (20.0 if REQUESTS >= 20_000 else 8.0), 2.0

KILL = """
import os, pathlib, signal
for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
    if b"--model_dir" in path.read_bytes() and int(path.parent.name) != os.getpid():
        os.kill(int(path.parent.name), signal.SIGKILL)
"""


@pytest.fixture(scope="module")
def volume(place):
    """Make the volume that the server has: a slow view of the one that is uploaded to."""
    place.wait_for_pod("model-upload")
    if why_not() or not settings.VOLUMES:
        yield CLAIM, None
        return
    place.claim("slow")
    raw, view = (Path(settings.VOLUMES, f"{place.name}-{name}") for name in (CLAIM, "slow"))
    with slow_view(raw, view) as slow:
        try:
            yield "slow", slow
        finally:
            slow.be_slow(0)
            place.kubectl("delete", "inferenceservice", NAME, "--ignore-not-found")
            eventually(lambda: not _pods(place), "the pods are gone")


@pytest.fixture(scope="module")
def load(request, place, volume, tmp_path_factory):
    """Serve one version with two replicas, and ask it until the last test."""
    root = tmp_path_factory.mktemp("models")
    for number in (1, 2, 3, 4):
        _save(root, number)
    for number in (2, 3, 4):
        place.upload(root / NAME / f"v{number}", f"incoming/v{number}")
    place.upload(root / NAME / "v1", f"{NAME}/v1")
    service = inference_service(NAME, f"pvc://{volume[0]}/{NAME}", *ARGS)
    service["metadata"]["annotations"] = {"serving.kserve.io/autoscalerClass": "none"}
    # So that its process can be killed from beside it.
    service["spec"]["predictor"].update(minReplicas=2, shareProcessNamespace=True)
    place.apply(service)
    place.wait_until_ready(NAME)
    _settled(place, 2)
    load = Load(place, NAME, CONNECTIONS, PAUSE_SECONDS)
    try:
        load.go_on("before", 1)
        yield load
    finally:
        load.close()
        with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
            sys.stdout.write(f"\n{load.table()}\n")


ARGS = ("--version_policy=latest:2", "--poll_interval_seconds=1")


def test_a_rolling_update_loses_nothing(place, load):
    """A changed environment of the InferenceService replaces both pods."""
    before = _names(place)
    with load.during("rolling update", EACH):
        _change(place, model={"env": [{"name": "ROUND", "value": "2"}]})
        _settled(place, 2, without=before)

    assert [] == load.failures("rolling update")


def test_replicas_come_and_go_without_a_loss(place, load):
    """One replica, three, and one again."""
    with load.during("scale 1 to 3 to 1", EACH):
        for replicas in (1, 3, 1):
            _change(place, minReplicas=replicas)
            _settled(place, replicas)
    with load.during("scale 1 to 2", 1):
        _change(place, minReplicas=2)
        _settled(place, 2)

    assert [] == load.failures("scale 1 to 3 to 1") + load.failures("scale 1 to 2")


def test_a_deleted_pod_loses_nothing(place, load):
    """``kubectl delete pod`` ends it as a drained node does."""
    gone = _names(place)[0]
    with load.during("deleted pod", EACH):
        place.kubectl("delete", "pod", gone, "--wait=false")
        _settled(place, 2, without=[gone])

    assert [] == load.failures("deleted pod")


def test_a_killed_server_loses_what_it_had_in_flight(place, load):
    """``kill -9`` loses a request of each connection to it, and its pod is started again."""
    # The older one has the connections that are kept.
    pod = min(_pods(place), key=lambda pod: pod["metadata"]["creationTimestamp"])["metadata"][
        "name"
    ]
    with load.during("kill -9", 1):
        with contextlib.suppress(AssertionError):  # it ends with the container
            place.kubectl("exec", pod, "--", "python3", "-c", KILL)
        eventually(lambda: _restarts(place, pod) == 1, "the container is started again")
        # Who was refused meanwhile tries again: KServe's Service knows of it, and gRPC's back-off.
        hold(KNOWN_WITHIN_SECONDS)
    with load.during("after kill -9", EACH):
        _settled(place, 2)
    failures = load.failures("kill -9")
    in_flight = [failure["client"] for failure in failures if failure["sent"]]

    assert in_flight
    assert len(in_flight) == len(set(in_flight))
    assert {"failed"} >= {failure["kind"] for failure in failures}
    assert [] == load.failures("after kill -9")


def test_a_published_version_takes_over_without_a_loss(place, load):
    """``bundleserver publish`` on the volume; both replicas follow at a poll of their own."""
    with load.during("publish", EACH):
        place.bundleserver("publish", "/mnt/models/incoming/v2", DIRECTORY)
        load.wait_for_versions("v2")

    assert [] == load.failures("publish")


def test_a_rollback_loses_nothing(place, load):
    """``bundleserver rollback``, and forward again."""
    with load.during("rollback", EACH):
        place.bundleserver("rollback", DIRECTORY)
        load.wait_for_versions("v1")
        place.bundleserver("promote", DIRECTORY, "latest")
        load.wait_for_versions("v2")

    assert [] == load.failures("rollback")


def test_a_split_is_promoted_and_taken_back_without_a_loss(place, load):
    """``split``, ``promote`` of the canary, and the default that was there before."""
    with load.during("split", EACH):
        place.bundleserver("split", DIRECTORY, "v1=70", "v2=30")
        load.wait_for_versions("v1", "v2")
        place.bundleserver("promote", DIRECTORY, "v2")
        load.wait_for_versions("v2")
        place.bundleserver("promote", DIRECTORY, "v1")
        load.wait_for_versions("v1")

    assert [] == load.failures("split")


def test_a_canary_is_promoted_and_another_demoted_without_a_loss(place, load):
    """Step by step by itself while its rules hold; back at once when one does not."""
    steps = {"steps": [50, 100], "interval_seconds": 1, "min_requests": 5}
    with load.during("canary", EACH):
        first = {"version": "v2", **steps, "max_error_rate": 0.05}
        _serve(place, {"default": "v1", "canary": first})
        load.wait_for_versions("v2")
        # All of its answers are other ones than the default's.
        second = {"version": "v3", **steps, "min_agreement": 0.99}
        _serve(place, {"default": "v2", "shadow": ["v3"], "canary": second})
        place.bundleserver("publish", "/mnt/models/incoming/v3", DIRECTORY)
        eventually(lambda: load.answered_by("canary", "v3"), "the canary has answered")
        load.wait_for_versions("v2")
        assert "v3: canary demoted" in place.log(NAME)

    assert [] == load.failures("canary")


def test_a_slow_volume_slows_no_answer(place, load, volume):
    """What is loaded answers from memory; a version that comes meanwhile is served at last."""
    _, slow = volume
    if slow is None:
        pytest.skip(why_not() or "the volume is not a directory of this machine")
    with load.during("slow volume", EACH):
        place.execute("rm", f"{DIRECTORY}/serving.json")
        load.wait_for_versions("v3")
        slow.be_slow(SLOW_SECONDS)
        place.bundleserver("publish", "/mnt/models/incoming/v4", DIRECTORY)
        before = slow.operations()
        hold(SLOW_FOR_SECONDS)
        assert slow.operations() > before
        slow.be_slow(0)
        load.wait_for_versions("v4")
    slowest = [load.events["slow volume"]["protocols"][name]["slowest"] for name in PROTOCOLS]

    assert [] == load.failures("slow volume")
    assert SLOW_SECONDS > max(slowest)
    assert {0, 1} >= {_restarts(place, pod) for pod in _names(place)}


def test_renewed_connections_lose_nothing(place, load):
    """``--grpc_max_connection_age_seconds=1``: while pods come, while they go, and in between."""
    before = _names(place)
    with load.during("rolling update to age 1 s", EACH):
        _change(place, model={"args": [*ARGS, "--grpc_max_connection_age_seconds=1"]})
        _settled(place, 2, without=before)
    gone = _names(place)[0]
    with load.during("deleted pod at age 1 s", EACH):
        place.kubectl("delete", "pod", gone, "--wait=false")
        _settled(place, 2, without=[gone])

    assert [] == load.failures("rolling update to age 1 s")
    assert [] == load.failures("deleted pod at age 1 s")


def test_every_protocol_was_asked_enough(load):
    """Each has had as many answers as ``CLUSTER_REQUESTS`` says, and none of them was wrong."""
    assert [] == [name for name in PROTOCOLS if load.total("answered", name) < REQUESTS]
    assert [0, 0, 0] == [load.total("wrong", name) for name in PROTOCOLS]


def _save(root: Path, number: int) -> None:
    """Save a version whose values tell it, and each row."""
    model = LinearRegression().fit(np.eye(2), [0.0, 0.0])
    model.coef_, model.intercept_ = np.array([1.0, 2.0]), 1000.0 * number
    BundleStore(root).save(NAME, model, examples=np.array([[1.0, 2.0], [3.0, 4.0]]))


def _serve(place, document) -> None:
    """Write ``serving.json`` whole."""
    there = f"{DIRECTORY}/serving.json"
    place.execute(
        "sh", "-c", f"cat > {there}.new && mv {there}.new {there}", given=json.dumps(document)
    )


def _change(place, *, model=None, **predictor) -> None:
    patch = {"spec": {"predictor": {**predictor, **({"model": model} if model else {})}}}
    patched = json.dumps(patch)
    place.kubectl("patch", "inferenceservice", NAME, "--type=merge", f"--patch={patched}")


def _pods(place):
    """Return all pods, also those on their way out."""
    return place.get("pods", f"--selector=serving.kserve.io/inferenceservice={NAME}")["items"]


def _names(place) -> list[str]:
    return sorted(pod["metadata"]["name"] for pod in _pods(place))


def _restarts(place, pod: str) -> int:
    (state,) = place.get("pod", pod)["status"]["containerStatuses"]
    return state["restartCount"]


def _settled(place, replicas: int, without=()) -> None:
    """Wait until there are so many pods, each ready, and none of those that were."""

    def is_settled() -> bool:
        pods = _pods(place)
        names = {pod["metadata"]["name"] for pod in pods}
        ready = [
            state["ready"] for pod in pods for state in pod["status"].get("containerStatuses", ())
        ]
        return [True] * replicas == ready and len(pods) == replicas and not names & set(without)

    eventually(is_settled, f"{replicas} pods are ready")
