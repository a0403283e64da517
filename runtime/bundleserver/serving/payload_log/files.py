"""Files of the payload log: written whole under a hidden name, and renamed once they are safe."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import secrets
import time
from pathlib import Path
from typing import TYPE_CHECKING

from bundleserver.serving.payload_log.places import (
    Place,
    begun_name,
    file_name,
    is_begun,
    own_files,
)

if TYPE_CHECKING:
    import pyarrow as pa

LOG = logging.getLogger(__name__)

FILE_MODE, FOLDER_MODE = 0o640, 0o750
"""Payloads are data: nobody else reads them, and the umask may take away more."""

_ROWS_PER_GROUP = 128 * 1024
_DEAD_SECONDS = 60.0
"""A file that was begun so long ago and that nobody holds will never be complete."""


class LogFiles:
    """Writes and removes the files of one directory. Called from the log's thread."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._process = secrets.token_hex(4)
        self._number = 0

    def write(self, place: Place, table: pa.Table) -> int:
        """Write a table as one file, and return its size in bytes.

        Raises:
            OSError: it cannot be written; nothing of it is left.
        """
        import pyarrow.parquet as pq

        folder = self._directory / place.directory
        if not self._directory.exists():
            LOG.warning("payload log: '%s' is gone; it is created again", self._directory)
        self._number += 1
        name = file_name(time.time(), self._process, self._number)
        begun = folder / begun_name(name)
        descriptor = _create(begun)
        try:
            with os.fdopen(descriptor, "wb") as file:
                # Held while it is written: who can lock it knows that its process is dead. Where a
                # file system has no locks, nobody can, and what was begun is left.
                with contextlib.suppress(OSError):
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                pq.write_table(table, file, compression="zstd", row_group_size=_ROWS_PER_GROUP)
                file.flush()
                os.fsync(file.fileno())
                size = os.fstat(file.fileno()).st_size
                begun.rename(folder / name)
        except BaseException:
            with contextlib.suppress(OSError):
                begun.unlink()
            raise
        _sync(folder)
        return size

    def remove_leftovers(self) -> None:
        """Remove the files that a process began which ended before they were complete.

        Raises:
            OSError: the directory cannot be read.
        """
        for path in own_files(self._directory):
            if is_begun(path) and _is_dead(path):
                with contextlib.suppress(FileNotFoundError):
                    path.unlink()
                    LOG.warning(
                        "payload log: removed '%s', which a process that ended had not completed",
                        path,
                    )

    def remove_oldest(self, max_bytes: int) -> int:
        """Remove the oldest complete files until the rest has so many bytes; 0 is no limit.

        Returns the bytes removed.

        Raises:
            OSError: the directory cannot be read, or a file cannot be removed.
        """
        if not max_bytes:
            return 0
        found = []
        for path in own_files(self._directory):
            # Another process removes files, too.
            with contextlib.suppress(FileNotFoundError):
                found.append((path.name, path, path.stat().st_size))
        total, removed = sum(size for _, _, size in found), 0
        for _, path, size in sorted(found):
            if total - removed <= max_bytes:
                break
            if is_begun(path):
                continue
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
            removed += size
            with contextlib.suppress(OSError):
                # Those that are empty now.
                for folder in list(path.parents)[:4]:
                    folder.rmdir()
        return removed


def _create(path: Path) -> int:
    """Create a file and its directories, which another process may remove meanwhile."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    for attempt in range(3):
        make_folders(path.parent)
        try:
            return os.open(path, flags, FILE_MODE)
        except FileNotFoundError:
            if attempt == 2:
                raise
    raise AssertionError


def make_folders(folder: Path) -> None:
    """Create a directory and those above it, for the server's user and its group.

    Raises:
        OSError: it cannot be created.
    """
    if not folder.is_dir():
        if folder.parent != folder:
            make_folders(folder.parent)
        folder.mkdir(FOLDER_MODE, exist_ok=True)


def _sync(folder: Path) -> None:
    """Flush the name of a file, where directories can be: the file itself is complete."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_dead(path: Path) -> bool:
    """Ask whether the process that began a file is certainly gone."""
    try:
        if time.time() - path.stat().st_mtime < _DEAD_SECONDS:
            return False
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True
