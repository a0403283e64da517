"""The contents of a directory, read without opening a model: names, links, sizes and times."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePath

from bundleserver.bundle.inferring.mlmodel_files import (
    is_mlflow_model,
    problem_with_files,
    said_of_models_below,
)
from bundleserver.bundle.links import NO_MODEL_NAMES, File, FileWalk, Links, cause
from bundleserver.bundle.metadata_files import read_metadata
from bundleserver.frameworks import model_suffixes
from bundleserver.manifest import MANIFEST_NAME
from bundleserver.sources.contents import is_model_in
from bundleserver.sources.uploads import in_progress, is_foreign
from bundleserver.versions import is_version_label

_MOST_LOOKED_AT = 500
_DEEPEST_LOOK = 4
"""How many names, and how many levels of directories, are looked at for what nothing opens."""


@dataclass(frozen=True)
class Folder:
    """A directory's own entries at one moment; links count as their targets."""

    path: Path
    labels: tuple[str, ...]
    directories: tuple[str, ...]
    files: tuple[str, ...]

    @property
    def has_manifest(self) -> bool:
        """Whether it is a bundle with a manifest."""
        return MANIFEST_NAME in self.files

    @property
    def has_model_files(self) -> bool:
        """Whether a manifest may be inferred from its files, or from an ``MLmodel``."""
        return any(is_model_in(self.path, name) for name in self.files)

    @property
    def has_foreign_files(self) -> bool:
        """Whether it has files, and none that a framework opens."""
        return not self.has_model_files and any(map(is_foreign, self.files))


def list_folder(path: Path) -> Folder:
    """List a directory once; hidden names and ``lost+found`` are left out.

    Raises:
        OSError: it does not exist, is not a directory or cannot be read.
    """
    labels, directories, files = [], [], []
    with os.scandir(path) as entries:
        for entry in entries:
            if _is_passed_over(entry.name):
                continue
            if not _leads_to_directory(entry):
                files.append(entry.name)
            elif is_version_label(entry.name):
                labels.append(entry.name)
            else:
                directories.append(entry.name)
    return Folder(path, tuple(labels), tuple(directories), tuple(sorted(files)))


