"""Opening files that may be anything: what is no regular file is refused, and nothing waits."""

from __future__ import annotations

import errno
import io
import os
import stat
from pathlib import Path

from bundleserver.frameworks.checked_files import CheckedPath

_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def open_regular(path: Path) -> io.BufferedReader:
    """Open a regular file, or the one that a link leads to, for reading.

    Raises:
        OSError: it cannot be read, or is something else; ``strerror`` says what.
    """
    if isinstance(path, CheckedPath):
        return path.open_checked()
    # Asked before it is opened, since opening a device may act on it; asked again of what is open.
    _check(path, path.stat())
    # What becomes a pipe in between does not wait for a writer.
    # Path.open has no opener; whoever asked closes it.
    file = open(path, "rb", opener=_without_waiting)  # noqa: SIM115
    try:
        _check(path, os.fstat(file.fileno()))
    except BaseException:
        file.close()
        raise
    return file


def kind_of(facts: os.stat_result) -> str:
    """Say what is neither a file nor a directory."""
    return _KINDS.get(stat.S_IFMT(facts.st_mode), "something else")


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY)


def _check(path: Path, facts: os.stat_result) -> None:
    if stat.S_ISREG(facts.st_mode):
        return
    if stat.S_ISDIR(facts.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    raise OSError(errno.EINVAL, f"it is {kind_of(facts)}; expected a regular file", str(path))
