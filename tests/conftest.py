"""Fixtures that several packages of tests share."""

import pytest

from tests.mlflow_server import MlflowServer, Proxy


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory):
    """Run one MLflow server for the whole session."""
    server = MlflowServer(tmp_path_factory.mktemp("mlflow"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def registry(mlflow_server, monkeypatch):
    """Point this process at the MLflow server."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server.uri)
    return mlflow_server


@pytest.fixture
def proxy(mlflow_server, monkeypatch):
    """Point this process at a proxy before the MLflow server."""
    proxy = Proxy(mlflow_server.port)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", proxy.uri)
    yield proxy
    proxy.close()
