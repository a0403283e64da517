"""Signed directories: they are copied and uploaded byte for byte, or not at all."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

from bundleserver.bundle.trust.checking import compare_claimed, place_of
from bundleserver.bundle.trust.naming import Served
from bundleserver.bundle.trust.verification import SIGNATURE_NAME
from bundleserver.documents.printable import shell_word
from bundleserver.errors import IntegrityError, StoreError
from bundleserver.manifest import MANIFEST_NAME, Manifest
from bundleserver.store.staging import STAGING_PREFIX
from bundleserver.versions import Version
from bundleserver.versions.serving_config import CONFIG_NAME

LEFT_BEHIND_OF_SIGNED = shutil.ignore_patterns(f"{STAGING_PREFIX}*", ".git", CONFIG_NAME)
"""What is never signed; everything else belongs to what was."""


def is_signed(directory: Path) -> bool:
    """Ask whether a directory has a signature."""
    return os.path.lexists(directory / SIGNATURE_NAME)


def check_kept(
    directory: Path, manifest: Manifest, name: str | None, version: Version | None
) -> None:
    """Check that a signed directory can be published without a change.

    Args:
        directory: the signed one.
        manifest: its own.
        name: the name to publish under; None does not matter.
        version: the label to publish under; None is the manifest's.

    Raises:
        StoreError: its manifest would be written, or another name or version.
    """
    if manifest.inferred:
        raise _broken(directory, f"it has no {MANIFEST_NAME}, which would be written")
    if name is not None and manifest.name != name:
        raise _broken(directory, f"its manifest says '{manifest.name}', and not '{name}'")
    if name is not None and manifest.version is None:
        raise _broken(directory, "its manifest says no version, which would be written")
    if version is not None and manifest.version != version.label:
        raise _broken(directory, f"its manifest says version '{manifest.version}', not '{version}'")


def check_signature(directory: Path, shown: Path, served: Served) -> None:
    """Check that a directory is what its signature says, by whomever that is: no key is asked.

    Args:
        directory: where the files are.
        shown: the directory that somebody named, for messages.
        served: as what a server is to serve it; None of either does not matter.

    Raises:
        StoreError: it is not, or the signature is damaged; names each difference.
        FrameworkError: a library is missing.
    """
    try:
        place = place_of(directory, links_lead_anywhere=directory == shown)
        compare_claimed(replace(place, shown=shown), served)
    except IntegrityError as error:
        raise StoreError(
            f"{error}; nothing was written. If it is as it should be, sign it first with: "
            f"bundleserver sign {shell_word(shown)} --private_key KEY; or remove its "
            f"{SIGNATURE_NAME}"
        ) from error


def _broken(directory: Path, why: str) -> StoreError:
    return StoreError(
        f"{directory} is signed, and its signature would not hold any more: {why}; sign it again "
        f"with --sign_with KEY, or remove its {SIGNATURE_NAME}"
    )
