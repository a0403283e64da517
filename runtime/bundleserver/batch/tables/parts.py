"""Files that are being written, beside the name that they will have; each locked by its writer."""

from __future__ import annotations

import fcntl
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

_MOST_NAME = 200


def open_part(path: Path) -> tuple[Path, BinaryIO]:
    """Open a new file for what a path will be, and remove those of runs that were killed.

    The lock ends with the process, whatever ends it, so that a later run knows whose file nobody
    writes any more, also on a file system that several machines share.

    Raises:
        OSError: it cannot be made.
    """
    remove_abandoned(path)
    part = path.with_name(f".{path.name[:_MOST_NAME]}.{secrets.token_hex(4)}.part")
    file = part.open("xb")
    # Without locks, as some file systems are, left files stay.
    with suppress(OSError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return part, file


@contextmanager
def held(file: BinaryIO) -> Iterator[None]:
    """Keep the lock of a file that is closed meanwhile, so that it is not taken for a left one."""
    lock = os.dup(file.fileno())
    try:
        yield
    finally:
        os.close(lock)


def remove_abandoned(path: Path) -> None:
    """Remove the unfinished files of a path whose writers have ended."""
    name = re.compile(rf"\.{re.escape(path.name[:_MOST_NAME])}\.[0-9a-f]{{8}}\.part")
    with suppress(OSError):
        for part in path.parent.iterdir():
            if name.fullmatch(part.name):
                _remove_unlocked(part)


def _remove_unlocked(part: Path) -> None:
    if part.is_symlink() or not part.is_file():
        return
    with suppress(OSError), part.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        part.unlink()