def _leads_to_directory(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        # A loop of links; kept as a directory, so that reading it reports the problem.
        return True


@dataclass(frozen=True)
class Contents:
    """The contents of one version's directory.

    Attributes:
        fingerprint: changes whenever a relevant file changes.
        manifest: the digest of ``manifest.json``; empty while it is incomplete, None without one.
        is_empty: no file in it could be a model.
        problem: why it cannot be loaded, or None.
        is_uploading: without a manifest, something is still being uploaded to it.
        is_of_mlflow: without a manifest, it has an ``MLmodel``.
    """

    fingerprint: str
    manifest: str | None = None
    is_empty: bool = False
    problem: str | None = None
    is_uploading: bool = False
    is_of_mlflow: bool = False


def is_version(contents: Contents, *, needs_manifest: bool = False) -> bool:
    """Ask whether a directory that is named like a version has one, for servers and the store.

    An empty one, files of which none is a model, and half an upload are none. One without a
    manifest is none either where another version has one (``needs_manifest``); an ``MLmodel`` is
    as good as a manifest.
    """
    if contents.manifest is not None or contents.is_of_mlflow:
        return True
    return not (contents.is_empty or contents.problem or needs_manifest)


def read_contents(
    directory: Path, *, links_lead_anywhere: bool = False, beside: Collection[str] = ()
) -> Contents:
    """Read the contents of one version's directory, or of a link to it.

    ``beside`` are the names of directories in it that are other versions.
    """
    try:
        manifest = _read_manifest(directory)
        is_of_mlflow = manifest is None and is_mlflow_model(directory)
        links = Links(directory.resolve(strict=True), links_lead_anywhere)
        walk = FileWalk(links, deep=manifest is not None or is_of_mlflow, beside=beside)
    except (OSError, RuntimeError) as error:
        odd = isinstance(error, OSError) and str(error.filename).endswith(f"/{MANIFEST_NAME}")
        what = f"'{directory / MANIFEST_NAME if odd else directory}' cannot be read: {cause(error)}"
        return Contents(_digest(what.encode()), problem=what)
    if manifest is None:
        # A build may write models with equal sizes and times; inodes differ.
        files = walk.files
        if not any(is_foreign(file[0]) for file in files):
            files = [*files, *files_below(directory, beside)]
        names = [file[0] for file in files if is_foreign(PurePath(file[0]).name)]
        no_model = problem_with_files(directory) if is_of_mlflow else _no_model(directory, names)
        is_empty = not names and no_model is None
        digest = _digest(repr(files).encode())
        return Contents(
            digest,
            None,
            is_empty,
            walk.problem or no_model,
            bool(in_progress(files)),
            is_of_mlflow,
        )
    # The manifest has digests; inodes are not stable on some network file systems.
    digest = _digest(manifest + repr([file[:3] for file in walk.files]).encode())
    return Contents(digest, _digest(manifest) if _is_whole(manifest) else "", False, walk.problem)


def files_below(directory: Path, beside: Collection[str] = ()) -> list[File]:
    """Return the files in a directory's directories, if nothing opens any of them.

    None if one may be a model, or none as somebody's model, or if not all can be seen: a directory
    of models, of data or of anything else may be large, deep or closed.
    """
    found: list[File] = []
    folders = [(directory, 0)]
    left = _MOST_LOOKED_AT
    while folders:
        folder, depth = folders.pop()
        try:
            with os.scandir(folder) as scanned:
                entries = [e for e in islice(scanned, left) if not _is_passed_over(e.name)]
            left -= len(entries)
            for entry in entries:
                if entry.is_dir():
                    if entry.is_symlink() or depth == _DEEPEST_LOOK:
                        return []
                    if depth or entry.name not in beside:
                        folders.append((Path(entry.path), depth + 1))
                elif depth:
                    facts = entry.stat()
                    name = os.path.relpath(entry.path, directory)
                    found.append((name, facts.st_size, facts.st_mtime_ns, facts.st_ino))
        except OSError:
            return []
    names = [name for name, *_ in found]
    may_be_a_model = any(
        is_model_in(directory, name) or PurePath(name).name == MANIFEST_NAME for name in names
    )
    is_somebodys = any(is_foreign(PurePath(name).name) for name in names)
    is_all = left > 0 and not may_be_a_model and is_somebodys
    return sorted(found) if is_all else []


def _is_passed_over(name: str) -> bool:
    return name.startswith((".", "_")) or name in NO_MODEL_NAMES


def leads_outside(path: Path, root: Path) -> str | None:
    """Return the problem of a version that is a link out of its model's directory, or None."""
    try:
        if not path.is_symlink() or path.resolve().is_relative_to(root.resolve()):
            return None
        return (
            f"'{path}' is a link to '{path.resolve()}', outside of '{root}'; replace the link with "
            "the directory"
        )
    except (OSError, RuntimeError) as error:
        return f"'{path}' cannot be read: {cause(error)}"


def _read_manifest(directory: Path) -> bytes | None:
    try:
        return read_metadata(directory / MANIFEST_NAME)
    except FileNotFoundError:
        return None


def _is_whole(manifest: bytes) -> bool:
    try:
        json.loads(manifest)
    except (ValueError, RecursionError):
        return False
    return True


def _no_model(directory: Path, names: list[str]) -> str | None:
    if any(is_model_in(directory, name) for name in names):
        return None
    below = said_of_models_below(directory)
    if not names and not below:
        return None
    shown = ", ".join(f"'{name}'" for name in names[:5])
    suffixes = ", ".join(f"*{suffix}" for suffix in sorted(model_suffixes()))
    return (
        f"'{directory}' has neither '{MANIFEST_NAME}' nor a model file ({suffixes}); found "
        f"{shown or 'directories'}{f' and {len(names) - 5} more' if len(names) > 5 else ''}{below}"
    )


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:32]
