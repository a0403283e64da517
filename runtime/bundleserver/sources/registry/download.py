"""The artifacts of a registered version: list them, validate their paths, download them."""

from __future__ import annotations

import errno
import logging
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any

from bundleserver.errors import IntegrityError, Problem, SourceError
from bundleserver.sources.registry.bounded import ended_by
from bundleserver.sources.registry.client import RegistryClient
from bundleserver.sources.registry.exact import check_growth, download_exactly

LOG = logging.getLogger(__name__)

_MOST_FILES = 100_000
_MOST_DIRECTORIES = 2_000
_MOST_DEPTH = 32
_PROGRESS_EVERY_SECONDS = 5.0
_LOCAL_TROUBLE = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM}
)


@dataclass(frozen=True)
class Artifact:
    """One file of a version; ``size`` is None if the registry does not list it."""

    path: str
    size: int | None


class Artifacts:
    """The files of one registered version. Used by one thread."""

    def __init__(
        self, client: RegistryClient, name: str, number: str, *, file_seconds: float = 3600.0
    ) -> None:
        """Set the version.

        Args:
            client: calls the registry.
            name: the registered model's.
            number: the version's.
            file_seconds: the timeout of one file.
        """
        self.identity = f"'{name}' version {number}"
        self._client = client
        self._name, self._number = name, number
        self._file_seconds = file_seconds
        self._repository: Any = None
        self._is_streamed = False
        self._directories = self._entries = 0

    def list(self) -> tuple[Artifact, ...]:
        """Return every file of the version, in order.

        Raises:
            SourceError: they cannot be listed.
            IntegrityError: a path leads out of the version's directory.
        """
        self._directories = self._entries = 0
        files = tuple(sorted(self._walk("", 0), key=lambda artifact: artifact.path))
        if not files:
            raise SourceError(f"{self.identity} has no artifacts in the registry")
        return files

    def fetch(self, files: tuple[Artifact, ...], directory: Path) -> None:
        """Download files into a directory, with progress in the log.

        Raises:
            SourceError: a file cannot be downloaded or written.
            IntegrityError: a file's size differs from its listing.
        """
        total = sum(file.size or 0 for file in files)
        self._check_space(total, directory)
        LOG.info("%s: downloading %s files, %s bytes", self.identity, len(files), total)
        started = said = time.monotonic()
        done = 0
        for file in files:
            self._fetch_one(file, directory)
            done += (directory / file.path).stat().st_size
            if time.monotonic() - said >= _PROGRESS_EVERY_SECONDS:
                said = time.monotonic()
                LOG.info("%s: downloaded %s of %s bytes", self.identity, done, total)
        seconds = time.monotonic() - started
        LOG.info("%s: downloaded %s bytes in %.1f s", self.identity, done, seconds)

    def _check_space(self, total: int, directory: Path) -> None:
        with suppress(OSError):
            if total > shutil.disk_usage(directory).free:
                raise SourceError(
                    f"{self.identity} cannot be written to '{directory.parent}': no space left on "
                    f"device for {total} bytes"
                )

    def _fetch_one(self, file: Artifact, directory: Path) -> None:
        target = directory / file.path
        draft = target
        what = f"'{file.path}' of {self.identity}"
        # Nobody announced how large it is: one of half of what is free cannot be meant.
        is_announced = file.size is not None
        most = shutil.disk_usage(directory).free // 2 if file.size is None else file.size
        about = (most, file.path, self.identity)

        def fetch() -> None:
            nonlocal draft
            # MLflow's public function lists the file again, and hides the cause of its errors.
            repository = self._open()
            download = partial(repository._download_file, file.path)
            if self._is_streamed:
                download_exactly(download, target, *about, is_announced=is_announced)
                return
            # An attempt that was given up may write on, where nobody looks any more.
            draft = own = Path(mkdtemp(prefix="attempt-", dir=drafts)) / target.name
            download(str(own))

        def check() -> None:
            if draft is not target:
                check_growth(draft, *about, is_announced=is_announced)

        with (
            _local_trouble(self.identity, directory),
            TemporaryDirectory(prefix=".downloading-", dir=directory) as drafts,
        ):
            target.parent.mkdir(parents=True, exist_ok=True)
            with ended_by(check):
                self._client.attempt(what, lambda: _locally(fetch), self._file_seconds)
            if draft is not target:
                draft.replace(target)
            size = target.stat().st_size
        if file.size not in (None, size):
            raise IntegrityError(
                self.identity, [Problem(file.path, f"has {size} bytes; expected {file.size}")]
            )

    def _walk(self, folder: str, depth: int) -> Iterator[Artifact]:
        if depth > _MOST_DEPTH:
            raise SourceError(f"{self.identity} has directories nested too deep: '{folder}'")
        listed = self._client.ask(
            f"the artifacts of {self.identity}",
            lambda _: tuple(self._open().list_artifacts(folder or None)),
        )
        self._directories += 1
        self._entries += len(listed)
        if self._entries > _MOST_FILES or self._directories > _MOST_DIRECTORIES:
            raise SourceError(
                f"{self.identity} has more than {_MOST_FILES} artifacts, or more than "
                f"{_MOST_DIRECTORIES} directories"
            )
        for info in listed:
            path = str(info.path)
            self._check_path(path, folder)
            if info.is_dir:
                yield from self._walk(path, depth + 1)
            else:
                yield Artifact(path, None if info.file_size is None else int(info.file_size))

    def _check_path(self, path: str, folder: str) -> None:
        pure = PurePosixPath(path)
        is_plain = not pure.is_absolute() and "\\" not in path and "\0" not in path
        inside = is_plain and ".." not in pure.parts and str(pure) == path
        if not inside or str(pure.parent) != (folder or "."):
            raise IntegrityError(
                self.identity,
                [Problem(path, "is outside of the version's directory; nothing was downloaded")],
            )

    def _open(self) -> Any:
        if self._repository is None:
            from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

            uri = f"models:/{self._name}/{self._number}"
            if "?" in self._name:
                # MLflow takes the rest for a query.
                uri = self._client.download_uri(self._name, self._number)
            self._repository = get_artifact_repository(uri)
            self._is_streamed = _streams(self._repository)
        return self._repository


def _streams(repository: Any) -> bool:
    """Ask whether files are written in one piece, as they come: over HTTP and FTP."""
    from mlflow.store.artifact.ftp_artifact_repo import FTPArtifactRepository
    from mlflow.store.artifact.http_artifact_repo import HttpArtifactRepository

    inner = getattr(repository, "repo", repository)
    streaming = (FTPArtifactRepository, HttpArtifactRepository)
    return isinstance(inner, streaming) and Path("/proc/self/fd").is_dir()


class _LocalTrouble(SourceError):
    """A file could not be written here; a retry would not help."""


def _locally(fetch: Callable[[], None]) -> None:
    try:
        fetch()
    except OSError as error:
        if error.errno in _LOCAL_TROUBLE:
            raise _LocalTrouble(error.strerror or str(error)) from error
        raise


@contextmanager
def _local_trouble(identity: str, directory: Path) -> Iterator[None]:
    """Convert errors of this machine's disk to ours."""
    try:
        yield
    except TimeoutError:
        raise
    except (OSError, _LocalTrouble) as error:
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        raise SourceError(
            f"{identity} cannot be written to '{directory.parent}': {reason}"
        ) from error
