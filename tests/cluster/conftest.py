"""What the tests on a real cluster share. ``make cluster-test`` starts one where none is named."""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cluster import settings
from tests.cluster.kubectl import Document, apply, get, kustomize
from tests.cluster.place import LABEL, Place, on_this_cluster, remove_all
from tests.kubernetes.documents import ROOT

VARIANTS = ("overlays/sklearn", "overlays/gpu", "overlays/mlflow", "overlays/hardened")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip everything where there is no cluster."""
    reason = _missing()
    for item in items:
        if reason and "tests/cluster/" in item.path.as_posix():
            item.add_marker(pytest.mark.skip(reason=reason))


def _missing() -> str:
    if not os.environ.get("KUBECONFIG"):
        return "KUBECONFIG names no cluster: run make cluster-test"
    if not shutil.which("kubectl"):
        return "kubectl is not there"
    if not settings.STORAGE_CLASS and not settings.VOLUMES:
        return "neither CLUSTER_STORAGE_CLASS nor CLUSTER_VOLUMES says where volumes come from"
    return ""


def pytest_configure(config: pytest.Config) -> None:
    """Name this run for all its processes; SIGTERM ends it as Ctrl-C does."""
    if not _is_worker(config):
        os.environ["CLUSTER_RUN"] = secrets.token_hex(4)
        signal.signal(signal.SIGTERM, lambda *_: pytest.exit("ended by SIGTERM", 143))


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove what this run made, also what a process of it that was ended has left."""
    if not _is_worker(config) and not _missing():
        remove_all(os.environ["CLUSTER_RUN"])


def _is_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


@pytest.fixture(scope="session")
def run() -> str:
    """Return the run's name, which is a label of all that it makes."""
    return os.environ["CLUSTER_RUN"]


@pytest.fixture(scope="session")
def install(run) -> Callable[..., None]:
    """Apply kustomizations of ``servingruntimes/`` cluster-wide, once in all processes."""
    lock = Path(tempfile.gettempdir(), f"bundleserver-cluster-{run}.lock")

    def installed(*directories: str) -> None:
        with lock.open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            for directory in directories:
                for document in kustomize(ROOT / directory):
                    _install(on_this_cluster(document), run)

    return installed


def _install(document: Document, run: str) -> None:
    """Apply an object unless this run has; refuse to overwrite one of somebody else's."""
    kind, name = document["kind"], document["metadata"]["name"]
    labels = document["metadata"].setdefault("labels", {})
    labels[LABEL] = run
    for found in get(kind)["items"]:
        if found["metadata"]["name"] == name:
            ours = found["metadata"].get("labels", {}).get(LABEL) == run
            assert ours, f"the cluster has a {kind} {name!r} that is not the tests': delete it"
            return
    apply([document])


@pytest.fixture(scope="session")
def runtimes(install) -> None:
    """Install mode Standard's runtime and every variant of it, as their README says."""
    install("overlays/standard", *VARIANTS)


@pytest.fixture(scope="module")
def place(request, run, runtimes) -> Iterator[Place]:
    """Make a namespace for a module of tests, and remove it with all that it holds."""
    topic = request.module.__name__.rpartition("test_")[2].replace("_", "-")
    # Short: a service's name and the namespace's are one label of a host name, of 63 characters.
    place = Place(f"bs-{run}-{topic}", run)
    try:
        place.make(enforce=getattr(request.module, "ENFORCE", "restricted"))
        yield place
    finally:
        place.remove()
