"""Fetched versions on a disk that outlives the process and is shared by replicas.

``<cache_dir>/<model>-<registry>/3-<fingerprint>/`` holds version 3 as it came, beside
``.fetched.json``: the size and digest of every file, written before one rename lets the version
appear. Whoever removes a version renames it away first, so a version is there as a whole or not.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import logging
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from bundleserver.bundle.integrity import file_sha256
from bundleserver.errors import SourceError
from bundleserver.sources.registry.values import RegisteredVersion

LOG = logging.getLogger(__name__)

INDEX_NAME = ".fetched.json"
_FORMAT = "registry-cache/v1"
_PART_PREFIX = ".part-"
_GONE_PREFIX = ".gone-"
_ENTRY = re.compile(r"([0-9]{1,18})-([0-9a-f]{16})")
_LOCK_PAUSE_SECONDS = 0.2
_LEFT_BEHIND_AFTER_SECONDS = 24 * 3600.0
_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL})


@dataclass(frozen=True)
class Entry:
    """One version in the cache; ``used_at`` is when some replica last opened it."""

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
        """Name the place; nothing is looked at or written yet.

        Args:
            cache_dir: shared by models and replicas.
            name: the registered model's.
            registry: the registry's address; versions of another one are not mixed with these.
            keep: how many versions to keep besides those in use.
            max_bytes: the most that all versions may take together; None is no limit.
            lock_seconds: how long to wait for another replica's download.
        """
        digest = hashlib.sha256(registry.encode()).hexdigest()[:8]
        self.root = cache_dir / f"{quote(name, safe='')[:100]}-{digest}"
        self._keep = keep
        self._max_bytes = max_bytes
        self._lock_seconds = lock_seconds

    def entries(self) -> tuple[Entry, ...]:
        """Return what is there, most recently used first."""
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
        """Return a version's directory and facts, every file verified; None when it is not there.

        A damaged one is removed, so that it is fetched again and never served.
        """
        directory = self._place(version)
        try:
            index = json.loads((directory / INDEX_NAME).read_bytes())
            damage = _damage(directory, index)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            damage = f"{INDEX_NAME} cannot be read: {error}"
        if damage is not None:
            LOG.warning("'%s' in the cache is damaged and goes: %s", directory, damage)
            self._remove(directory)
            return None
        with suppress(OSError):
            os.utime(directory / INDEX_NAME)
        return directory, index["facts"]

    def add(
        self,
        version: RegisteredVersion,
        fill: Callable[[Path], Mapping[str, object]],
    ) -> tuple[Path, Mapping[str, object]]:
        """Let a version appear, filled by this process or, meanwhile, by another replica.

        Args:
            version: which one.
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
                _write_index(staging, facts)
                # mkdtemp lets nobody else in; replicas may run under other users of one group.
                staging.chmod(0o775)
                self._appear(staging, self._place(version))
            finally:
                shutil.rmtree(staging, ignore_errors=True)
        return self._place(version), facts

    def make_room(self, bytes_needed: int, in_use: Collection[str]) -> None:
        """Remove what is used least until a version fits.

        Raises:
            SourceError: it does not fit beside what is in use.
        """
        if self._max_bytes is None:
            return
        if bytes_needed > self._max_bytes:
            raise SourceError(
                f"the version takes {bytes_needed} bytes; --cache_max_bytes allows "
                f"{self._max_bytes} in '{self.root}'"
            )
        sizes = {entry: size_of(entry.directory) for entry in self.entries()}
        free = self._max_bytes - sum(sizes.values())
        for entry in reversed(sizes):
            if free >= bytes_needed:
                return
            if entry.number not in in_use:
                self._remove(entry.directory)
                free += sizes[entry]
        if free < bytes_needed:
            raise SourceError(
                f"the version takes {bytes_needed} bytes; '{self.root}' has {max(free, 0)} left of "
                f"--cache_max_bytes {self._max_bytes} beside the versions in use"
            )

    def collect(self, in_use: Collection[str]) -> None:
        """Remove what is neither in use nor among the last few used."""
        spare = [entry for entry in self.entries() if entry.number not in in_use]
        for entry in spare[self._keep :]:
            LOG.info("removing '%s' from the cache", entry.directory)
            self._remove(entry.directory)

    def _place(self, version: RegisteredVersion) -> Path:
        return self.root / f"{version.number}-{version.fingerprint}"

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Word what goes wrong with the disk."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            yield
        except OSError as error:
            raise SourceError(
                f"the cache '{self.root}' cannot be written: "
                f"{(error.strerror or str(error)).lower()}; --cache_dir names a place that can"
            ) from error

    @contextmanager
    def _locked(self, version: RegisteredVersion) -> Iterator[None]:
        """Hold the one download of a version among all replicas; the system frees a dead one's."""
        path = self.root / f".lock-{version.number}"
        with path.open("a") as file:
            deadline = time.monotonic() + self._lock_seconds
            is_told = False
            while not _try_lock(file.fileno(), path):
                if time.monotonic() > deadline:
                    raise SourceError(
                        f"another replica has been fetching version {version.number} into "
                        f"'{self.root}' for {self._lock_seconds:g} s"
                    )
                if not is_told:
                    is_told = True
                    LOG.info("another replica fetches version %s; waiting", version.number)
                time.sleep(_LOCK_PAUSE_SECONDS)
            yield

    def _appear(self, staging: Path, place: Path) -> None:
        try:
            staging.rename(place)
        except OSError as error:
            # Without locks another replica may have been first; what it has put there is whole.
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST) or not place.is_dir():
                raise

    def _remove(self, directory: Path) -> None:
        gone = directory.with_name(f"{_GONE_PREFIX}{directory.name}-{os.getpid()}")
        try:
            directory.rename(gone)
            shutil.rmtree(gone)
        except FileNotFoundError:
            return
        except OSError as error:
            LOG.warning("'%s' could not be removed: %s", directory, error.strerror or error)

    def _sweep(self, version: RegisteredVersion) -> None:
        """Remove what killed replicas left of this version now, and of others long ago."""
        for path in self.root.glob(f"{_PART_PREFIX}{version.number}-*"):
            shutil.rmtree(path, ignore_errors=True)
        oldest = time.time() - _LEFT_BEHIND_AFTER_SECONDS
        for prefix in (_GONE_PREFIX, _PART_PREFIX):
            for path in self.root.glob(f"{prefix}*"):
                with suppress(OSError):
                    if path.stat().st_mtime < oldest:
                        shutil.rmtree(path, ignore_errors=True)


