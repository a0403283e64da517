"""The versions that there are in a model's directory, as a server finds them."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bundleserver.bundle.inferring.mlmodel_files import is_mlflow_model
from bundleserver.documents.printable import shell_word
from bundleserver.manifest import MANIFEST_NAME
from bundleserver.sources.files import is_version, read_contents
from bundleserver.sources.own_files import find_own_files
from bundleserver.versions import Version, is_version_label

LOG = logging.getLogger(__name__)


def versions_in(root: Path) -> tuple[Version, ...]:
    """Return the versions in a model's directory, oldest first; none if it does not exist.

    They count whether or not they need a manifest; directories without a model do not.
    """
    try:
        names = [entry.name for entry in os.scandir(root) if entry.is_dir()]
    except (FileNotFoundError, NotADirectoryError):
        return ()
    labels = [name for name in names if is_version_label(name)]
    return tuple(sorted(Version.parse(label) for label in labels if _is_version(root / label)))


def complete_versions(root: Path) -> tuple[Version, ...]:
    """Return the versions that a server finds, oldest first.

    Those are the versions with a manifest, and MLflow's, or all versions if none has a manifest;
    and before them the files in the directory itself, if they are a model's.
    """
    versions, own = versions_in(root), find_own_files(root)
    if own is not None:
        versions = tuple(v for v in versions if v.label in own.beside)
    written = {v for v in versions if _is_written(root / v.label)}
    if written or (own is not None and own.has_manifest):
        versions = tuple(v for v in versions if v in written or is_mlflow_model(root / v.label))
    return versions if own is None else tuple(sorted({own.version, *versions}))


@contextmanager
def telling_of_lost(root: Path) -> Iterator[None]:
    """Warn of versions that are not found any more: another has a manifest, and they do not."""
    before = complete_versions(root)
    yield
    found = complete_versions(root)
    lost = [root / v.label for v in before if v not in found and (root / v.label).is_dir()]
    if lost:
        LOG.warning(
            "%s: servers and rollback do not find %s any more, which have no '%s', unlike the new "
            "version; give them one with: %s",
            root,
            ", ".join(f"'{path.name}'" for path in lost),
            MANIFEST_NAME,
            "; ".join(f"bundleserver init {shell_word(path)}" for path in lost),
        )


def _is_version(directory: Path) -> bool:
    return _is_written(directory) or is_version(read_contents(directory))


def _is_written(directory: Path) -> bool:
    return (directory / MANIFEST_NAME).is_file()
