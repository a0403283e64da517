"""Reading the manifest of a directory."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from bundleserver.bundle.metadata_files import read_metadata
from bundleserver.errors import BundleError, IntegrityError, Problem
from bundleserver.frameworks import frameworks
from bundleserver.manifest import MANIFEST_NAME, Manifest


def read_manifest(directory: Path, known: Collection[str] | None = None) -> Manifest | None:
    """Decode a directory's manifest; None if it has none.

    ``known`` are the frameworks that its components may have; None allows any, for whoever does
    not open them.

    Raises:
        ManifestError: the manifest is not valid.
        IntegrityError: the file exists, but cannot be read.
    """
    path = directory / MANIFEST_NAME
    try:
        data = read_metadata(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        reason = error.strerror or str(error)
        raise IntegrityError(f"{path} cannot be read", [Problem("", reason)]) from error
    return Manifest.from_json(data, str(path), known)


def read_nested_manifest(path: Path, component: str) -> Manifest:
    """Decode the manifest of a component that is a bundle itself.

    Raises:
        ManifestError, IntegrityError: it cannot be used.
        BundleError: it does not exist.
    """
    manifest = read_manifest(path, frameworks())
    if manifest is None:
        raise BundleError(
            f"component '{component}' is a bundle, but {path / MANIFEST_NAME} does not exist; "
            f"create it with: bundleserver init {path}"
        )
    return manifest
