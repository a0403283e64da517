"""The image and an MLflow registry: as the runtime for MLflow, and as KServe's init container."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

import httpx
import pytest

from bundleserver.sources.registry.client import RegistryClient
from bundleserver.sources.registry.uri import ModelUri
from bundleserver.store.pushing import push
from tests.end_to_end.processes import eventually
from tests.image.conftest import SLIM
from tests.image.containers import MODELS, PLATFORM, Container, run, running
from tests.kubernetes.documents import ROOT, read
from tests.kubernetes.kustomize import build_here
from tests.kubernetes.pods import rendered
from tests.mlflow_server import Proxy, make_bundle

NAME = "sums"
ANYBODY = 0o777
ROW = {"instances": [[1.0, 2.0]]}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    """Save a bundle that answers the sum of a row."""
    return make_bundle(tmp_path_factory.mktemp("bundles"), 1.0)


@pytest.fixture
def registry(proxy, bundle) -> Proxy:
    """Register the bundle as champion; the registry stands behind a proxy that can be cut off."""
    push(bundle, ModelUri(NAME, alias="champion"), RegistryClient())
    return proxy


@pytest.fixture
def shared(tmp_path) -> Path:
    """Make what an emptyDir, or a volume that the pod's user may write, is."""
    path = tmp_path / "volume"
    path.mkdir()
    path.chmod(ANYBODY)
    return path


def reaching(registry: Proxy) -> tuple[str, ...]:
    """Return the options of a container that sees this machine's addresses, and the registry."""
    return (*PLATFORM, "--network=host", f"--env=MLFLOW_TRACKING_URI={registry.uri}")


def address(container: Container) -> str:
    """Return where a container listens that has this machine's network."""
    found = eventually(
        lambda: re.search(r"REST on http://\S+:(\d+)", container.log), "the container listens"
    )
    return f"http://127.0.0.1:{found[1]}"


def answer(container: Container) -> list[float]:
    """Ask the model once it is ready."""
    base = address(container)
    eventually(
        lambda: httpx.get(f"{base}/v2/models/{NAME}/ready").status_code == 200, "it is ready"
    )
    asked = httpx.post(f"{base}/v1/models/{NAME}:predict", json=ROW).raise_for_status()
    return asked.json()["predictions"]


def test_kserves_init_container_fetches_what_the_server_then_serves(registry, shared):
    """The command of the ClusterStorageContainer fills the directory that a server opens."""
    (found,) = read(ROOT / "storage-container" / "clusterstoragecontainer.yaml")
    program, *words = found["spec"]["container"]["command"]

    options = (*reaching(registry), f"--volume={shared}:{MODELS}", f"--entrypoint={program}")
    run("--rm", *options, SLIM.name, *words, f"models:/{NAME}@champion", MODELS)

    with running(SLIM, shared, f"--model_name={NAME}") as container:
        container.wait_until_ready(NAME)
        assert (
            pytest.approx([3.0]) == container.predict(NAME, ROW["instances"]).json()["predictions"]
        )


def test_replicas_share_a_cache_that_outlives_the_registry(registry, shared):
    """The runtime for MLflow fills its cache, and a replica that starts later needs no MLflow."""
    (runtime,) = build_here(ROOT / "overlays" / "mlflow")
    (container,) = runtime["spec"]["containers"]
    flags = (*rendered(container, NAME)["args"], "--http_port=0", "--grpc_port=0")
    options = reaching(registry)
    with running(SLIM, shared, *flags, options=options, mode="rw") as first:
        assert pytest.approx([3.0]) == answer(first)
    registry.set("refuse")

    with running(SLIM, shared, *flags, options=options, mode="rw") as second:
        assert pytest.approx([3.0]) == answer(second)


def test_a_cache_that_cannot_be_written_is_named(registry, shared):
    """Where the volume is read-only the reason says so, and the server stays alive."""
    flags = (f"--model_uri=models:/{NAME}@champion", f"--cache_dir={MODELS}", "--http_port=0")
    with running(SLIM, shared, *flags, "--grpc_port=0", options=reaching(registry)) as container:
        base = address(container)

        reason = eventually(
            lambda: MODELS in (said := httpx.get(f"{base}/v2/models/{NAME}/ready").text) and said,
            "the reason names the cache",
        )

    assert os.strerror(errno.EROFS).lower() in reason.lower()
