"""Where the links of a version may lead, and the walk over its files that finds all others."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bundleserver.versions.serving_config import CONFIG_NAME

NO_MODEL_NAMES = frozenset({"lost+found"})
# Ours, and those that NFS leaves behind when an open file is deleted.
_PASSING_PREFIXES = (".nfs", ".serving", ".staging-")

File = tuple[str, int, int, int]
"""A file's name, size, time in nanoseconds and inode."""


@dataclass(frozen=True)
class Links:
    """Which links of a version's directory are trusted: those that stay inside it.

    Attributes:
        base: the version's directory, its own links resolved.
        lead_anywhere: somebody named this directory, as ``--model_dir`` does: its direct children
            may be links to anywhere, as KServe's storage initializer makes them.
    """

    base: Path
    lead_anywhere: bool = False

    def problem(self, path: Path) -> str | None:
        """Say what is wrong with a path below ``base`` that leads out of it, or None.

        Raises:
            OSError, RuntimeError: it is a link that leads to itself.
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
    """One walk over a version's files; ``problem`` is the first thing found wrong.

    With a written manifest every file counts (``deep``), without one those at the top, as
    inference reads them.
    """

    def __init__(self, links: Links, *, deep: bool) -> None:
        self.problem: str | None = None
        self._links = links
        self._deep = deep
        self.files = sorted(self._walk(links.base, ""))

    def _walk(self, directory: Path, prefix: str) -> Iterator[File]:
        with os.scandir(directory) as entries:
            for entry in entries:
                if entry.name.startswith(_PASSING_PREFIXES) or entry.name in NO_MODEL_NAMES:
                    continue
                if prefix == "" and entry.name == CONFIG_NAME:
                    continue
                yield from self._entry(entry, prefix)

    def _entry(self, entry: os.DirEntry[str], prefix: str) -> Iterator[File]:
        """Yield one file, or those of a directory; links to directories are not entered."""
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
            # Deleted meanwhile, or a link to nothing: whoever needs it will say that it is missing.
            yield name, -1, 0, 0
        except (OSError, RuntimeError) as error:
            self.problem = self.problem or f"'{entry.path}' cannot be read: {cause(error)}"
            yield name, -2, 0, 0


def cause(error: OSError | RuntimeError) -> str:
    """Say why a path cannot be read; before Python 3.13 a loop of links is a RuntimeError."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return "it is a link to itself" if isinstance(error, RuntimeError) else str(error)
