"""The stream of a pickle, within limits: a few bytes may announce gigabytes, or unpack to them.

Work in proportion to the stream is no limit: whoever opens the file does it too. What would not fit
into the free memory is refused before it is read, and so is a small file that unpacks to very many
instructions.
"""

from __future__ import annotations

from typing import BinaryIO

from bundleserver.frameworks.giving_up import go_on

MOST_UNPACKED_BYTES = 64 << 20
"""The bytes of instructions, strings and numbers that any compressed file may unpack to."""

MOST_RATIO = 100
"""So many times its size more. What only skips arrays may unpack to whatever the memory holds."""

LEAST_WORK = 16
"""What the shortest instruction counts as, in those bytes: following it takes as long."""

LONGEST_FAST = 300
"""The bytes that are ahead of ``at`` whenever ``ahead`` says so."""

_LONGEST_LINE = 1 << 16
_LONGEST_READ = 1 << 20
_PIECE = 1 << 18
_MOST_IN_KEY = 1_000


class OverLimit(Exception):
    """A file cannot be inspected within the limits; says which, and what to do."""


class EndsEarly(EOFError):
    """A file announces more bytes than it has."""


class TooHeavy:
    """What stands for a value that was too large to be kept."""


class BoundedStream:
    """What an unpickler reads from: the next bytes of a file, within limits.

    Args:
        stream: the file, or what unpacks it.
        size: the bytes of the file on disk.
        room: the bytes of memory that opening it may take.
        tells_end: nothing is unpacked, so that ``size`` is the end of the stream.
        work: what other streams of the same file took.

    Attributes:
        work: the bytes that were taken, short instructions as more.
        data: some bytes of it.
        at: the next byte in them.
        taken: the bytes before it, without those that were skipped.
    """

    def __init__(
        self, stream: BinaryIO, size: int, room: int, *, tells_end: bool, work: int = 0
    ) -> None:
        self._stream = stream
        self._end = size if tells_end else None
        self._room = room
        self._most_taken = MOST_UNPACKED_BYTES + MOST_RATIO * size
        self._fetched = 0
        self.data = b""
        self.at = 0
        self.taken = 0
        self.work = work

    def ahead(self) -> int:
        """Return the end of ``data`` less what one short instruction takes, and fetch more."""
        if len(self.data) - self.at < LONGEST_FAST:
            self._fetch()
        return len(self.data) - LONGEST_FAST

    def take(self, at: int, instructions: int = 1) -> None:
        """Move to a later place in ``data``, behind so many instructions."""
        self.taken += at - self.at
        self.work += max(at - self.at, LEAST_WORK * instructions)
        self.at = at
        if self._end is None and self.work > self._most_taken:
            raise OverLimit(
                f"it unpacks to more than {self._most_taken} bytes of instructions, each counted "
                f"as {LEAST_WORK} at least; save it without compression"
            )

    def read(self, count: int) -> bytes:
        """Return so many bytes, or those that are left."""
        if not 0 <= count <= _LONGEST_READ:
            raise OverLimit(f"a value of {count} bytes")
        while len(self.data) - self.at < count and self._fetch():
            pass
        data = self.data[self.at : self.at + count]
        self.take(self.at + len(data))
        return data

    def readline(self) -> bytes:
        """Return a line that is an instruction's argument."""
        line = self._line(_LONGEST_LINE)
        if len(line) == _LONGEST_LINE:
            raise OverLimit(f"a line of more than {_LONGEST_LINE} bytes")
        return line

    def text_line(self) -> bytes | None:
        """Return a line of text; None if it is a long one, which is skipped."""
        line = self._line(_LONGEST_READ)
        is_long = len(line) == _LONGEST_READ
        while len(line) == _LONGEST_READ and not line.endswith(b"\n"):
            line = self._line(_LONGEST_READ)
        return None if is_long else line

    def skip(self, count: int) -> None:
        """Leave out so many bytes, which the stream must have.

        Raises:
            EndsEarly: it has fewer.
            OverLimit: they do not fit into the memory.
        """
        if count < 0:
            raise OverLimit(f"a value of {count} bytes")
        left = count - (len(self.data) - self.at)
        if left <= 0:
            self.at += count
            return
        self.data, self.at = b"", 0
        if self._end is not None and self._fetched + left > self._end:
            raise EndsEarly(f"it ends {self._fetched + left - self._end} bytes too early")
        self._count(left)
        if self._end is not None:
            self._stream.seek(left, 1)
            return
        while left > 0:
            go_on()
            data = self._stream.read(min(left, _PIECE))
            if not data:
                raise EndsEarly(f"it ends {left} bytes too early")
            left -= len(data)

    def _fetch(self) -> bool:
        """Read some more; returns False at the end."""
        more = self._stream.read(_PIECE)
        self.data = self.data[self.at :] + more
        self.at = 0
        self._count(len(more))
        return bool(more)

    def _line(self, longest: int) -> bytes:
        searched = 0
        while True:
            end = self.data.find(b"\n", self.at + searched, self.at + longest) + 1
            searched = min(len(self.data) - self.at, longest)
            if end or searched == longest or not self._fetch():
                break
        line = self.data[self.at : end or self.at + searched]
        self.take(self.at + len(line))
        return line

    def _count(self, count: int) -> None:
        self._fetched += count
        if self._fetched > self._room:
            raise OverLimit(
                f"it takes at least {self._fetched} bytes of memory, and {self._room} are free; "
                "raise the container's memory limit, or save a smaller model"
            )


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
        elif type(part) is TooHeavy:
            break
    raise OverLimit("a key of a dict or set that has too many parts")
