"""Where versions are written: the directory of models if nobody names one, and a new label."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

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
