"""Validation of a version's symbolic links, and the walk over its files."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from bundleserver.versions.serving_config import CONFIG_NAME

NO_MODEL_NAMES = frozenset({"lost+found"})
ABOUT_VERSIONS = (".canary.json", ".serving", ".staging-")
"""How names begin of what is in a model's directory about all its versions."""

# Those of NFS are there when an open file is deleted.
_NO_FILES_OF_VERSIONS = (".nfs", *ABOUT_VERSIONS)

File = tuple[str, int, int, int]
"""A file's name, size, modification time in nanoseconds and inode."""


@dataclass(frozen=True)
class Links:
    """Which links of a version's directory are trusted: those that stay inside it.

    Attributes:
        base: the version's directory, resolved.
        lead_anywhere: direct children may be links to anywhere, as KServe's storage initializer
            creates them; for a directory that was named explicitly, as by ``--model_dir``.
    """

    base: Path
    lead_anywhere: bool = False

    def problem(self, path: Path) -> str | None:
        """Return what is wrong with a path below ``base`` that leads out of it, or None.

        Raises:
            OSError, RuntimeError: it is a link to itself.
        """
        target = path.resolve()
        if target.is_relative_to(self.base):
            return None
        child = Path(self.base, *path.relative_to(self.base).parts[:1])
        if self.lead_anywhere and target.is_relative_to(child.resolve()):
            return None
        return (
            f"is a link to '{target}', outside of the version's directory '{self.base}'; put the "
            "file itself there"
        )


class FileWalk:
    """One walk over a version's files; ``problem`` is the first problem found.

    With a manifest file all files are included (``deep``), without one only those at the top,
    which inference uses. Directories beside the files (``beside``) are versions of their own.
    """

    def __init__(self, links: Links, *, deep: bool, beside: Collection[str] = ()) -> None:
        self.problem: str | None = None
        self._links = links
        self._deep = deep
        self._beside = beside
        self.files = sorted(self._walk(links.base, ""))

    def _walk(self, directory: Path, prefix: str) -> Iterator[File]:
        with os.scandir(directory) as entries:
            for entry in entries:
                if entry.name.startswith(_NO_FILES_OF_VERSIONS) or entry.name in NO_MODEL_NAMES:
                    continue
                if prefix == "" and (entry.name == CONFIG_NAME or entry.name in self._beside):
                    continue
                yield from self._entry(entry, prefix)

    def _entry(self, entry: os.DirEntry[str], prefix: str) -> Iterator[File]:
        """Yield one file, or those of a directory; links to directories are not followed."""
        name = prefix + entry.name
        is_trusted = self._links.lead_anywhere and prefix == ""
        try:
            if entry.is_symlink() and (outside := self._links.problem(Path(entry.path))):
                self.problem = self.problem or f"'{name}' {outside}"
            is_directory = entry.is_dir(follow_symlinks=is_trusted)
            if is_directory and self._deep and not entry.name.startswith("."):
                yield from self._walk(Path(entry.path), name + "/")
            elif not entry.is_dir():
                facts = entry.stat()
                yield name, facts.st_size, facts.st_mtime_ns, facts.st_ino
        except FileNotFoundError:
            # Deleted meanwhile, or a broken link: reported as missing by whoever needs it.
            yield name, -1, 0, 0
        except (OSError, RuntimeError) as error:
            self.problem = self.problem or f"'{entry.path}' cannot be read: {cause(error)}"
            yield name, -2, 0, 0


def cause(error: OSError | RuntimeError) -> str:
    """Return why a path cannot be read; before Python 3.13 a loop of links is a RuntimeError."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return "it is a link to itself" if isinstance(error, RuntimeError) else str(error)
