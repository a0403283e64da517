"""Files that no other process finds: in memory, or in the temporary directory without a name."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import tempfile
from pathlib import Path
from typing import IO

from bundleserver.frameworks.free_memory import free_memory

MOST_IN_MEMORY_BYTES = 64 << 20
"""The size of the largest copy that is kept in memory; larger ones are in the temporary directory,
since memory is what a model needs most while it is opened."""

_DESCRIPTORS = Path("/proc/self/fd")
_NOT_WRITABLE = frozenset({errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOENT})


def anonymous_file(size: int) -> IO[bytes]:
    """Create a file without a name: in memory if it is small, else in the temporary directory.

    Where that cannot be written to, or has no room, it is in memory too. No file has a buffer, of
    which the rest would be written, or fail, when it is closed.
    """
    if size <= MOST_IN_MEMORY_BYTES and (small := _memory_file()) is not None:
        return small
    try:
        if shutil.disk_usage(tempfile.gettempdir()).free < size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        made = _disk_file()
    except OSError as error:
        if not (error.errno in _NOT_WRITABLE or is_full(error)):
            raise
        return file_in_memory(size, error)
    if _seals(made) is not None:  # the directory is a tmpfs
        try:
            _check_memory(size, "the temporary directory is in memory, and ")
        except OSError:
            made.close()
            raise
    return made


def is_full(error: BaseException | None) -> bool:
    """Ask whether an error says that there is no room on a disk."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def file_in_memory(size: int, cause: OSError | None = None) -> IO[bytes]:
    """Create a file in memory, if there is room for it beside what is opened of it."""
    why = "" if cause is None else f"{cause.strerror or cause}, and "
    _check_memory(size, why)
    made = _memory_file()
    if made is None:
        raise OSError(errno.ENOMEM, f"{why}no file can be made in memory")
    return made


def _check_memory(size: int, why: str) -> None:
    room = free_memory()
    if 2 * size > room:
        raise OSError(errno.ENOMEM, f"{why}{room} bytes of memory are free for it and the model")


def _disk_file() -> IO[bytes]:
    if _DESCRIPTORS.is_dir():
        return tempfile.TemporaryFile(prefix="bundleserver-", buffering=0)
    return tempfile.NamedTemporaryFile(prefix="bundleserver-", buffering=0)


def _memory_file() -> IO[bytes] | None:
    """Create a file in memory, if the system has those."""
    if not (hasattr(os, "memfd_create") and _DESCRIPTORS.is_dir()):
        return None
    try:
        descriptor = os.memfd_create("bundleserver", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    except OSError:
        return None
    return os.fdopen(descriptor, "wb", buffering=0)


def place_of(copy: IO[bytes]) -> str:
    """Return where the file can be opened again."""
    return str(_DESCRIPTORS / str(copy.fileno())) if _DESCRIPTORS.is_dir() else copy.name


def seal(copy: IO[bytes]) -> None:
    """Refuse all further writes to a file in memory; any other has no name to open it by."""
    seals = _seals(copy)
    if seals is None or seals & fcntl.F_SEAL_SEAL:  # as every file of a tmpfs has
        return
    wanted = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
    fcntl.fcntl(copy.fileno(), fcntl.F_ADD_SEALS, wanted)


def _seals(copy: IO[bytes]) -> int | None:
    """Return the seals of a file in memory; None for one on a disk."""
    if not hasattr(fcntl, "F_GET_SEALS"):
        return None
    try:
        return fcntl.fcntl(copy.fileno(), fcntl.F_GET_SEALS)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return None
