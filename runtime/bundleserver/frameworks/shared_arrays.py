"""Large arrays that the workers of one server hold once, in memory that nobody can change.

An array that was read goes into a sealed memory file named after the digest of its bytes. Workers
find each other's through links in a private directory, and map them copy-on-write: to the model it
is an array like any other, and a page that a worker writes to is its own from then on. The kernel
keeps the memory until the last mapping is gone, however its process ends. No file on a disk stands
behind it, which somebody could overwrite, cut short or leave behind.
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

import numpy as np

from bundleserver.tensors import Array

LOG = logging.getLogger(__name__)

LEAST_BYTES = 2**20
"""What is smaller is not worth its two file descriptors and the digest."""

_PART_OF_DESCRIPTORS = 4
"""Shared arrays take no more than a quarter of the file descriptors; the rest is for requests."""


class SharedArrays:
    """The arrays of one worker that the others may hold too. Any thread may call."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._has_warned = False

    def share(self, array: Array) -> Array:
        """Return an array of the same bytes in shared memory, or the same array where it stays."""
        if type(array) is not np.ndarray or array.nbytes < LEAST_BYTES or array.dtype.hasobject:
            return array
        if not (array.flags.c_contiguous or array.flags.f_contiguous):
            return array
        try:
            return self._shared(array)
        except (OSError, AttributeError) as error:  # no memory files here, or no memory for one
            if not self._has_warned:
                self._has_warned = True
                LOG.warning("each worker keeps arrays of its own, as sharing fails: %s", error)
            return array

    def _shared(self, array: Array) -> Array:
        rows = array if array.flags.c_contiguous else array.T
        content = rows.reshape(-1).view(np.uint8)
        mapping = self._map(hashlib.blake2b(content.data, digest_size=32).hexdigest(), content)
        mapped: Array = np.frombuffer(mapping, dtype=array.dtype).reshape(rows.shape)
        return mapped if rows is array else mapped.T

    def _map(self, digest: str, content: Array) -> mmap.mmap:
        with _locked(self._directory):
            descriptor = self._found(digest)
            if descriptor is None:
                descriptor = _written(digest, content)
            link = self._directory / f"{digest}-{os.getpid()}-{descriptor}"
            try:
                _leave_enough_beside(descriptor)
                # A private mapping: what the model writes is copied and stays in this process.
                mapping = mmap.mmap(descriptor, content.nbytes, access=mmap.ACCESS_COPY)
                link.unlink(missing_ok=True)
                link.symlink_to(f"/proc/{os.getpid()}/fd/{descriptor}")
            except BaseException:
                os.close(descriptor)
                raise
        weakref.finalize(mapping, _give_back, link, descriptor)
        return mapping

    def _found(self, digest: str) -> int | None:
        """Open what another process has of these bytes, or this one already."""
        for link in self._directory.glob(f"{digest}-*-*"):
            with suppress(OSError):  # its process has ended, or does not let us
                descriptor = os.open(link, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
                if _is_sealed(descriptor, digest):
                    return descriptor
                os.close(descriptor)
        return None


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Let one thread of one process look and publish at a time; the lock ends with its process."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _written(digest: str, content: Array) -> int:
    """Write bytes to a new memory file and seal it: no process can change or shorten it then."""
    descriptor = os.memfd_create(digest, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        left = content.data
        while left:
            left = left[os.write(descriptor, left) :]
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _seals())
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _leave_enough_beside(descriptor: int) -> None:
    """Raise where descriptors may become scarce; the lowest free number shows how many there are.

    Raises:
        OSError: too many are open.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit != resource.RLIM_INFINITY and descriptor > limit // _PART_OF_DESCRIPTORS:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


def _is_sealed(descriptor: int, digest: str) -> bool:
    """Ask whether a descriptor is what its link said; a process number may have a new owner."""
    name = str(Path(f"/proc/self/fd/{descriptor}").readlink())
    if name != f"/memfd:{digest} (deleted)":
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
    _shared = None if directory is None else SharedArrays(directory)
    # A worker that was killed, and that this one may replace, has left links that lead nowhere.
    with suppress(OSError):
        for link in () if directory is None else directory.glob("*-*-*"):
            if link.is_symlink() and not link.exists():
                link.unlink(missing_ok=True)


def shared_arrays() -> SharedArrays | None:
    """Return where this process shares arrays; None where it serves alone."""
    return _shared
