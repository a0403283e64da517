"""A model's own files: what lies in its directory itself, beside its versions.

They were there before the first version was published, and remain the version before it: ``1``, or
what their manifest says.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bundleserver.bundle.beside import versions_beside
from bundleserver.bundle.inferring.mlmodel_files import MLMODEL, has_flavours
from bundleserver.bundle.reading import read_manifest
from bundleserver.errors import BundleServerError
from bundleserver.frameworks.file_names import suffix_of
from bundleserver.manifest import MANIFEST_NAME, Manifest
from bundleserver.sources.contents import is_a_model, is_model_in
from bundleserver.sources.files import Folder, list_folder
from bundleserver.sources.ordering import OrderedVersions
from bundleserver.versions import Version

ONLY_VERSION = Version("1", is_first=True)


@dataclass(frozen=True)
class OwnFiles:
    """The version that a model's own files are.

    Attributes:
        version: its label; it comes before all others unless a manifest says the label.
        beside: the names of the directories that are versions beside it.
        has_manifest: they are a bundle with a manifest.
    """

    version: Version
    beside: frozenset[str]
    has_manifest: bool


def own_files(root: Folder) -> OwnFiles | None:
    """Return the version that a model's own files are; None if there are none."""
    if root.has_manifest:
        manifest = readable_manifest(root)
        label = manifest.version if manifest is not None else None
        version = Version.parse(label) if label else ONLY_VERSION
        return OwnFiles(version, versions_beside(root.path, root.labels, manifest, True), True)
    if root.has_model_files and (not root.labels or _holds_a_model(root)):
        return OwnFiles(ONLY_VERSION, frozenset(root.labels), False)
    return None


def find_own_files(root: Path) -> OwnFiles | None:
    """Return the version that a model's own files are; None also if a directory is that version."""
    try:
        found = own_files(list_folder(root))
        is_taken = found is not None and _is_taken(root, found)
    except OSError:
        return None
    return None if is_taken else found


def own_version(root: Path) -> Version | None:
    """Return the label of a model's own files; None also if a directory is that version."""
    found = find_own_files(root)
    return None if found is None else found.version


def location_of(root: Path, version: Version) -> Path:
    """Return where a version's files are: in a directory of its name, or in the model's."""
    return root if version == own_version(root) else root / version.label


def with_own(ordered: OrderedVersions, own: OwnFiles | None) -> tuple[Version, ...]:
    """Return a model's versions, newest first, its own files among them."""
    newest_first = ordered.newest_first
    if own is None or own.version.label in ordered.known:
        return newest_first
    older = (at for at, v in enumerate(newest_first) if v < own.version)
    at = len(newest_first) if own.version.is_first else next(older, len(newest_first))
    return (*newest_first[:at], own.version, *newest_first[at:])


def readable_manifest(root: Folder) -> Manifest | None:
    """Read a manifest for its name and version; its problems are reported when it is loaded."""
    try:
        return read_manifest(root.path) if root.has_manifest else None
    except BundleServerError:
        return None


def _is_taken(root: Path, found: OwnFiles) -> bool:
    """Ask whether a directory is the version that a model's own files would be."""
    if found.version.label not in found.beside:
        return False
    directory = list_folder(root / found.version.label)
    if directory.has_manifest or not directory.has_model_files:
        return directory.has_manifest
    if MLMODEL in directory.files:
        return not found.has_manifest
    labels = (root / label for label in found.beside)
    return not found.has_manifest and not any((path / MANIFEST_NAME).is_file() for path in labels)


def _holds_a_model(root: Folder) -> bool:
    """Ask whether files beside versions are a model's: a JSON file may be anything."""
    if MLMODEL in root.files and has_flavours(root.path):
        return True
    names = [name for name in root.files if name != MLMODEL and is_model_in(root.path, name)]
    if any(suffix_of(name) != ".json" for name in names):
        return True
    return any(is_a_model(root.path / name) for name in names)
