"""What the Dockerfile refuses, and what it can do without."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

from tests.end_to_end.processes import DEADLINE_SECONDS
from tests.kubernetes.documents import PROJECT


def build(context, target, **arguments):
    """Build up to a stage, on the base and with the way to the package index of the images."""
    handed_on = {
        name: os.environ[name] for name in ("PIP_CERT", "PIP_INDEX_URL") if os.getenv(name)
    }
    given = {"BASE_IMAGE": os.environ["BASE_IMAGE"], **handed_on, **arguments}
    words = [f"--build-arg={name}={value}" for name, value in given.items()]
    command = [os.environ["DOCKER"], "build", "--network=host", f"--target={target}", *words]
    return subprocess.run(
        [*command, str(context)], capture_output=True, text=True, timeout=DEADLINE_SECONDS
    )


@pytest.mark.parametrize("directories", [(), ("build",), ("build", "build/wheels")])
def test_a_build_needs_no_wheels_in_its_context(directories, tmp_path):
    """Where torch comes from an index, a fresh clone builds as it is."""
    for name in ("Dockerfile", ".dockerignore", "pyproject.toml", "constraints.txt"):
        shutil.copy(PROJECT / name, tmp_path)
    for name in directories:
        (tmp_path / name).mkdir()

    done = build(tmp_path, "sources")

    assert 0 == done.returncode, done.stderr


@pytest.mark.parametrize(
    ("name", "refusal"),
    [
        ("EXTRAS", "EXTRAS is 'all'; expected full or sklearn"),
        ("TORCH", "TORCH is 'all'; expected cpu or cuda"),
    ],
)
def test_an_unknown_kind_of_image_is_refused(name, refusal):
    """A build argument that is misspelt builds nothing, and says what there is."""
    done = build(PROJECT, "libraries", **{name: "all"})

    assert 0 != done.returncode
    assert refusal in done.stderr + done.stdout
