"""A server that starts before its files are there."""

from __future__ import annotations

import shutil

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.end_to_end.adr import ROW
from tests.end_to_end.calls import ask_grpc, v2_input
from tests.end_to_end.processes import running

X = v2_input("x", "FP64", [1, 3], ROW)


def assert_alive_and_not_ready(server, model, says):
    """Everything that asks is told why, and health says that the process lives."""
    reason = server.wait_for_reason(model, says)
    answers = [
        server.predict(model, {"instances": ROW}),
        server.infer(model, X),
        server.get(f"/v2/models/{model}/ready"),
        server.get("/v2/health/ready"),
    ]
    said = ask_grpc(server.grpc, model, X)

    assert 200 == server.get("/v2/health/live").status_code
    assert [503] * 4 == [answer.status_code for answer in answers]
    assert all(reason in answer.json()["error"] for answer in answers)
    assert ("UNAVAILABLE", reason) == (said.code, said.details)
    assert health_pb2.HealthCheckResponse.NOT_SERVING == grpc_health(server)


def grpc_health(server):
    """Ask the standard health service of gRPC."""
    with grpc.insecure_channel(server.grpc) as channel:
        request = health_pb2.HealthCheckRequest()
        return health_pb2_grpc.HealthStub(channel).Check(request, timeout=30).status


@pytest.mark.parametrize("exists", [False, True], ids=["missing", "empty"])
def test_a_directory_that_fills_later_is_served_then(volume, tmp_path, exists):
    """With nothing there the server lives, is not ready and says so; it is by itself when it is."""
    directory = tmp_path / "mnt" / "models"
    if exists:
        directory.mkdir(parents=True)
    with running(directory, "late") as server:
        why = f"model files in '{directory}'" if exists else f"waiting for '{directory}'"
        assert_alive_and_not_ready(server, "late", why)
        shutil.copytree(volume.root / "predictive-analytics", directory, dirs_exist_ok=True)
        server.wait_until_ready("late")

        answer = server.predict("late", {"instances": ROW}).json()
        assert {"predictions": volume.systems.label(ROW)} == answer
        assert 200 == server.get("/v2/health/ready").status_code
        assert health_pb2.HealthCheckResponse.SERVING == grpc_health(server)


def test_a_server_that_waits_says_for_what(tmp_path):
    """Whoever reads the log of a pod that is not ready sees which directory it looks at."""
    directory = tmp_path / "mnt"
    with running(directory) as server:
        said = server.get("/v2/health/ready").json()["error"]
        server.wait_for_line(f"there is no model in '{directory}' yet; waiting for one")

    assert f"the server is not ready: there is no model in '{directory}' yet" == said


def test_a_whole_volume_that_is_empty_is_not_ready(tmp_path):
    """Without a model's name an empty volume is no false ready."""
    with running(tmp_path) as server:
        answer = server.get("/v2/health/ready")

        assert 503 == answer.status_code
        assert "no model" in answer.json()["error"]
        assert {"models": []} == server.get("/v1/models").json()
        assert 200 == server.get("/v2/health/live").status_code
