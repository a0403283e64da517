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
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bundleserver.errors import StoreError
from bundleserver.versions import Version, is_version_label

LOG = logging.getLogger(__name__)

STAGING_PREFIX = ".staging-"
LeftBehind = Callable[[str, list[str]], set[str]]
"""Returns which of a directory's names are not copied, like :func:`shutil.ignore_patterns`."""

_ABANDONED_AFTER_SECONDS = 24 * 3600.0
_MOST_ATTEMPTS = 1000
# The errors of rename if the target exists: a directory with files, or something else.
_TAKEN = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR)


def versions_in(root: Path) -> tuple[Version, ...]:
    """Return the versions in a model's directory, oldest first; none if it does not exist."""
    try:
        names = [entry.name for entry in os.scandir(root) if entry.is_dir()]
    except (FileNotFoundError, NotADirectoryError):
        return ()
    return tuple(sorted(Version.parse(name) for name in names if is_version_label(name)))


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
        _allow(directory, _directory_mode(root))
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
                _sync(root)
                return version
        if wanted:
            raise version_exists(root / wanted.label)
    raise StoreError(f"no version could be published to {root}: each next label was already used")


def version_exists(path: Path) -> StoreError:
    """Return the error for a version that exists."""
    return StoreError(
        f"{path} already exists, and a published version is never changed; choose another version"
    )


def copy_bundle(source: Path, target: Path, left_behind: LeftBehind) -> None:
    """Copy a bundle's files into a directory; links among its direct children become files.

    Deeper links stay links, so that those which lead out are refused and loops are not followed;
    names that begin with two dots are Kubernetes' own files in a mounted volume.

    Raises:
        StoreError: something cannot be copied.
    """
    with os.scandir(source) as entries:
        found = list(entries)
    left = left_behind(str(source), [entry.name for entry in found])
    for entry in found:
        if entry.name in left or entry.name.startswith(".."):
            continue
        path, place = Path(entry.path), target / entry.name
        if path.is_dir():
            _copy_tree(path, place, left_behind)
        else:
            # A broken link is copied; opening the bundle reports it as missing.
            shutil.copyfile(path, place, follow_symlinks=path.exists())


def _copy_tree(source: Path, target: Path, left_behind: LeftBehind) -> None:
    try:
        shutil.copytree(source, target, symlinks=True, ignore=left_behind)
    except shutil.Error as error:
        failures = "; ".join(f"{name}: {reason}" for name, _, reason in error.args[0])
        raise StoreError(f"{source} cannot be copied: {failures}") from error


def make_directory(directory: Path) -> None:
    """Create a directory and its parents, with the permissions described above."""
    if not directory.is_dir():
        make_directory(directory.parent)
        directory.mkdir(exist_ok=True)
        _allow(directory, _directory_mode(directory.parent))


def open_to_group(path: Path) -> None:
    """Make a file writable for the group that may write its directory."""
    with suppress(PermissionError):
        _allow(path, 0o644 | _directory_mode(path.parent) & stat.S_IWGRP)


def _free_successor(root: Path, taken: set[str]) -> Version:
    version = next_version(versions_in(root))
    while version.label in taken:
        version = next_version([version])
    return version


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
                _allow(path, 0o644)
                _sync(path)
        _allow(Path(folder), mode)
        _sync(Path(folder))


def _directory_mode(parent: Path) -> int:
    """Return a directory's mode: writable for the group if the parent is, too.

    In a directory with the sticky bit, such as ``/tmp``, only the owner may write.
    """
    mode = parent.stat().st_mode
    return 0o755 if mode & stat.S_ISVTX else 0o755 | mode & stat.S_IWGRP


def _allow(path: Path, mode: int) -> None:
    now = stat.S_IMODE(path.stat().st_mode)
    if now & mode != mode:
        path.chmod(now | mode)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network and FUSE file systems cannot sync directories; they order renames themselves.
        if not path.is_dir() or error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(descriptor)


def _sweep(root: Path) -> None:
    """Remove the directories of killed writers that are older than a day."""
    oldest = time.time() - _ABANDONED_AFTER_SECONDS
    for path in root.glob(f"{STAGING_PREFIX}*"):
        with suppress(FileNotFoundError):
            if path.lstat().st_mtime < oldest:
                _remove(path)


def _remove(path: Path) -> None:
    try:
        if path.is_dir():
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
