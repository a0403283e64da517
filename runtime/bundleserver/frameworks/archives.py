"""Zip archives of models: their directories and what they unpack to, within limits."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable
from pathlib import Path

from bundleserver.errors import LoadError
from bundleserver.frameworks.free_memory import free_memory
from bundleserver.frameworks.pickles.bounded import MOST_RATIO, MOST_UNPACKED_BYTES

_MOST_DIRECTORY_BYTES = 8 << 20


def open_archive(file: io.BufferedReader) -> zipfile.ZipFile:
    """Open a zip archive whose directory is of a bounded size; each name in it takes memory.

    Its entries can be streamed, and not read at once.

    Raises:
        LoadError: the directory is larger.
        BadZipFile, ValueError, NotImplementedError: it is damaged.
    """
    return zipfile.ZipFile(_ReadsLittle(file))


def refuse_bombs(path: Path, size: int, entries: Iterable[zipfile.ZipInfo]) -> None:
    """Refuse an archive of ``size`` bytes that announces more than may be read into memory.

    Raises:
        LoadError: its entries overlap, unpack to very much, or do not fit into the free memory.
    """
    packed = stored = unpacked = 0
    for entry in entries:
        packed += entry.compress_size
        if entry.compress_type == zipfile.ZIP_STORED:
            stored += entry.compress_size
        else:
            unpacked += entry.file_size
    most, room = MOST_UNPACKED_BYTES + MOST_RATIO * size, free_memory()
    cause = ""
    if packed > size:
        cause = f"its entries have {packed} bytes, and the file {size}"
    elif unpacked > most:
        cause = (
            f"its compressed entries unpack to {unpacked} bytes; at most {most} are; save it again "
            "without compression"
        )
    elif stored + unpacked > room:
        cause = (
            f"it takes at least {stored + unpacked} bytes of memory, and {room} are free; raise "
            "the container's memory limit"
        )
    if cause:
        raise LoadError(f"'{path}' cannot be opened within the limits: {cause}")


class _ReadsLittle(io.BufferedReader):
    """A file that refuses one large read, as that of an archive's directory."""

    def read(self, size: int | None = -1, /) -> bytes:
        """Return so many bytes, of a bounded number."""
        if size is None or size < 0:
            # zipfile asks so for the archive's end, which is short.
            size = _MOST_DIRECTORY_BYTES
        if size > _MOST_DIRECTORY_BYTES:
            raise LoadError(
                f"'{self.name}' cannot be inspected within the limits: the directory of the "
                f"archive has {size} bytes; at most {_MOST_DIRECTORY_BYTES} are read"
            )
        return super().read(size)
