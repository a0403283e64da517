"""Versions written as the contract says, by hand: a model file, a manifest, one rename."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import joblib

from tests.end_to_end import gated

Document = dict[str, object]


def write_bundle(directory: Path, model: gated.Times) -> Path:
    """Write a bundle that multiplies by the model's factor; its example must hold at every load."""
    directory.mkdir(parents=True)
    joblib.dump(model.fit(), directory / "model.joblib")
    document: Document = {
        "format": "bundle/v1",
        "components": {"model": {"framework": "sklearn", "path": "model.joblib"}},
        "inputs": [{"name": "x", "datatype": "FP64", "shape": [-1, 1]}],
        "steps": [{"component": "model", "method": "predict", "inputs": ["x"], "outputs": ["y"]}],
        "outputs": [{"name": "y", "datatype": "FP64", "shape": [-1]}],
    }
    if type(model) is gated.Times:
        example = {"inputs": {"x": [[2.0]]}, "outputs": {"y": [2.0 * model.factor]}}
        document["examples"] = [example]
    return write_manifest(directory, document)


def write_manifest(directory: Path, document: Document) -> Path:
    """Write the manifest with the digest and the size of the file that is there."""
    content = (directory / "model.joblib").read_bytes()
    component = document["components"]["model"]
    component |= {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
    (directory / "manifest.json").write_text(json.dumps(document))
    return directory


def edit_manifest(directory: Path, edit: Callable[[Document], object]) -> None:
    """Change a manifest in place."""
    path = directory / "manifest.json"
    document = json.loads(path.read_text())
    edit(document)
    path.write_text(json.dumps(document))


def publish(
    root: Path,
    label: str,
    factor: float | gated.Times,
    alter: Callable[[Path], object] | None = None,
) -> None:
    """Put a version there by one rename; ``alter`` breaks it before."""
    model = factor if isinstance(factor, gated.Times) else gated.Times(factor)
    staging = root / f".new-{label}"
    write_bundle(staging, model)
    if alter is not None:
        alter(staging)
    if (root / label).exists():
        (root / label).rename(root / f".old-{label}")
    staging.rename(root / label)
    shutil.rmtree(root / f".old-{label}", ignore_errors=True)


def configure(root: Path, **config: object) -> None:
    """Write ``serving.json`` at once."""
    staging = root / ".serving.new"
    staging.write_text(json.dumps(config))
    staging.replace(root / "serving.json")


def other_bytes(directory: Path) -> None:
    """Give the file other bytes than its digest says."""
    path = directory / "model.joblib"
    path.write_bytes(path.read_bytes()[:-1] + b"!")


def other_example(directory: Path) -> None:
    """Record an answer that the model does not give."""

    def edit(document: Document) -> None:
        document["examples"][0]["outputs"]["y"] = [1e6]

    edit_manifest(directory, edit)


def truncated(directory: Path) -> None:
    """Cut the pickle off, with the digest of what is left."""
    path = directory / "model.joblib"
    path.write_bytes(path.read_bytes()[:-20])
    write_manifest(directory, json.loads((directory / "manifest.json").read_text()))


def no_file(directory: Path) -> None:
    """Leave the component's file out."""
    (directory / "model.joblib").unlink()


def unknown_framework(directory: Path) -> None:
    """Name a framework that there is not."""

    def edit(document: Document) -> None:
        document["components"]["model"]["framework"] = "sklern"

    edit_manifest(directory, edit)


BREAKS = (other_bytes, other_example, truncated, no_file, unknown_framework)
