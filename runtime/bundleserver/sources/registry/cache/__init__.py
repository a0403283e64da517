"""A persistent cache of fetched versions, shared by replicas.

``<cache_dir>/<model>-<digest>/3-<fingerprint>/`` has the artifacts of version 3 and
``.fetched.json``, the size and digest of every file. One rename publishes a version and one rename
removes it, so a version is complete or absent.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bundleserver.errors import SourceError
from bundleserver.sources.registry.cache.index import (
    INDEX_NAME,
    Damage,
    verified_facts,
    write_index,
)
from bundleserver.sources.registry.cache.locks import delete, locked
from bundleserver.sources.registry.values import RegisteredVersion

LOG = logging.getLogger(__name__)

_PART_PREFIX = ".part-"
_UNLOCKED = "unlocked-"
"""In the name of a part that was begun without the lock: its replica may be alive."""
_GONE_PREFIX = ".gone-"
_ENTRY = re.compile(r"([0-9]{1,18})-([0-9a-f]{16})")
_LEFT_BEHIND_AFTER_SECONDS = 24 * 3600.0


@dataclass(frozen=True)
class Entry:
    """One version in the cache; ``used_at`` is when a replica last opened it."""

    number: str
    fingerprint: str
    directory: Path
    used_at: float


class Cache:
    """The cached versions of one registered model, for any thread; replicas share it."""

    def __init__(
        self,
        cache_dir: Path,
        name: str,
        registry: str,
        *,
        keep: int = 3,
        max_bytes: int | None = None,
        lock_seconds: float = 60.0,
    ) -> None:
        """Set up the cache; nothing is read or written yet.

        Args:
            cache_dir: shared by models and replicas.
            name: the registered model's.
            registry: the registry's URL; each registry has its own entries.
            keep: how many versions to keep in addition to those in use.
            max_bytes: the maximum size of all versions together; None is no limit.
            lock_seconds: how long to wait for another replica that writes nothing.
        """
        self.root = cache_dir / _directory_name(name, registry)
        self._keep = keep
        self._max_bytes = max_bytes
        self._lock_seconds = lock_seconds
        self._coming: dict[str, int] = {}

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
            SourceError: the cache cannot be written.
        """
        lock = self.root / f".lock-{version.number}"
        progress = partial(self._fetched_so_far, version)
        with self._writing(), locked(lock, self._lock_seconds, progress) as is_locked:
            if (found := self.find(version)) is not None:
                return found
            self._sweep(version if is_locked else None)
            prefix = f"{_PART_PREFIX}{version.number}-{'' if is_locked else _UNLOCKED}"
            staging = Path(tempfile.mkdtemp(prefix=prefix, dir=self.root))
            try:
                facts = dict(fill(staging))
                write_index(staging, facts)
                # mkdtemp is private; replicas may run as other users of the same group.
                staging.chmod(0o775)
                self._publish(staging, version)
            finally:
                self._coming.pop(version.number, None)
                shutil.rmtree(staging, ignore_errors=True)
        return self._place(version), facts

    def make_room(self, number: str, bytes_needed: int, in_use: Collection[str]) -> None:
        """Remove least recently used versions until there is room for a new one, until it is added.

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
        self._coming[number] = bytes_needed
        sizes = {entry: size_of(entry.directory) for entry in self.entries()}
        free = self._max_bytes - sum(sizes.values()) - sum(self._coming.copy().values())
        free += bytes_needed
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

    def _fetched_so_far(self, version: RegisteredVersion) -> object:
        """Return what replicas have written of a version, to be compared."""
        state = []
        for part in self.root.glob(f"{_PART_PREFIX}{version.number}-*"):
            for path in (part, *part.rglob("*")):
                with suppress(OSError):
                    status = path.lstat()
                    state.append((path, status.st_size, status.st_mtime_ns))
        return state

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
            delete(gone)
        except OSError as error:
            if error.errno != errno.ENOENT:
                LOG.warning("'%s' could not be removed: %s", directory, error.strerror or error)

    def _sweep(self, version: RegisteredVersion | None) -> None:
        """Remove what killed replicas left of a locked version, and old remains of others."""
        if version is not None:
            for path in self.root.glob(f"{_PART_PREFIX}{version.number}-*"):
                if _UNLOCKED not in path.name:
                    shutil.rmtree(path, ignore_errors=True)
        oldest = time.time() - _LEFT_BEHIND_AFTER_SECONDS
        for prefix in (_GONE_PREFIX, _PART_PREFIX):
            for path in self.root.glob(f"{prefix}*"):
                with suppress(OSError):
                    if path.lstat().st_mtime < oldest:
                        delete(path)


def _directory_name(name: str, registry: str) -> str:
    """Name a model's directory in characters that MLflow does not decode in paths, as ``%20``."""
    plain = re.sub(r"[^A-Za-z0-9._-]", "_", name)[:100]
    known = registry if plain == name else f"{registry}\n{name}"
    return f"{plain}-{hashlib.sha256(known.encode()).hexdigest()[:8]}"


def size_of(directory: Path) -> int:
    """Return the total size of the files in a directory."""
    total = 0
    for path in directory.rglob("*"):
        with suppress(OSError):
            total += path.stat().st_size if path.is_file() else 0
    return total
