"""Large files without a copy: each piece is compared with its digest before it is used.

The first reading computes the digest of the whole file, which its manifest lists, and one of each
piece. Whatever another process writes into the file after that is noticed before it is used.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
from pathlib import Path, PosixPath
from typing import TYPE_CHECKING

from bundleserver.frameworks.giving_up import go_on

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_PIECE_BYTES = 1 << 20


class CheckedContent:
    """An open file and the digests of its pieces.

    Attributes:
        sha256: the digest of the whole.
        size: its bytes.
        is_changed: a piece was not what it had been.
    """

    def __init__(self, descriptor: int) -> None:
        """Read the whole file once.

        Raises:
            OSError: it cannot be read.
        """
        self._descriptor = descriptor
        self._pieces: list[bytes] = []
        self.size = os.fstat(descriptor).st_size
        self.is_changed = False
        whole = hashlib.sha256()
        for start in range(0, self.size, _PIECE_BYTES):
            go_on()
            data = self._read(start)
            whole.update(data)
            self._pieces.append(hashlib.sha256(data).digest())
        self.sha256 = whole.hexdigest()

    def piece(self, number: int) -> bytes:
        """Return a piece; they are numbered from 0.

        Raises:
            OSError: it is not what it was, or cannot be read.
        """
        data = self._read(number * _PIECE_BYTES)
        if hashlib.sha256(data).digest() != self._pieces[number]:
            self.is_changed = True
            raise OSError(errno.EIO, "it was changed while it was opened")
        return data

    def _read(self, start: int) -> bytes:
        """Read a piece in full, unless the file ends before."""
        data = b""
        most = min(_PIECE_BYTES, self.size - start)
        while len(data) < most:
            more = os.pread(self._descriptor, most - len(data), start + len(data))
            if not more:
                break
            data += more
        return data


class _CheckedFile(io.RawIOBase):
    """A file of checked content."""

    def __init__(self, content: CheckedContent, name: str) -> None:
        super().__init__()
        self.name = name
        self._content = content
        self._at = 0
        self._number = -1
        self._piece = b""

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def seekable(self) -> bool:
        """Say that its position can be set."""
        return True

    def tell(self) -> int:
        """Return the position."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Set the position."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._content.size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Read some bytes, of one piece."""
        if self._at >= self._content.size:
            return 0
        number, start = divmod(self._at, _PIECE_BYTES)
        if number != self._number:
            self._piece, self._number = self._content.piece(number), number
        target = memoryview(buffer).cast("B")
        data = self._piece[start : start + len(target)]
        target[: len(data)] = data
        self._at += len(data)
        return len(data)


class CheckedPath(PosixPath):
    """A path that only :meth:`open_checked` opens; in an f-string it is that of the user's file."""

    content: CheckedContent
    shown: Path

    @classmethod
    def of(cls, content: CheckedContent, shown: Path) -> CheckedPath:
        """Return the path of a content; it has the name of the user's file."""
        # Nothing lies below a device, so that no library opens what is not checked.
        made = cls("/dev/null", shown.name)
        made.content, made.shown = content, shown
        return made

    def open_checked(self) -> io.BufferedReader:
        """Open the content for reading."""
        return io.BufferedReader(_CheckedFile(self.content, str(self.shown)), _PIECE_BYTES)

    def __format__(self, spec: str) -> str:
        """Return the path for a message."""
        return format(str(self.shown), spec)
