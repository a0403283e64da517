"""A persistent cache of fetched versions, shared by replicas.

``<cache_dir>/<model>-<digest>/3-<fingerprint>/`` has the artifacts of version 3 and
``.fetched.json``, the size and digest of every file. One rename publishes a version and one rename
removes it, so a version is complete or absent.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import logging
import os
import re
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from bundleserver.errors import SourceError
from bundleserver.sources.registry.cache.index import (
    INDEX_NAME,
    Damage,
    verified_facts,
    write_index,
)
from bundleserver.sources.registry.values import RegisteredVersion

LOG = logging.getLogger(__name__)

_PART_PREFIX = ".part-"
_GONE_PREFIX = ".gone-"
_ENTRY = re.compile(r"([0-9]{1,18})-([0-9a-f]{16})")
_LOCK_PAUSE_SECONDS = 0.2
_LEFT_BEHIND_AFTER_SECONDS = 24 * 3600.0
_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL})


@dataclass(frozen=True)
class Entry:
    """One version in the cache; ``used_at`` is when a replica last opened it."""

    number: str
    fingerprint: str
    directory: Path
    used_at: float


class Cache:
    """The cached versions of one registered model. Called from one thread of each process."""

    def __init__(
        self,
        cache_dir: Path,
        name: str,
        registry: str,
        *,
        keep: int = 3,
        max_bytes: int | None = None,
        lock_seconds: float = 3600.0,
    ) -> None:
        """Set up the cache; nothing is read or written yet.

        Args:
            cache_dir: shared by models and replicas.
            name: the registered model's.
            registry: the registry's URL; each registry has its own entries.
            keep: how many versions to keep in addition to those in use.
            max_bytes: the maximum size of all versions together; None is no limit.
            lock_seconds: the timeout for another replica's download.
        """
        self.root = cache_dir / _directory_name(name, registry)
        self._keep = keep
        self._max_bytes = max_bytes
        self._lock_seconds = lock_seconds

    def entries(self) -> tuple[Entry, ...]:
        """Return the cached versions, most recently used first."""
        found = []
        with suppress(OSError), os.scandir(self.root) as listed:
            for path in listed:
                match = _ENTRY.fullmatch(path.name)
                index = Path(path.path, INDEX_NAME)
                if match is None:
                    continue
                with suppress(OSError):
                    found.append(Entry(match[1], match[2], index.parent, index.stat().st_mtime))
        return tuple(sorted(found, key=lambda entry: entry.used_at, reverse=True))

    def find(self, version: RegisteredVersion) -> tuple[Path, Mapping[str, object]] | None:
        """Return a version's directory and facts, every file verified; None if it is not cached.

        A damaged version is removed, so that it is fetched again and never served.
        """
        directory = self._place(version)
        try:
            facts = verified_facts(directory)
        except FileNotFoundError:
            return None
        except Damage as damage:
            LOG.warning("removing '%s' from the cache, it is damaged: %s", directory, damage)
            self.remove(directory)
            return None
        with suppress(OSError):
            os.utime(directory / INDEX_NAME)
        return directory, facts

    def add(
        self, version: RegisteredVersion, fill: Callable[[Path], Mapping[str, object]]
    ) -> tuple[Path, Mapping[str, object]]:
        """Add a version to the cache, unless another replica has done so meanwhile.

        Args:
            version: the version.
            fill: writes the files into an empty directory, and returns the version's facts.

        Raises:
            SourceError: the cache cannot be written, or another replica takes too long.
        """
        with self._writing(), self._locked(version):
            if (found := self.find(version)) is not None:
                return found
            self._sweep(version)
            staging = Path(
                tempfile.mkdtemp(prefix=f"{_PART_PREFIX}{version.number}-", dir=self.root)
            )
            try:
                facts = dict(fill(staging))
                write_index(staging, facts)
                # mkdtemp is private; replicas may run as other users of the same group.
                staging.chmod(0o775)
                self._publish(staging, version)
            finally:
                shutil.rmtree(staging, ignore_errors=True)
        return self._place(version), facts

    def make_room(self, bytes_needed: int, in_use: Collection[str]) -> None:
        """Remove least recently used versions until there is room for a new one.

        Raises:
            SourceError: there is not enough room beside the versions in use.
        """
        if self._max_bytes is None:
            return
        if bytes_needed > self._max_bytes:
            raise SourceError(
                f"the version has {bytes_needed} bytes, which exceeds --cache_max_bytes "
                f"{self._max_bytes} of '{self.root}'"
            )
        sizes = {entry: size_of(entry.directory) for entry in self.entries()}
        free = self._max_bytes - sum(sizes.values())
        for entry in reversed(sizes):
            if free >= bytes_needed:
                return
            if entry.number not in in_use:
                self.remove(entry.directory)
                free += sizes[entry]
        if free < bytes_needed:
            raise SourceError(
                f"the version has {bytes_needed} bytes; '{self.root}' has {max(free, 0)} left of "
                f"--cache_max_bytes {self._max_bytes} beside the versions in use"
            )

    def collect(self, in_use: Collection[str]) -> None:
        """Remove versions that are neither in use nor among the most recently used."""
        spare = [entry for entry in self.entries() if entry.number not in in_use]
        for entry in spare[self._keep :]:
            LOG.info("removing '%s' from the cache", entry.directory)
            self.remove(entry.directory)

    def _place(self, version: RegisteredVersion) -> Path:
        return self.root / f"{version.number}-{version.fingerprint}"

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            yield
        except OSError as error:
            raise SourceError(
                f"the cache '{self.root}' cannot be written: "
                f"{(error.strerror or str(error)).lower()}; set --cache_dir to a writable directory"
            ) from error

    @contextmanager
    def _locked(self, version: RegisteredVersion) -> Iterator[None]:
        """Lock a version's download among replicas; the system releases the lock of a dead one."""
        path = self.root / f".lock-{version.number}"
        with _lock_file(path) as file:
            deadline = time.monotonic() + self._lock_seconds
            is_logged = False
            while not _try_lock(file.fileno(), path):
                if time.monotonic() > deadline:
                    raise SourceError(
                        f"timeout: another replica has been fetching version {version.number} into "
                        f"'{self.root}' for {self._lock_seconds:g} s"
                    )
                if not is_logged:
                    is_logged = True
                    LOG.info("waiting for another replica to fetch version %s", version.number)
                time.sleep(_LOCK_PAUSE_SECONDS)
            yield

    def _publish(self, staging: Path, version: RegisteredVersion) -> None:
        place = self._place(version)
        try:
            staging.rename(place)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise
            # Without locks another replica may have been first; anything else there is removed.
            if self.find(version) is None:
                self.remove(place)
                staging.rename(place)

    def remove(self, directory: Path) -> None:
        """Remove a version at once, or whatever is in its place."""
        gone = directory.with_name(f"{_GONE_PREFIX}{directory.name}-{secrets.token_hex(8)}")
        try:
            directory.rename(gone)
            _delete(gone)
        except OSError as error:
            if error.errno != errno.ENOENT:
                LOG.warning("'%s' could not be removed: %s", directory, error.strerror or error)

    def _sweep(self, version: RegisteredVersion) -> None:
        """Remove what killed replicas left of this version, and old remains of others."""
        for path in self.root.glob(f"{_PART_PREFIX}{version.number}-*"):
            shutil.rmtree(path, ignore_errors=True)
        oldest = time.time() - _LEFT_BEHIND_AFTER_SECONDS
        for prefix in (_GONE_PREFIX, _PART_PREFIX):
            for path in self.root.glob(f"{prefix}*"):
                with suppress(OSError):
                    if path.lstat().st_mtime < oldest:
                        _delete(path)


def _directory_name(name: str, registry: str) -> str:
    """Name a model's directory in characters that MLflow does not decode in paths, as ``%20``."""
    plain = re.sub(r"[^A-Za-z0-9._-]", "_", name)[:100]
    known = registry if plain == name else f"{registry}\n{name}"
    return f"{plain}-{hashlib.sha256(known.encode()).hexdigest()[:8]}"


def _try_lock(descriptor: int, path: Path) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        LOG.warning("'%s' is on a file system without locks; several replicas may fetch", path)
    return True


def _lock_file(path: Path) -> IO[bytes]:
    """Open a file to lock, whatever is in its place."""
    try:
        return _opened(path)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.EISDIR, errno.EINVAL, errno.ENXIO):
            raise
    LOG.warning("removing '%s', which is no regular file", path)
    _delete(path)
    return _opened(path)


def _opened(path: Path) -> IO[bytes]:
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    file = os.fdopen(os.open(path, flags, 0o666), "r+b", buffering=0)
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    return file


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def size_of(directory: Path) -> int:
    """Return the total size of the files in a directory."""
    total = 0
    for path in directory.rglob("*"):
        with suppress(OSError):
            total += path.stat().st_size if path.is_file() else 0
    return total
