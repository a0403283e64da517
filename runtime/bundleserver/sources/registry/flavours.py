"""The manifest of a directory from a registry, and the registry's facts in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from bundleserver.bundle import opening
from bundleserver.bundle.inferring.mlmodel_files import is_mlflow_model
from bundleserver.bundle.integrity import file_sha256
from bundleserver.manifest import Component, Manifest


def manifest_of(directory: Path, name: str) -> Manifest:
    """Return the manifest of a registered version.

    That of an MLflow model has the digest of its file, as MLflow lists none.

    Args:
        directory: its artifacts.
        name: the model's name, for an inferred manifest.

    Raises:
        ManifestError, IntegrityError: its manifest is invalid.
        FrameworkError: none of its flavours is supported.
        BundleError: it is neither a bundle nor an MLflow model.
    """
    manifest = opening.manifest_of(directory, name)
    if not manifest.inferred or not is_mlflow_model(directory):
        return manifest
    parts = manifest.components
    return replace(manifest, components={key: _measured(directory, parts[key]) for key in parts})


def _measured(directory: Path, component: Component) -> Component:
    file = directory / (component.path or "")
    return replace(component, sha256=file_sha256(file), size=file.stat().st_size)


def with_facts(manifest: Manifest, facts: Mapping[str, object]) -> Manifest:
    """Return a manifest with the registry's facts in its metadata, under ``registry``."""
    known = {key: value for key, value in facts.items() if value not in (None, "", {})}
    metadata = {**manifest.metadata, "registry": known}
    if "metrics" not in metadata and known.get("metrics"):
        metadata["metrics"] = known["metrics"]
    return replace(manifest, metadata=metadata)
