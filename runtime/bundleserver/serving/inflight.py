"""The bytes of all request bodies in flight in this process, within one limit."""

from __future__ import annotations

from bundleserver.errors import TooManyBytes

SMALL_BYTES = 64 * 2**10
"""Smaller bodies always pass: large ones that arrive slowly must not hold them up."""


class InflightBytes:
    """Counts the bodies of requests from their heads to their answers. On the event loop.

    Attributes:
        held: bytes of those that are in flight.
    """

    def __init__(self, limit: int) -> None:
        """Allow so many bytes; 0: any number."""
        self._limit = limit
        self.held = 0

    def has_room(self, size: int, before: int = 0) -> bool:
        """Ask whether a body may have this size, of which so much was counted before."""
        is_free = size <= SMALL_BYTES or not self._limit
        return is_free or self.held - before + size <= self._limit

    def take(self, size: int, before: int = 0) -> None:
        """Count a body of which so much was counted before; it is to be given back.

        Raises:
            TooManyBytes: all would exceed the limit.
        """
        if not self.has_room(size, before):
            raise TooManyBytes(size, self.held - before, self._limit)
        self.held += size - before

    def give_back(self, size: int) -> None:
        """Count a body no more."""
        self.held -= size


class Held:
    """What one request has taken; it may grow, and is given back once."""

    def __init__(self, bodies: InflightBytes) -> None:
        self._bodies = bodies
        self._size = 0

    def grow_to(self, size: int) -> None:
        """Take so many bytes in all.

        Raises:
            TooManyBytes: all requests would exceed the limit.
        """
        if size > max(self._size, SMALL_BYTES):
            self._bodies.take(size, self._size)
            self._size = size

    def give_back(self) -> None:
        """Give all of it back."""
        self._bodies.give_back(self._size)
        self._size = 0
