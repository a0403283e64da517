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
    download: Callable[[str], None],
    target: Path,
    size: int,
    what: str,
    identity: str,
    *,
    is_announced: bool = True,
) -> None:
    """Let a library download a file into a pipe, and cut it off after the announced size.

    The library writes wherever it is told to, and knows no limit; a pipe whose reader is gone ends
    its download, and with it the connection.

    Args:
        download: writes the file to a path; it opens the path once and writes in order.
        target: the file.
        size: its announced size in bytes, or what it may have at most.
        what: the file, for messages.
        identity: whose file it is, for messages.
        is_announced: whether the registry said the size, for messages.

    Raises:
        IntegrityError: more bytes came.
        OSError: the target cannot be written.
    """
    source, sink = os.pipe()
    reader = _Reader(source, target, size)
    thread = threading.Thread(target=reader.run, name=f"download {what}", daemon=True)
    try:
        thread.start()
    except BaseException:
        os.close(source)
        os.close(sink)
        raise
    try:
        download(f"/proc/self/fd/{sink}")
    except OSError:
        if not reader.is_over:
            raise
    finally:
        os.close(sink)
        thread.join()
    if reader.is_too_long:
        raise _too_long(what, identity, size, is_announced)
    if reader.error is not None:
        raise reader.error


def check_growth(
    draft: Path, size: int, what: str, identity: str, *, is_announced: bool = True
) -> None:
    """Check what a library that writes as it likes has written so far.

    Args:
        draft: the file, alone in its directory with what the library writes beside it.
        size: its announced size in bytes, or what it may have at most.
        what: the file, for messages.
        identity: whose file it is, for messages.
        is_announced: whether the registry said the size, for messages.

    Raises:
        IntegrityError: it has more bytes.
    """
    with suppress(OSError), os.scandir(draft.parent) as entries:
        for entry in entries:
            with suppress(OSError):
                if entry.stat(follow_symlinks=False).st_size > size:
                    raise _too_long(what, identity, size, is_announced)


def _too_long(what: str, identity: str, size: int, is_announced: bool) -> IntegrityError:
    announced = f"the announced {size} bytes"
    limit = announced if is_announced else f"{size} bytes, half of the free space"
    problem = f"has more than {limit}; nothing of it is used"
    return IntegrityError(identity, [Problem(what, problem)])


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
