"""Copying the files of a bundle: regular files only, of the sizes that they were found with.

Everything is looked at before the first byte is copied, since a directory may have anything in it:
a link to a device that never ends, a pipe, a file of many gigabytes that takes no room where it is.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

from bundleserver.bundle.beside import found_beside
from bundleserver.bundle.links import ABOUT_VERSIONS
from bundleserver.errors import StoreError
from bundleserver.frameworks.regular_files import kind_of, open_regular
from bundleserver.versions.serving_config import CONFIG_NAME

LeftBehind = Callable[[str, list[str]], set[str]]
"""Returns which of a directory's names are not copied, like :func:`shutil.ignore_patterns`."""

MOST_ENTRIES = 100_000
"""The most files, directories and links of a bundle."""

_PIECE_BYTES = 1 << 20


def copy_bundle(source: Path, target: Path, left_behind: LeftBehind) -> None:
    """Copy a bundle's files into a directory; links among its direct children become files.

    Deeper links stay links, so that those which lead out are refused and loops are not followed;
    names that begin with two dots are Kubernetes' own files in a mounted volume.

    Raises:
        StoreError: it has something else than files, has too much, or changes meanwhile.
        OSError: something cannot be read or written.
    """
    found = list(_found(source, left_behind))
    needed = sum(facts.st_size for _, facts in found if stat.S_ISREG(facts.st_mode))
    room = shutil.disk_usage(target)
    # Some network file systems tell no size at all.
    if room.total and needed > room.free:
        raise StoreError(
            f"{source} has {needed} bytes, and {target.parent} has room for {room.free}; make room "
            "there, or remove files that are no part of the bundle"
        )
    for path, facts in found:
        place = target / path.relative_to(source)
        if stat.S_ISDIR(facts.st_mode):
            place.mkdir()
        elif stat.S_ISLNK(facts.st_mode):
            # A broken link is copied; opening the bundle reports it as missing.
            place.symlink_to(path.readlink())
        else:
            copy_file(path, place, facts.st_size)


def without_versions(source: Path, left_behind: LeftBehind) -> LeftBehind:
    """Leave behind, too, the versions beside a model's own files, and what is about them all.

    Raises:
        OSError: the directory cannot be read.
    """
    beside = found_beside(source)

    def left(directory: str, names: list[str]) -> set[str]:
        found = left_behind(directory, names)
        if not beside or directory != str(source):
            return found
        about_all = {n for n in names if n == CONFIG_NAME or n.startswith(ABOUT_VERSIONS)}
        return {*found, *beside.intersection(names), *about_all}

    return left


def _found(source: Path, left_behind: LeftBehind) -> Iterator[tuple[Path, os.stat_result]]:
    """Yield what is copied, a directory before what is in it."""
    waiting, count = [source], 0
    while waiting:
        directory = waiting.pop()
        is_top = directory == source
        hidden = ".." if is_top else "/"
        for path in _copied(directory, left_behind, hidden, MOST_ENTRIES + 1 - count):
            facts = _facts(path, follow=is_top)
            if stat.S_ISDIR(facts.st_mode):
                waiting.append(path)
            elif not (stat.S_ISREG(facts.st_mode) or stat.S_ISLNK(facts.st_mode)):
                raise StoreError(
                    f"{path} is {kind_of(facts)}; a bundle has only files and directories"
                )
            count += 1
            if count > MOST_ENTRIES:
                raise StoreError(f"{source} has more than {MOST_ENTRIES} files and directories")
            yield path, facts


def _copied(directory: Path, left_behind: LeftBehind, hidden: str, most: int) -> list[Path]:
    """Return what of a directory is not left behind, sorted; no more than so many of it."""
    with os.scandir(directory) as entries:
        names = (entry.name for entry in entries if not entry.name.startswith(hidden))
        kept = (name for name in names if not left_behind(str(directory), [name]))
        return sorted(directory / name for name in islice(kept, most))


def _facts(path: Path, *, follow: bool) -> os.stat_result:
    if follow:
        try:
            return path.stat()
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                raise
    return path.lstat()


def copy_file(path: Path, place: Path, size: int) -> None:
    """Copy so many bytes; what is a hole in the file stays one.

    Raises:
        StoreError: the file has another size by now.
    """
    with open_regular(path) as source, place.open("xb", buffering=0) as made:
        descriptor = source.fileno()
        for start, end in _data(descriptor, size):
            made.seek(start)
            while start < end and (
                piece := os.pread(descriptor, min(_PIECE_BYTES, end - start), start)
            ):
                start += _write(made.fileno(), piece)
        made.truncate(size)
        # Files of the kernel have content, and say that they have no bytes.
        if os.fstat(descriptor).st_size != size or os.pread(descriptor, 1, size):
            raise StoreError(f"{path} changed while it was copied; publish it once it is complete")


def _write(descriptor: int, piece: bytes) -> int:
    view = memoryview(piece)
    while view:
        view = view[os.write(descriptor, view) :]
    return len(piece)


def _data(descriptor: int, size: int) -> Iterator[tuple[int, int]]:
    """Yield where a file has data, up to a size."""
    end = 0
    while end < size:
        try:
            start = os.lseek(descriptor, end, os.SEEK_DATA)
            end = min(size, os.lseek(descriptor, start, os.SEEK_HOLE))
        except OSError as error:
            if error.errno == errno.ENXIO:
                return  # a hole up to its end
            start, end = end, size  # the file system knows no holes
        if start < end:
            yield start, end
