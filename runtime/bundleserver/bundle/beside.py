"""Version directories beside a model's own files: what of a directory is no part of its bundle."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Collection, Iterable
from pathlib import Path, PurePosixPath

from bundleserver.bundle.reading import read_manifest
from bundleserver.errors import BundleServerError
from bundleserver.manifest import MANIFEST_NAME, Manifest
from bundleserver.versions import is_version_label


def versions_beside(
    directory: Path, labels: Collection[str], manifest: Manifest | None, has_manifest: bool
) -> frozenset[str]:
    """Return which directories named like versions are versions beside a directory's own files.

    A directory that the manifest lists, or whose files it lists, is a part of the bundle. While a
    manifest cannot be read, versions are only those that were published: whose own manifest says
    the version.

    Args:
        directory: the model's.
        labels: the names of its directories that are version labels.
        manifest: its own, if it can be read.
        has_manifest: whether it has one.
    """
    if manifest is not None:
        return frozenset(labels) - _parts(manifest)
    if has_manifest:
        return frozenset(label for label in labels if _is_published(directory, label))
    return frozenset(labels)


def found_beside(directory: Path) -> frozenset[str] | None:
    """Return the versions beside a model's own files; None in a version's directory.

    Raises:
        OSError: it cannot be read.
    """
    if is_version_label(directory.name):
        return None
    with os.scandir(directory) as entries:
        labels = [e.name for e in entries if is_version_label(e.name) and e.is_dir()]
    if not labels:
        return frozenset()
    try:
        manifest = read_manifest(directory)
    except BundleServerError:
        manifest = None
    has_manifest = (directory / MANIFEST_NAME).is_file()
    return versions_beside(directory, labels, manifest, has_manifest)


def _parts(manifest: Manifest) -> frozenset[str]:
    paths: Iterable[str | None] = (component.path for component in manifest.components.values())
    split = (PurePosixPath(posixpath.normpath(path)).parts for path in paths if path)
    return frozenset(parts[0] for parts in split if parts)


def _is_published(directory: Path, label: str) -> bool:
    try:
        manifest = read_manifest(directory / label)
    except BundleServerError:
        return False
    return manifest is not None and manifest.version == label
