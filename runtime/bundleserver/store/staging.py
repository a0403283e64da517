"""Writing a version: into a hidden directory beside the others, then published by one rename.

A writer that is killed leaves a ``.staging-…`` directory, which is not a version and which a later
save removes; it never leaves an incomplete version.

Whatever the umask, everybody may read published files, as the server runs as another user; and a
group that may write the parent directory may write a model's directory too, so that several users
of a group can publish to one volume.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from bundleserver.errors import StoreError
from bundleserver.sources.own_files import own_version
from bundleserver.store.finding import versions_in
from bundleserver.versions import Version

LOG = logging.getLogger(__name__)

STAGING_PREFIX = ".staging-"
_ABANDONED_AFTER_SECONDS = 24 * 3600.0
_MOST_ATTEMPTS = 1000
# The errors of rename if the target exists: a directory with files, or something else.
_TAKEN = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR)


def next_version(versions: Iterable[Version]) -> Version:
    """Return the natural successor of the highest version: ``v2`` → ``v3``, ``1.2.0`` → ``1.2.1``.

    Raises:
        StoreError: the highest is a date, a pre-release or has a suffix, so has no successor.
    """
    highest = max(versions, default=None)
    if highest is None:
        return Version("v1")
    counted = re.fullmatch(r"(.*?)([0-9]+)", highest.label)
    regular = re.fullmatch(r"v?[0-9]+(\.[0-9]+)*", highest.label)
    if counted is None or regular is None or _looks_like_a_date(highest.label):
        raise StoreError(
            f"the newest version '{highest}' has no natural successor; set the version: "
            "version='…', or --version … on the command line"
        )
    head, number = counted.groups()
    return Version.parse(head + str(int(number) + 1).zfill(len(number)))


def _looks_like_a_date(label: str) -> bool:
    """Ask whether a label is ``20251209``, ``202512091200``, ``2025.12`` or ``2025.12.9``."""
    return re.fullmatch(r"v?(19|20)[0-9]{2}(\.[0-9.]+|[0-9]{4}([0-9]{2}){0,3})", label) is not None


@contextmanager
def staged(root: Path) -> Iterator[Path]:
    """Create an empty hidden directory in a model's directory; it is removed unless published.

    Raises:
        StoreError: the directory cannot be created or written, or the disk fails or is full.
    """
    try:
        make_directory(root)
        _sweep(root)
        directory = Path(tempfile.mkdtemp(prefix=STAGING_PREFIX, dir=root))
        with _opened(directory) as descriptor:
            _allow(descriptor, _directory_mode(root))
    except OSError as error:
        raise StoreError(
            f"{root} cannot be written: {_reason(error)}; expected a writable directory"
        ) from error
    try:
        yield directory
    except OSError as error:
        place = f" ({error.filename})" if error.filename else ""
        raise StoreError(f"nothing was published to {root}: {_reason(error)}{place}") from error
    finally:
        _remove(directory)


def publish_staged(
    staging: Path, wanted: Version | None, finish: Callable[[Version], None]
) -> Version:
    """Sync a staged directory to disk and publish it as a version, by one rename.

    Args:
        staging: the directory from :func:`staged`, complete but for what ``finish`` writes.
        wanted: the label to publish under; None is the next free one.
        finish: writes the manifest, which has the label; called again for another label.

    Raises:
        StoreError: the wanted version exists.
        OSError: the disk fails or is full.
    """
    root = staging.parent
    for _ in range(_MOST_ATTEMPTS):
        # A listing, not a stat of one name: network file systems cache missing names for a while.
        taken = {path.name for path in root.iterdir()}
        version = wanted or _free_successor(root, taken)
        if version.label not in taken:
            finish(version)
            _sync_all(staging)
            if _rename(staging, root / version.label):
                _settle(root)
                return version
        if wanted:
            raise version_exists(root / wanted.label)
    raise StoreError(f"no version could be published to {root}: each next label was already used")


def version_exists(path: Path) -> StoreError:
    """Return the error for a version that exists."""
    return StoreError(
        f"{path} already exists, and a published version is never changed; choose another version"
    )


def make_directory(directory: Path) -> None:
    """Create a directory and its parents, with the permissions described above."""
    if not directory.is_dir():
        make_directory(directory.parent)
        directory.mkdir(exist_ok=True)
        with _opened(directory) as descriptor:
            _allow(descriptor, _directory_mode(directory.parent))


def open_shared(path: Path) -> int:
    """Open a file that the group may write which may write its directory; create it if missing.

    Raises:
        OSError: it cannot be opened, or is a link or something else that is no file of its own.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    descriptor = os.open(path, flags, 0o666)
    try:
        facts = os.fstat(descriptor)
        # A second name may lie outside, where nobody wants to be open to a group.
        if not stat.S_ISREG(facts.st_mode) or facts.st_nlink > 1:
            raise OSError(errno.EINVAL, f"{path.name} is not a file of its own; remove it")
        with suppress(PermissionError):
            _allow(descriptor, 0o644 | _directory_mode(path.parent) & stat.S_IWGRP)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _free_successor(root: Path, taken: set[str]) -> Version:
    own = own_version(root)
    taken = taken if own is None else {*taken, own.label}
    version = _successor(versions_in(root), own)
    while version.label in taken:
        version = next_version([version])
    return version


