"""Bytes of a text file or of standard input, plain or compressed, and how much has been read."""

from __future__ import annotations

import gzip
import io
import os
import stat
import sys
import zlib
from typing import BinaryIO, cast

from bundleserver.batch.tables.formats import STANDARD, Format
from bundleserver.errors import InvalidInput


class ByteStream(io.RawIOBase):
    """A file from its first byte to its last, with a look at its beginning."""

    def __init__(self, place: str, form: Format) -> None:
        """Open a file or standard input.

        Raises:
            OSError: it cannot be read.
        """
        self._place = place
        self._is_own = place != STANDARD
        self._raw: BinaryIO = open(place, "rb") if self._is_own else sys.stdin.buffer  # noqa: SIM115, PTH123 - closed by close
        self._size = 0
        if self._is_own:
            status = os.fstat(self._raw.fileno())
            self._size = status.st_size if stat.S_ISREG(status.st_mode) else 0
        opened = gzip.open(self._raw) if form.is_gzip else self._raw  # noqa: SIM115 - as above
        self._file = cast("BinaryIO", opened)
        self._first = b""

    def peek(self, count: int) -> bytes:
        """Return the next bytes, at most so many, and do not move."""
        while len(self._first) < count:
            more = self._read(count - len(self._first))
            if not more:
                break
            self._first += more
        return self._first

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def readinto(self, buffer: object) -> int:
        """Read into a buffer."""
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]  # as RawIOBase has it
        data = self._first[: len(view)] or self._read(len(view))
        self._first = self._first[len(data) :] if self._first else b""
        view[: len(data)] = data
        return len(data)

    def _read(self, count: int) -> bytes:
        """Read some bytes.

        Raises:
            InvalidInput: what is compressed is damaged.
        """
        try:
            return self._file.read(count)
        except (zlib.error, gzip.BadGzipFile, EOFError) as error:
            raise InvalidInput(f"'{self._place}' is damaged: {error}") from error

    def fraction(self) -> float | None:
        """Return how much of the file has been read; None if nobody knows its size."""
        return self._raw.tell() / self._size if self._size else None

    def close(self) -> None:
        """Close the file; standard input stays open."""
        if self._is_own and not self.closed:
            self._file.close()
            self._raw.close()
        super().close()
