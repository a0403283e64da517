"""The contents of a pickle or joblib file, without importing or running anything.

Every class and function is replaced by its name, and every object by a record of how it would be
made.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import BinaryIO, cast

from bundleserver.errors import LoadError
from bundleserver.frameworks.free_memory import free_memory
from bundleserver.frameworks.interface import reading
from bundleserver.frameworks.pickles.bounded import BoundedStream, OverLimit
from bundleserver.frameworks.pickles.inert import InertUnpickler
from bundleserver.frameworks.pickles.made import NOTHING, ClassName, Found, Made
from bundleserver.frameworks.regular_files import open_regular


@dataclass(frozen=True)
class Contents:
    """The contents of a pickle; ``failure`` says why reading stopped early.

    ``head`` has the file's first bytes, to recognise other formats; ``unnamed`` says what may be
    used that is not in ``named``.
    """

    head: bytes
    top: object
    named: frozenset[ClassName]
    sklearn_versions: frozenset[str]
    failure: Exception | None
    unnamed: str = ""


def inspect_pickle(path: Path) -> Contents:
    """Read a pickle as far as possible without running it.

    Raises:
        LoadError: the file cannot be read, or not within the limits.
    """
    with reading(path), open_regular(path) as raw:
        contents = _inspect(raw)
    if isinstance(contents.failure, (OverLimit, MemoryError, RecursionError)):
        reason = str(contents.failure) or type(contents.failure).__name__
        raise LoadError(
            f"'{path}' cannot be inspected within the limits: {reason}; nothing of it was opened"
        ) from contents.failure
    return contents


@dataclass
class Scan:
    """What the scan of several pickles of a file has done.

    Attributes:
        work: what it took, by which all of them are limited together.
        problems: why what they name may not be all, the first of each.
    """

    work: int = 0
    problems: dict[str, None] = field(default_factory=dict)


def named_classes(
    stream: BinaryIO, size: int, most: int = 1, scan: Scan | None = None
) -> Iterator[ClassName]:
    """Name the classes and functions of the next pickles in a stream, as far as they can be read.

    ``size`` are the bytes on disk, by which the work is limited.
    """
    scan = scan or Scan()
    bounded = BoundedStream(stream, size, free_memory(), tells_end=False, work=scan.work)
    for _ in range(most):
        found = Found()
        try:
            InertUnpickler(bounded, found).load()
        except Exception as error:  # noqa: BLE001 - any bytes may come
            found.unnamed = f"it cannot be read further: {_short(error)}"
        if found.unnamed:
            scan.problems.setdefault(found.unnamed)
        yield from found.named
    scan.work = bounded.work


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _inspect(raw: io.BufferedReader) -> Contents:
    head = raw.peek(256)[:256]
    found = Found()
    top: object = NOTHING
    failure: Exception | None = None
    reader: InertUnpickler | None = None
    try:
        size = raw.seek(0, os.SEEK_END)
        raw.seek(0)
        stream = decompressed(raw, head)
        bounded = BoundedStream(stream, size, free_memory(), tells_end=stream is raw)
        reader = InertUnpickler(bounded, found)
        top = reader.load()
        with suppress(Exception):  # whether a tail is whole nobody asks who opens it
            if bounded.read(1) and not found.unnamed:
                found.unnamed = "bytes follow its end, which no load of ours reads"
    except Exception as error:  # noqa: BLE001 - any bytes may come; load() reports the failure
        failure = error
        top = _first_object(reader)
    return Contents(
        head, top, frozenset(found.named), frozenset(found.versions), failure, found.unnamed
    )


def decompressed(raw: io.BufferedReader, magic: bytes) -> BinaryIO:
    """Open the compressed stream that joblib may have written."""
    if magic.startswith(b"\x1f\x8b"):
        return cast(BinaryIO, gzip.GzipFile(fileobj=raw))
    if magic.startswith(b"BZ"):
        return cast(BinaryIO, bz2.BZ2File(raw))
    if magic.startswith((b"\xfd7zXZ", b"\x5d\x00")):
        return cast(BinaryIO, lzma.LZMAFile(raw))
    if magic.startswith(b"\x04\x22\x4d\x18"):
        return cast(BinaryIO, import_module("lz4.frame").LZ4FrameFile(raw))
    if magic.startswith(b"\x78"):
        zlib_file = import_module("joblib.compressor").BinaryZlibFile(raw)
        return io.BufferedReader(zlib_file)
    return raw


def _first_object(reader: InertUnpickler | None) -> object:
    """Return the first object of a damaged pickle."""
    stacks = [*reader.metastack, reader.stack] if reader else []
    first = next((stack[0] for stack in stacks if stack), None)
    return first if isinstance(first, Made) else NOTHING
