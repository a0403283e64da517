"""What the tests on a real cluster share. ``make cluster-test`` starts one where none is named."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
from collections.abc import Callable, Iterator

import pytest

from tests.cluster import settings
from tests.cluster.kubectl import apply, get, kubectl, kustomize
from tests.cluster.place import Place, on_this_cluster
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


@pytest.fixture(scope="session")
def run() -> Iterator[str]:
    """Name this run; SIGTERM ends it as Ctrl-C does, with everything removed."""
    before = signal.signal(signal.SIGTERM, lambda *_: pytest.exit("ended by SIGTERM", 143))
    yield secrets.token_hex(4)
    signal.signal(signal.SIGTERM, before)


@pytest.fixture(scope="session")
def install() -> Iterator[Callable[..., None]]:
    """Apply kustomizations of ``servingruntimes/`` cluster-wide; remove them at the end."""
    made: list[tuple[str, str]] = []

    def installed(*directories: str) -> None:
        for directory in directories:
            for document in kustomize(ROOT / directory):
                found = document["kind"], document["metadata"]["name"]
                _refuse_to_overwrite(*found, made)
                made.append(found)
                apply([on_this_cluster(document)])

    yield installed
    for kind, name in made:
        kubectl("delete", kind, name, "--ignore-not-found", "--timeout=60s")


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


def _refuse_to_overwrite(kind: str, name: str, made: list[tuple[str, str]]) -> None:
    names = [found["metadata"]["name"] for found in get(kind)["items"]]
    theirs = name in names and (kind, name) not in made
    assert not theirs, f"the cluster has a {kind} {name!r} that is not the tests': delete it"
