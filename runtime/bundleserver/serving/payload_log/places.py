"""Where files of the payload log are: directories as Hive names them, for every reader of Parquet.

``DIR/model=fraud/version=v3/date=2026-11-29/hour=13/20261129T131500Z-1f2e3d4c-000001.parquet``
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

NO_VERSION = "~none"
"""For a request that failed before it was known which version it gets.

It is text as other versions are, since not every reader has text and null in one column; and it
comes after them, since some take the columns of the first file.
"""

_NULL = "__HIVE_DEFAULT_PARTITION__"  # what readers take for null

_LONGEST = 200  # characters of a name; file systems have 255 bytes
_OURS = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{8}-\d{6}\.parquet", re.ASCII)
_BEGUN = re.compile(rf"\.{_OURS.pattern}\.tmp", re.ASCII)
_LEVELS = ("model=", "version=", "date=", "hour=")


class Place(NamedTuple):
    """The directory of an hour of a version; ``hour`` is ``2026-11-29T13``, in UTC."""

    model: str
    version: str | None
    hour: str

    @property
    def directory(self) -> Path:
        """It, below the log's own."""
        date, _, hour = self.hour.partition("T")
        version = NO_VERSION if self.version is None else _quoted(self.version)
        return Path(f"model={_quoted(self.model)}", f"version={version}", f"date={date}") / (
            f"hour={hour}"
        )


def hour_of(seconds: float) -> str:
    """Return the hour of a moment, in UTC."""
    return _hour(int(seconds // 3600))


@lru_cache(maxsize=64)
def _hour(number: int) -> str:
    return time.strftime("%Y-%m-%dT%H", time.gmtime(3600 * number))


def file_name(seconds: float, process: str, number: int) -> str:
    """Name a file: when it was written, by which process, and its number there."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(seconds))
    return f"{stamp}-{process}-{number % 1_000_000:06d}.parquet"


def begun_name(name: str) -> str:
    """Name a file that is not complete: readers ignore what begins with a dot."""
    return f".{name}.tmp"


def is_begun(path: Path) -> bool:
    """Ask whether a file was begun by a payload log and is not complete."""
    return _BEGUN.fullmatch(path.name) is not None


def own_files(directory: Path) -> Iterator[Path]:
    """Yield the files that payload logs wrote or began below a directory, and no others."""
    folders = [directory]
    for level in _LEVELS:
        folders = [inner for folder in folders for inner in _folders(folder, level)]
    for folder in folders:
        for path in _listed(folder):
            if (_OURS.fullmatch(path.name) or is_begun(path)) and not path.is_symlink():
                yield path


def _folders(folder: Path, level: str) -> list[Path]:
    return [
        path
        for path in _listed(folder)
        if path.name.startswith(level) and path.is_dir() and not path.is_symlink()
    ]


def _listed(folder: Path) -> list[Path]:
    """List a directory; another process may have removed it."""
    try:
        return list(folder.iterdir())
    except FileNotFoundError:
        return []


def _quoted(name: str) -> str:
    """Quote a name from a publisher: as one part of a path, which readers turn back into it.

    A name that is too long, is no text or stands for none is its digest; files have it whole.
    """
    try:
        quoted = quote(name, safe="")
    except UnicodeEncodeError:
        quoted = ""
    if 0 < len(quoted) <= _LONGEST and name not in (NO_VERSION, _NULL):
        return quoted
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()
    return f"sha256-{digest}"
