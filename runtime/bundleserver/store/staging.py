"""How a version is written: beside the others under a hidden name, then seen by one rename.

A writer that is killed leaves a ``.staging-…`` directory, which no reader takes for a version and
which a later save removes; it never leaves half a version.

Whatever the umask says, everybody may read what is published, as the server runs under another
user; and a group that may write the directory around it may write a model's directory, too, so that
notebooks under several users of one group publish to one volume.
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
"""Says which of a directory's names are not copied, as :func:`shutil.ignore_patterns` makes it."""

_ABANDONED_AFTER_SECONDS = 24 * 3600.0
_MOST_ATTEMPTS = 1000
# What rename answers when the target is there: a directory with files, or something else.
_TAKEN = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR)


def versions_in(root: Path) -> tuple[Version, ...]:
    """Return the versions that lie in a model root, oldest first; none when it is not there."""
    try:
        names = [entry.name for entry in os.scandir(root) if entry.is_dir()]
    except (FileNotFoundError, NotADirectoryError):
        return ()
    return tuple(sorted(Version.parse(name) for name in names if is_version_label(name)))


def next_version(versions: Iterable[Version]) -> Version:
    """Return the natural successor of the highest version: ``v2`` → ``v3``, ``1.2.0`` → ``1.2.1``.

    Raises:
        StoreError: the highest has none, because it is a date, a pre-release or has a suffix.
    """
    highest = max(versions, default=None)
    if highest is None:
        return Version("v1")
    counted = re.fullmatch(r"(.*?)([0-9]+)", highest.label)
    regular = re.fullmatch(r"v?[0-9]+(\.[0-9]+)*", highest.label)
    if counted is None or regular is None or _looks_like_a_date(highest.label):
        raise StoreError(
            f"the newest version is '{highest}', which has no natural successor; name this "
            "one: version='…', or --version … on the command line"
        )
    head, number = counted.groups()
    return Version.parse(head + str(int(number) + 1).zfill(len(number)))


def _looks_like_a_date(label: str) -> bool:
    """Ask whether a label is ``20251209``, ``202512091200``, ``2025.12`` or ``2025.12.9``."""
    return re.fullmatch(r"v?(19|20)[0-9]{2}(\.[0-9.]+|[0-9]{4}([0-9]{2}){0,3})", label) is not None


@contextmanager
def staged(root: Path) -> Iterator[Path]:
    """Lend an empty hidden directory in a model root; what is not published from it is removed.

    Raises:
        StoreError: the root cannot be created or written, or the disk fails or is full.
    """
    try:
        make_directory(root)
        _sweep(root)
        directory = Path(tempfile.mkdtemp(prefix=STAGING_PREFIX, dir=root))
        _allow(directory, _directory_mode(root))
    except OSError as error:
        raise StoreError(
            f"{root} cannot be written: {_reason(error)}; expected a directory that may be"
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
    """Make everything in a staged directory durable and let it appear as a version, by one rename.

    Args:
        staging: what :func:`staged` lent, complete but for what ``finish`` writes.
        wanted: the label to publish under; None takes the next free one.
        finish: writes what depends on the label, the manifest; called again for another label.

    Raises:
        StoreError: the wanted version exists.
        OSError: the disk fails or is full.
    """
    root = staging.parent
    for _ in range(_MOST_ATTEMPTS):
        # A listing, not a stat of one name: network file systems remember 'not there' for a while.
        taken = {path.name for path in root.iterdir()}
        version = wanted or _free_successor(root, taken)
        if version.label not in taken:
            finish(version)
            _settle(staging)
            if _rename(staging, root / version.label):
                _sync(root)
                return version
        if wanted:
            raise StoreError(
                f"{root / wanted.label} exists already, and a published version is never changed; "
                "choose another version"
            )
    raise StoreError(f"no version could be published to {root}: every next one was taken first")


def copy_bundle(source: Path, target: Path, left_behind: LeftBehind) -> None:
    """Copy a bundle's files into a directory, and what its direct children link to as files.

    Links deeper down stay links, so that those which lead out are refused and none is followed in
    a circle; what names two dots first is Kubernetes' own bookkeeping of a mounted volume.

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
            # A link to nothing stays one: whoever needs it says that it is missing.
            shutil.copyfile(path, place, follow_symlinks=path.exists())


def _copy_tree(source: Path, target: Path, left_behind: LeftBehind) -> None:
    try:
        shutil.copytree(source, target, symlinks=True, ignore=left_behind)
    except shutil.Error as error:
        failures = "; ".join(f"{name}: {reason}" for name, _, reason in error.args[0])
        raise StoreError(f"{source} cannot be copied: {failures}") from error


def make_directory(directory: Path) -> None:
    """Create a directory and its parents, for whom the module says."""
    if not directory.is_dir():
        make_directory(directory.parent)
        directory.mkdir(exist_ok=True)
        _allow(directory, _directory_mode(directory.parent))


def open_to_group(path: Path) -> None:
    """Let a file that its writers need be written by the group that may write its directory."""
    with suppress(PermissionError):
        _allow(path, 0o644 | _directory_mode(path.parent) & stat.S_IWGRP)


def _free_successor(root: Path, taken: set[str]) -> Version:
    version = next_version(versions_in(root))
    while version.label in taken:
        version = next_version([version])
    return version


def _rename(staging: Path, target: Path) -> bool:
    """Rename unless the target exists; answer whether it was done.

    rename replaces nothing but an empty directory, and the caller has just looked for that. Another
    writer of ours never makes one: its versions appear with their files in them.
    """
    inode = staging.stat().st_ino
    try:
        staging.rename(target)
    except OSError as error:
        if error.errno in _TAKEN:
            return False
        # NFS may answer 'not there' to a rename that it has done and was asked for twice.
        if error.errno == errno.ENOENT and target.exists() and target.stat().st_ino == inode:
            return True
        raise
    return True


def _settle(directory: Path) -> None:
    """Write every file and directory through to the disk, readable for the server's user."""
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
    """Say who may read and write a directory: the group, where it may write the parent as well.

    In a directory with the sticky bit, as ``/tmp`` is one, everybody keeps his own.
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
        # Some network and FUSE file systems cannot sync a directory; they order renames themselves.
        if not path.is_dir() or error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(descriptor)


def _sweep(root: Path) -> None:
    """Remove what killed writers left behind more than a day ago."""
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
