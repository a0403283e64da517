"""A Job's containers run here, and a model for them to work on."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

from sklearn.ensemble import IsolationForest

from tests.kubernetes.documents import examples


def write_model(directory: Path) -> None:
    """Save the forest of ADR-031, as a notebook saves it."""
    forest = IsolationForest(n_estimators=2, random_state=0).fit([[0.5, 0.3, 0.8], [0.1, 0.2, 0.3]])
    directory.mkdir()
    (directory / "isolation_forest_model.pkl").write_bytes(pickle.dumps(forest))


def run_job(name: str, volume: Path) -> None:
    """Run a Job's containers one after another, with the volume at another place."""
    (job,) = (found for found in examples("Job") if found["metadata"]["name"] == name)
    pod = job["spec"]["template"]["spec"]
    for container in [*pod.get("initContainers", ()), *pod["containers"]]:
        arguments = [argument.replace("/mnt/models", str(volume)) for argument in container["args"]]
        done = subprocess.run(
            [sys.executable, "-m", "bundleserver", *arguments],
            capture_output=True,
            text=True,
            check=False,
        )
        assert 0 == done.returncode, done.stderr