def _try_lock(descriptor: int, path: Path) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        LOG.warning("'%s' is on a file system without locks; replicas may fetch twice", path)
    return True


def _write_index(directory: Path, facts: Mapping[str, object]) -> None:
    """Write down every file's size and digest, and let all of it reach the disk."""
    files = {}
    for path in sorted(directory.rglob("*")):
        if path.is_symlink() or not path.is_file() or path == directory / INDEX_NAME:
            continue
        name = path.relative_to(directory).as_posix()
        files[name] = {"size": path.stat().st_size, "sha256": file_sha256(path)}
        _sync(path)
    index = directory / INDEX_NAME
    index.write_text(json.dumps({"format": _FORMAT, "files": files, "facts": dict(facts)}))
    _sync(index)


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _damage(directory: Path, index: Mapping[str, Any]) -> str | None:
    """Say how a directory differs from its index, or None."""
    if index["format"] != _FORMAT:
        return f"{INDEX_NAME} has format '{index['format']}'; expected '{_FORMAT}'"
    for name, listed in index["files"].items():
        path = directory / name
        try:
            size = path.stat().st_size
            if size != listed["size"]:
                return f"'{name}' has {size} bytes, fetched were {listed['size']}"
            if file_sha256(path) != listed["sha256"]:
                return f"'{name}' has another digest than when it was fetched"
        except OSError as error:
            return f"'{name}' cannot be read: {error.strerror or error}"
    return None


def size_of(directory: Path) -> int:
    """Return how many bytes the files below a directory have."""
    total = 0
    for path in directory.rglob("*"):
        with suppress(OSError):
            total += path.stat().st_size if path.is_file() else 0
    return total
