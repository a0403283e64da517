"""Locks of downloads among replicas, which share a cache directory."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from bundleserver.sources.registry.bounded import run_checks

LOG = logging.getLogger(__name__)

_PAUSE_SECONDS = 0.2
_BEAT_SECONDS = 1.0
_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL})


@contextmanager
def locked(path: Path, seconds: float, progress: Callable[[], object]) -> Iterator[bool]:
    """Lock a file among replicas; the system releases the lock of a dead one.

    A replica that hangs keeps its lock. Once ``progress``, which says how far it is, has been the
    same for so long, the block runs without the lock; so it does on a file system without locks.

    Yields whether it is locked.
    """
    with _lock_file(path) as file:
        yield _wait(file.fileno(), path, seconds, progress)


def _wait(descriptor: int, path: Path, seconds: float, progress: Callable[[], object]) -> bool:
    seen: object = None
    looked = since = time.monotonic()
    is_logged = False
    while (is_locked := _try_lock(descriptor, path)) is False:
        run_checks()
        now = time.monotonic()
        if not is_logged or now - looked >= seconds / 10:
            looked, before, seen = now, seen, progress()
            since = now if seen != before else since
        if now - since >= seconds:
            LOG.warning(
                "another replica has held '%s' for %g s and writes nothing; fetching without it",
                path,
                seconds,
            )
            return False
        if not is_logged:
            is_logged = True
            LOG.info("waiting for another replica, which has '%s' locked", path)
        time.sleep(_PAUSE_SECONDS)
    return bool(is_locked)


def _try_lock(descriptor: int, path: Path) -> bool | None:
    """Return whether it is locked now; None if nobody can lock it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        LOG.warning("'%s' is on a file system without locks; several replicas may fetch", path)
        return None
    return True


def heartbeat(directory: Path) -> Callable[[], None]:
    """Make a function that long work calls now and then, so that other replicas see it go on.

    It touches the directory, and raises what ends this thread's calls.
    """
    touched = time.monotonic()

    def beat() -> None:
        nonlocal touched
        run_checks()
        if time.monotonic() - touched >= _BEAT_SECONDS:
            os.utime(directory)
            touched = time.monotonic()

    return beat


def _lock_file(path: Path) -> IO[bytes]:
    """Open a file to lock, whatever is in its place."""
    try:
        return _opened(path)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.EISDIR, errno.EINVAL, errno.ENXIO):
            raise
    LOG.warning("removing '%s', which is no regular file", path)
    delete(path)
    return _opened(path)


def _opened(path: Path) -> IO[bytes]:
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    file = os.fdopen(os.open(path, flags, 0o666), "r+b", buffering=0)
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    return file


def delete(path: Path) -> None:
    """Delete whatever is there.

    Raises:
        OSError: it cannot be deleted.
    """
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
