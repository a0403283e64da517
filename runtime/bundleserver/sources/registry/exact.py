"""Downloads of exactly the announced size, from registries that may send more."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from bundleserver.errors import IntegrityError, Problem

_PIECE_BYTES = 1 << 20


def download_exactly(
    download: Callable[[str], None], target: Path, size: int, what: str, identity: str
) -> None:
    """Let a library download a file into a pipe, and cut it off after the announced size.

    The library writes wherever it is told to, and knows no limit; a pipe whose reader is gone ends
    its download, and with it the connection.

    Args:
        download: writes the file to a path; it opens the path once and writes in order.
        target: the file.
        size: its announced size in bytes.
        what: the file, for messages.
        identity: whose file it is, for messages.

    Raises:
        IntegrityError: more bytes came than announced.
        OSError: the target cannot be written.
    """
    source, sink = os.pipe()
    reader = _Reader(source, target, size)
    thread = threading.Thread(target=reader.run, name=f"download {what}", daemon=True)
    thread.start()
    try:
        download(f"/proc/self/fd/{sink}")
    except OSError:
        if not reader.is_over:
            raise
    finally:
        os.close(sink)
        thread.join()
    if reader.is_too_long:
        raise too_long(what, identity, size)
    if reader.error is not None:
        raise reader.error


def too_long(what: str, identity: str, size: int) -> IntegrityError:
    """Return the error that more bytes came than announced."""
    problem = f"has more than the announced {size} bytes; the download was cut off"
    return IntegrityError(identity, [Problem(what, problem)])


def growth_check(target: Path, size: int, what: str, identity: str) -> Callable[[], None]:
    """Make a check for a library that writes a file, or a draft of it beside it, as it likes.

    It raises an IntegrityError once there are more bytes than announced.
    """
    before = _bytes_at(target)

    def check() -> None:
        if _bytes_at(target) - before > size:
            raise too_long(what, identity, size)

    return check


def _bytes_at(target: Path) -> int:
    """Return how many bytes have come of a file: drafts are its name with something around it."""
    total = 0
    with suppress(OSError), os.scandir(target.parent) as entries:
        for entry in entries:
            if target.name in entry.name:
                with suppress(OSError):
                    total += entry.stat(follow_symlinks=False).st_size
    return total


class _Reader:
    """Copies a pipe into a file, up to a size; then nobody reads the pipe any more."""

    def __init__(self, source: int, target: Path, size: int) -> None:
        self._source = source
        self._target = target
        self._left = size
        self.is_too_long = False
        self.error: OSError | None = None

    @property
    def is_over(self) -> bool:
        """Whether it has stopped before the end."""
        return self.is_too_long or self.error is not None

    def run(self) -> None:
        """Copy until the end, the size, or an error of the disk."""
        with os.fdopen(self._source, "rb", buffering=0) as source:
            try:
                with self._target.open("wb") as target:
                    self._copy(source, target)
            except OSError as error:
                self.error = error

    def _copy(self, source: BinaryIO, target: BinaryIO) -> None:
        while piece := source.read(_PIECE_BYTES):
            if len(piece) > self._left:
                self.is_too_long = True
                return
            self._left -= len(piece)
            target.write(piece)
