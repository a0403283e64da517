"""What the end-to-end tests share: a volume as ADR-031 leaves it, and one server of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.end_to_end import adr, dropins
from tests.end_to_end.processes import ServerProcess, running
from tests.end_to_end.published import Detector, save_all


@dataclass(frozen=True)
class Volume:
    """Where the directories lie, and the objects that they were written from."""

    root: Path
    systems: adr.Systems


@pytest.fixture(scope="session")
def volume(tmp_path_factory) -> Volume:
    """Write ADR-031's directories once."""
    root = tmp_path_factory.mktemp("models")
    dropins.write_dropins(root)
    return Volume(root, adr.write_volume(root))


@pytest.fixture(scope="session")
def volume_server(volume) -> Iterator[ServerProcess]:
    """Serve the whole volume in one process."""
    with running(volume.root) as server:
        for model in sorted(path.name for path in volume.root.iterdir()):
            if model != "anomaly-detector":
                server.wait_until_ready(model)
        yield server


@dataclass(frozen=True)
class Published:
    """Where the store is, and the versions of its detector."""

    root: Path
    detectors: dict[str, Detector]


@pytest.fixture(scope="session")
def published(tmp_path_factory) -> Published:
    """Save bundles with a manifest once."""
    root = tmp_path_factory.mktemp("store")
    return Published(root, save_all(root))


@pytest.fixture(scope="session")
def store_server(published) -> Iterator[ServerProcess]:
    """Serve the store, all versions of every model, in one process."""
    limits = {"max_request_bytes": 1_000_000, "grpc_max_receive_message_length": 1_000_000}
    with running(published.root, version_policy="all", admin="open", **limits) as server:
        server.wait_until_ready("detector", "v1")
        server.wait_until_ready("detector", "v2")
        server.wait_until_ready("sentiment")
        yield server
