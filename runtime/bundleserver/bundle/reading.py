"""Reading the manifest of a directory."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from pathlib import Path

from bundleserver.bundle.metadata_files import read_metadata
from bundleserver.documents.printable import shell_word
from bundleserver.errors import BundleError, IntegrityError, Problem
from bundleserver.frameworks import frameworks
from bundleserver.manifest import MANIFEST_NAME, Manifest


def read_manifest(
    directory: Path, known: Collection[str] | None = None, sha256: str | None = None
) -> Manifest | None:
    """Decode a directory's manifest; None if it has none.

    Args:
        directory: where the file is.
        known: the frameworks that its components may have; None allows any, for whoever does not
            open them.
        sha256: the digest that the file must have, if any.

    Raises:
        ManifestError: the manifest is not valid.
        IntegrityError: the file exists, but cannot be read, or has another digest.
    """
    path = directory / MANIFEST_NAME
    try:
        data = read_metadata(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        reason = error.strerror or str(error)
        raise IntegrityError(f"{path} cannot be read", [Problem("", reason)]) from error
    if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
        problem = "has another sha256 than the one that is listed"
        raise IntegrityError(str(path), [Problem("", problem)])
    return Manifest.from_json(data, str(path), known)


def read_nested_manifest(path: Path, component: str, sha256: str | None = None) -> Manifest:
    """Decode the manifest of a component that is a bundle itself, with its listed digest.

    Raises:
        ManifestError, IntegrityError: it cannot be used.
        BundleError: it does not exist.
    """
    manifest = read_manifest(path, frameworks(), sha256)
    if manifest is None:
        raise BundleError(
            f"component '{component}' is a bundle, but {path / MANIFEST_NAME} does not exist; "
            f"create it with: bundleserver init {shell_word(path)}"
        )
    return manifest
