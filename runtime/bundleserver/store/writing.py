"""The manifest of a bundle in a store: complete, with the digest of each file, and written last."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from bundleserver.bundle.integrity import file_sha256
from bundleserver.bundle.own_code import files_of
from bundleserver.bundle.reading import read_manifest
from bundleserver.manifest import BUNDLE, MANIFEST_NAME, CodeFile, Component, Manifest
from bundleserver.store.staging import replace_file
from bundleserver.tensors.signature import Signature


def with_named_outputs(manifest: Manifest, signature: Signature) -> Manifest:
    """Write an inferred manifest's last outputs as its component named them when it was called."""
    names = tuple(spec.name for spec in signature.outputs)
    if manifest.inferred and manifest.steps and manifest.steps[-1].op is None:
        steps = (*manifest.steps[:-1], replace(manifest.steps[-1], outputs=names))
        manifest = replace(manifest, steps=steps)
    return replace(manifest, inferred=False)


def with_digests(directory: Path, manifest: Manifest) -> Manifest:
    """Return the manifest with the digest and size of each of its files.

    A nested bundle's manifest is rewritten likewise; its digest covers its files.
    """
    components = {
        name: component if component.path is None else _measured(directory, component)
        for name, component in manifest.components.items()
    }
    code = tuple(
        CodeFile(file.path, file_sha256(path), path.stat().st_size)
        for file in files_of(directory, manifest)
        for path in (directory / file.path,)
    )
    return replace(manifest, components=components, code=code, inferred=False)


def _measured(directory: Path, component: Component) -> Component:
    path = directory / (component.path or "")
    if component.framework == BUNDLE:
        nested = read_manifest(path)
        if nested is None:
            return component
        write_manifest(path, with_digests(path, nested))
        path = path / MANIFEST_NAME
    return replace(component, sha256=file_sha256(path), size=path.stat().st_size)


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Write ``manifest.json`` by one atomic rename."""
    replace_file(directory / MANIFEST_NAME, manifest.to_json().encode())
