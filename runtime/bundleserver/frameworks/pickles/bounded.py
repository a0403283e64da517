"""The stream of a pickle, within limits: a few bytes may announce gigabytes, or unpack to them.

The limits grow with the file, so that every file that is as large as what it says is read to its
end; a small one cannot cost much.
"""

from __future__ import annotations

from typing import BinaryIO

MOST_READS = 2_000_000
"""The reads of any file, each of an instruction or a part of one; more by the size of the file."""

MOST_READS_AT_ALL = 30_000_000
"""The reads of the largest file."""

MOST_BYTES = 1 << 30
"""The bytes that any file may unpack to; a hundred times its size more."""

MOST_KEPT_BYTES = 64 << 20
"""The bytes of strings and numbers that are kept of any file; more by its size."""

_LONGEST_LINE = 1 << 16
_LONGEST_READ = 1 << 20
_PIECE = 1 << 18
_MOST_IN_KEY = 1_000


class OverLimit(Exception):
    """A file cannot be inspected within the limits; says which."""


class EndsEarly(EOFError):
    """A file announces more bytes than it has."""


class BoundedStream:
    """What an unpickler reads from: the next bytes of a file, within the limits of its size.

    Args:
        stream: the file, or what unpacks it.
        size: the bytes of the file on disk.
        tells_end: nothing is unpacked, so that ``size`` is the end of the stream.
    """

    def __init__(self, stream: BinaryIO, size: int, *, tells_end: bool) -> None:
        self._stream = stream
        self._end = size if tells_end else None
        self._reads = min(MOST_READS + size, MOST_READS_AT_ALL)
        self._bytes = MOST_BYTES + 100 * size
        self._kept = MOST_KEPT_BYTES + size

    def read(self, count: int) -> bytes:
        """Return so many bytes, or those that are left."""
        if not 0 <= count <= _LONGEST_READ:
            raise OverLimit(f"a value of {count} bytes")
        data = self._stream.read(count)
        self._spend(len(data))
        return data

    def readline(self) -> bytes:
        """Return a line that is an instruction's argument."""
        line = self._stream.readline(_LONGEST_LINE)
        self._spend(len(line))
        if len(line) == _LONGEST_LINE:
            raise OverLimit(f"a line of more than {_LONGEST_LINE} bytes")
        return line

    def text_line(self) -> bytes | None:
        """Return a line of text; None if it is a long one, which is skipped."""
        line = self._stream.readline(_LONGEST_READ)
        self._spend(len(line))
        is_long = len(line) == _LONGEST_READ
        while len(line) == _LONGEST_READ and not line.endswith(b"\n"):
            line = self._stream.readline(_LONGEST_READ)
            self._unpack(len(line))
        return None if is_long else line

    def skip(self, count: int) -> None:
        """Leave out so many bytes, which the stream must have.

        Raises:
            EndsEarly: it has fewer.
        """
        if count < 0:
            raise OverLimit(f"a value of {count} bytes")
        if self._end is not None:
            at = self._stream.tell() + count
            if at > self._end:
                raise EndsEarly(f"it ends {at - self._end} bytes too early")
            self._stream.seek(at)
            return
        while count > 0:
            data = self._stream.read(min(count, _PIECE))
            if not data:
                raise EndsEarly(f"it ends {count} bytes too early")
            count -= len(data)
            self._unpack(len(data))

    def _spend(self, count: int) -> None:
        self._reads -= 1
        self._kept -= count
        if self._reads < 0:
            raise OverLimit("too many instructions for its size")
        if self._kept < 0:
            raise OverLimit("too many strings and numbers for its size")
        self._unpack(count)

    def _unpack(self, count: int) -> None:
        if self._end is None:
            self._bytes -= count
            if self._bytes < 0:
                raise OverLimit("it unpacks to too many bytes for its size")


def checked_key(key: object) -> object:
    """Return a key to keep in place of one that a pickle puts into a dict or set.

    Only strings are kept: others are nothing that is asked for, and to hash them may take for ever.

    Raises:
        OverLimit: to hash it takes long: a tuple of tuples of tuples.
    """
    if type(key) is str:
        return key
    left = [key]
    for _ in range(_MOST_IN_KEY):
        if not left:
            return object()
        part = left.pop()
        if type(part) is tuple:
            left += part[:_MOST_IN_KEY]
    raise OverLimit("a key of a dict or set that has too many parts")
