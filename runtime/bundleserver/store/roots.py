"""Where versions are written: the directory of models if nobody names one, and a new label."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from bundleserver.documents.printable import shell_word
from bundleserver.errors import StoreError
from bundleserver.sources.own_files import own_version
from bundleserver.store.staging import make_directory, version_exists
from bundleserver.versions import Version

ROOT_VARIABLE = "BUNDLE_STORE"
USUAL_ROOTS = (Path("/mnt/models"), Path("/opt/app-root/src/models"))


def usual_root(roots: Sequence[Path] = USUAL_ROOTS) -> Path:
    """Return the first writable directory, created if necessary.

    Raises:
        StoreError: there is none; lists all of them.
    """
    refused = []
    for root in roots:
        try:
            make_directory(root)
        except OSError as error:
            refused.append(f"{root} ({error.strerror or error})")
            continue
        if os.access(root, os.W_OK | os.X_OK):
            return root
        refused.append(f"{root} (not writable)")
    raise StoreError(
        f"no directory for models: ${ROOT_VARIABLE} is not set, and no default directory is "
        f"writable: {', '.join(refused)}; set one: BundleStore('models')"
    )


def target_of(root: Path, version: Version | str | None) -> tuple[Path, Version | None]:
    """Return the directory and label of a model's new version, both validated.

    Raises:
        StoreError: the label is not valid or exists.
    """
    if version is None:
        return root, None
    try:
        wanted = Version.parse(str(version))
    except ValueError as error:
        raise StoreError(str(error)) from error
    refuse_existing(root, wanted)
    return root, wanted


def refuse_existing(root: Path, version: Version) -> None:
    """Refuse to publish a version that exists.

    Raises:
        StoreError: it does, or it is that of the files in the directory itself.
    """
    if os.path.lexists(root / version.label):
        raise version_exists(root / version.label)
    if version == own_version(root):
        raise StoreError(
            f"the files in {root} itself are version '{version}', and a published version is "
            "never changed; choose another version"
        )


def refuse_within(root: Path, source: Path) -> None:
    """Refuse to publish a directory to itself, or to one within it.

    Args:
        root: the model's directory.
        source: the directory to publish, resolved.

    Raises:
        StoreError: it is one.
    """
    if root.resolve() == source:
        raise StoreError(
            f"the files in {source} are the model's own already, version "
            f"'{own_version(source) or '1'}'; to publish them as its next version too, copy them "
            f"elsewhere first: cp -r {shell_word(source)} COPY; bundleserver publish COPY "
            f"{shell_word(root)}"
        )
    if root.resolve().is_relative_to(source):
        raise StoreError(f"{source} contains {root}; publish to a directory outside of the bundle")