def _successor(versions: Sequence[Version], own: Version | None) -> Version:
    """Return what follows the versions, and a model's own files, which nobody named if first."""
    if own is None:
        return next_version(versions)
    if own.is_first:
        return next_version(versions or [Version("v1")])
    return next_version([own, *versions])


def _rename(staging: Path, target: Path) -> bool:
    """Rename unless the target exists; returns whether it was renamed.

    rename replaces only an empty directory, which the caller has just excluded. Other writers never
    create one: their versions appear with their files.
    """
    inode = staging.stat().st_ino
    try:
        staging.rename(target)
    except OSError as error:
        if error.errno in _TAKEN:
            return False
        # NFS may report ENOENT for a completed rename that was sent twice.
        if error.errno == errno.ENOENT and target.exists() and target.stat().st_ino == inode:
            return True
        raise
    return True


def _sync_all(directory: Path) -> None:
    """Sync every file and directory to disk, readable for the server's user."""
    mode = _directory_mode(directory.parent)
    for folder, _, names in os.walk(directory, topdown=False):
        for name in names:
            path = Path(folder, name)
            if not path.is_symlink():
                _settle(path, 0o644)
        _settle(Path(folder), mode)


def _directory_mode(parent: Path) -> int:
    """Return a directory's mode: writable for the group if the parent is, too.

    In a directory with the sticky bit, such as ``/tmp``, only the owner may write.
    """
    mode = parent.stat().st_mode
    return 0o755 if mode & stat.S_ISVTX else 0o755 | mode & stat.S_IWGRP


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    """Lend a descriptor of a file or directory, and not of what a link leads to."""
    # A descriptor, as what a name stands for may change from one call to the next.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _allow(descriptor: int, mode: int) -> None:
    now = stat.S_IMODE(os.fstat(descriptor).st_mode)
    if now & mode != mode:
        os.fchmod(descriptor, now | mode)


def _settle(path: Path, mode: int = 0) -> None:
    """Sync a file or directory to disk, with at least these permissions."""
    with _opened(path) as descriptor:
        _allow(descriptor, mode)
        try:
            os.fsync(descriptor)
        except OSError as error:
            # Some network and FUSE file systems cannot sync directories; they order renames
            # themselves.
            is_directory = stat.S_ISDIR(os.fstat(descriptor).st_mode)
            if not is_directory or error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
                raise


def _sweep(root: Path) -> None:
    """Remove the directories of killed writers that are older than a day."""
    oldest = time.time() - _ABANDONED_AFTER_SECONDS
    for path in root.glob(f"{STAGING_PREFIX}*"):
        with suppress(FileNotFoundError):
            if path.lstat().st_mtime < oldest:
                _remove(path)


def _remove(path: Path) -> None:
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        LOG.warning("%s could not be removed: %s", path, _reason(error))


def _reason(error: OSError) -> str:
    return error.strerror or str(error)


def replace_file(path: Path, data: bytes) -> None:
    """Write a file by one atomic rename.

    Raises:
        StoreError: it cannot be written.
    """
    try:
        descriptor, name = tempfile.mkstemp(prefix=STAGING_PREFIX, dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fchmod(descriptor, 0o644)
                os.fsync(descriptor)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error.strerror or error}") from error
