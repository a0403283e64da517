"""The bytes of all request bodies in flight in this process, within one limit."""

from __future__ import annotations

from bundleserver.errors import RequestTooLarge, TooManyBytes

SMALL_BYTES = 64 * 2**10
"""Smaller bodies have a share of their own: large ones that arrive slowly must not hold them up."""

_LEAST_SHARE = 2**20


class InflightBytes:
    """Counts the bodies of requests from their heads to their answers. On the event loop.

    Small ones that have come whole with their heads are not counted. Small ones pass as long as
    all of them are within a quarter of the limit, whatever the large ones hold.

    Attributes:
        held: bytes of those that are in flight.
    """

    def __init__(self, limit: int) -> None:
        """Allow so many bytes; 0: any number."""
        self._limit = limit
        self._share = max(limit // 4, _LEAST_SHARE)
        self._held_small = 0
        self.held = 0

    def has_room(self, size: int, before: int = 0) -> bool:
        """Ask whether a body may have this size, of which so much was counted before."""
        held, most = self._others(size, before)
        return not self._limit or held + size <= most

    def take(self, size: int, before: int = 0) -> None:
        """Count a body of which so much was counted before; it is to be given back.

        Raises:
            RequestTooLarge: it alone would exceed the limit.
            TooManyBytes: all would exceed the limit.
        """
        if self._limit and size > max(self._limit, SMALL_BYTES):
            raise RequestTooLarge(self._limit, "--max_inflight_bytes")
        if not self.has_room(size, before):
            raise TooManyBytes(size, *self._others(size, before))
        self.give_back(before)
        self.held += size
        if size <= SMALL_BYTES:
            self._held_small += size

    def give_back(self, size: int) -> None:
        """Count a body no more."""
        self.held -= size
        if size <= SMALL_BYTES:
            self._held_small -= size

    def _others(self, size: int, before: int) -> tuple[int, int]:
        """Return what others of its kind hold, and how much they may hold with it."""
        if size > SMALL_BYTES:
            return self.held - before, self._limit
        return self._held_small - before, self._share


class Held:
    """What one request has taken; it may grow, and is given back once."""

    def __init__(self, bodies: InflightBytes) -> None:
        self._bodies = bodies
        self._size = 0

    def grow_to(self, size: int) -> None:
        """Take so many bytes in all.

        Raises:
            RequestTooLarge: it alone would exceed the limit.
            TooManyBytes: all requests would exceed the limit.
        """
        if size > self._size:
            self._bodies.take(size, self._size)
            self._size = size

    def give_back(self) -> None:
        """Give all of it back."""
        self._bodies.give_back(self._size)
        self._size = 0
