"""Large arrays that the workers of one server hold once, in memory that nobody can change.

The bytes of an array are read into a sealed memory file. Workers find each other's through links in
a private directory, and map them copy-on-write: to the model it is an array like any other, and a
page that a worker writes to is its own from then on. The kernel keeps the memory until the last
mapping is gone, however its process ends. No file on a disk stands behind it, which somebody could
overwrite, cut short or leave behind.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import logging
import mmap
import os
import resource
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

LOG = logging.getLogger(__name__)

LEAST_BYTES = 2**20
"""What is smaller is not worth its two file descriptors and the digest."""

_CHUNK_BYTES = 2**20
_PART_OF_DESCRIPTORS = 4
"""Shared arrays take no more than a quarter of the file descriptors; the rest is for requests."""


class SharedArrays:
    """The arrays of one worker that the others may hold too. Any thread may call."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def read(self, stream: BinaryIO, size: int) -> mmap.mmap:
        """Read so many bytes and return them as memory that workers share; it may be written to.

        Raises:
            OSError: there is no memory, no descriptor or no directory for it.
            EOFError: the stream has fewer bytes.
        """
        own, digest = _received(stream, size)
        try:
            with _locked(self._directory):
                found = self._found(digest, size)
                descriptor = os.dup(own) if found is None else found
                return self._mapped(descriptor, digest, size)
        finally:
            os.close(own)

    def _mapped(self, descriptor: int, digest: str, size: int) -> mmap.mmap:
        """Map a memory file, and let others find it here as long as the mapping is there."""
        inode = os.fstat(descriptor).st_ino
        link = self._directory / f"{digest}-{inode}-{os.getpid()}-{descriptor}"
        try:
            # A private mapping: what the model writes is copied and stays in this process.
            mapping = mmap.mmap(descriptor, size, access=mmap.ACCESS_COPY)
            link.symlink_to(f"/proc/{os.getpid()}/fd/{descriptor}")
        except BaseException:
            os.close(descriptor)
            raise
        weakref.finalize(mapping, _give_back, link, descriptor)
        return mapping

    def _found(self, digest: str, size: int) -> int | None:
        """Open what another worker has of these bytes, or this one already."""
        for link in self._directory.glob(f"{digest}-*"):
            with suppress(OSError):  # its process has ended, or does not let us
                descriptor = os.open(link, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
                if _is_what_it_says(descriptor, link.name.split("-")[1], size):
                    return descriptor
                os.close(descriptor)
        return None


def _received(stream: BinaryIO, size: int) -> tuple[int, str]:
    """Read into a memory file, and seal it: nobody can change or shorten it then."""
    descriptor = os.memfd_create("bundleserver", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    digest = hashlib.blake2b(digest_size=32)
    try:
        _leave_enough_beside(descriptor)
        left = size
        while left:
            chunk = stream.read(min(left, _CHUNK_BYTES))
            if not chunk:
                raise EOFError(f"an array ends {left} bytes too early")
            digest.update(chunk)
            left -= len(chunk)
            while chunk:
                chunk = chunk[os.write(descriptor, chunk) :]
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _seals())
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor, digest.hexdigest()


def _leave_enough_beside(descriptor: int) -> None:
    """Keep descriptors from becoming scarce; the lowest free number shows how many are taken.

    Raises:
        OSError: too many are.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit != resource.RLIM_INFINITY and descriptor > limit // _PART_OF_DESCRIPTORS:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Let one thread of one process look and publish at a time; the lock ends with its process."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _is_what_it_says(descriptor: int, inode: str, size: int) -> bool:
    """Ask whether a link led to the memory that it was made for; its process may be another now."""
    found = os.fstat(descriptor)
    if (str(found.st_ino), found.st_size) != (inode, size):
        return False
    return fcntl.fcntl(descriptor, fcntl.F_GET_SEALS) & _seals() == _seals()


def _seals() -> int:
    return fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL


def _give_back(link: Path, descriptor: int) -> None:
    """Let go of a memory file whose mapping is gone here."""
    with suppress(OSError):
        link.unlink()
    os.close(descriptor)


_shared: SharedArrays | None = None


def share_arrays_in(directory: Path | None) -> None:
    """Share the large arrays of what is opened from now on; with None, share none.

    Args:
        directory: where the workers of this server find each other's; only they may write there.
    """
    global _shared
    _shared = None
    if directory is None:
        return
    if not hasattr(os, "memfd_create"):
        LOG.info("each worker keeps arrays of its own: this system has no memory files")
        return
    _shared = SharedArrays(directory)
    # A worker that was killed, and that this one may replace, has left links that lead nowhere.
    with suppress(OSError):
        for link in directory.iterdir():
            if link.is_symlink() and not link.exists():
                link.unlink(missing_ok=True)


def shared_arrays() -> SharedArrays | None:
    """Return where this process shares arrays; None where it serves alone."""
    return _shared
