"""What the image's tests share. ``make image-test`` builds the images and says where they are."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

import bundleserver
from bundleserver import BundleStore
from tests.end_to_end import adr
from tests.end_to_end.published import Detector
from tests.image.containers import Container, Image, running

FULL = Image(f"bundleserver:{bundleserver.__version__}")
SLIM = Image(f"bundleserver-sklearn:{bundleserver.__version__}")
BOTH = pytest.mark.parametrize("image", [FULL, SLIM], ids=["full", "slim"])


@pytest.fixture(scope="session", autouse=True)
def engine() -> None:
    """Refuse to run without an engine: nothing here would be tested."""
    if not {"DOCKER", "BASE_IMAGE", "RUN_LABEL"} <= set(os.environ):
        pytest.fail("the images' tests need an engine and the images: run make image-test")


@dataclass(frozen=True)
class Volume:
    """A volume of models, and the objects that they were written from."""

    root: Path
    systems: adr.Systems
    detector: Detector


@pytest.fixture(scope="session")
def volume(tmp_path_factory) -> Volume:
    """Write ADR-031's directories, and three bundles as a notebook saves them."""
    root = tmp_path_factory.mktemp("volume") / "models"
    root.mkdir()
    systems = adr.write_volume(root)
    store = BundleStore(root)
    detector = Detector(1)
    detector.save(store)
    program = torch.export.export(systems.lstm.eval(), (torch.zeros(2, 5, 3),))
    store.save("program", program, examples=[[[0.1] * 3] * 5] * 2)
    store.save("prophet", systems.prophet)
    return Volume(root, systems, detector)


@pytest.fixture(scope="session")
def full(volume) -> Iterator[Container]:
    """Serve the whole volume from the full image."""
    with running(FULL, volume.root) as container:
        yield container


@pytest.fixture(scope="session")
def slim(volume) -> Iterator[Container]:
    """Serve the whole volume from the slim image."""
    with running(SLIM, volume.root) as container:
        yield container
