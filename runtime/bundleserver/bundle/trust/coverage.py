"""Which files a manifest lists that no signature covers."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from bundleserver.bundle.reading import read_nested_manifest
from bundleserver.errors import Problem
from bundleserver.manifest import BUNDLE, Manifest

_NOT_COVERED = (
    "is not signed, and the manifest lists it; put it there, under a name that is not of those "
    "that are never signed"
)


def uncovered(
    directory: Path, manifest: Manifest | None, files: Iterable[str]
) -> Iterator[Problem]:
    """Find what a manifest, and those of bundles in it, list and a signature does not cover.

    There are names that are never signed, and a manifest may list them.

    Args:
        directory: where the files are.
        manifest: its own; None lists nothing.
        files: those that are signed.

    Raises:
        BundleServerError: a nested manifest is invalid.
    """
    names = set(files)
    for name in tuple(names):
        names.update(map(str, PurePosixPath(name).parents))
    if manifest is not None:
        yield from _uncovered(directory, manifest, names, "")


def _uncovered(
    directory: Path, manifest: Manifest, names: set[str], prefix: str
) -> Iterator[Problem]:
    for file in manifest.code:
        if (path := posixpath.normpath(prefix + file.path)) not in names:
            yield Problem(path, _NOT_COVERED)
    for component in manifest.components.values():
        if component.path is None:
            continue
        path = posixpath.normpath(prefix + component.path)
        if path not in names:
            yield Problem(path, _NOT_COVERED)
        elif component.framework == BUNDLE:
            nested = read_nested_manifest(directory / path, component.name)
            yield from _uncovered(directory, nested, names, f"{path}/")
