"""The bytes of all request bodies in flight in this process, within one limit."""

from __future__ import annotations

import threading

from bundleserver.errors import RequestCancelled, RequestTooLarge, TooManyBytes

SMALL_BYTES = 64 * 2**10
"""Smaller bodies have a share of their own: large ones that arrive slowly must not hold them up."""

_LEAST_SHARE = 2**20


class InflightBytes:
    """Counts the bodies of requests from their heads to their answers. In any thread.

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
        self._lock = threading.Lock()
        self.held = 0

    def take(self, size: int, before: int = 0) -> None:
        """Count a body of which so much was counted before; it is to be given back.

        Raises:
            RequestTooLarge: it alone would exceed the limit.
            TooManyBytes: all would exceed the limit.
        """
        if self._limit and size > max(self._limit, SMALL_BYTES):
            raise RequestTooLarge(self._limit, "--max_inflight_bytes")
        with self._lock:
            if size > SMALL_BYTES:
                held, most = self.held - before, self._limit
            else:
                held, most = self._held_small - before, self._share
            if self._limit and held + size > most:
                raise TooManyBytes(size, held, most)
            self._replace(before, size)

    def give_back(self, size: int, kept: int = 0) -> None:
        """Count a body no more, or only so much of it."""
        with self._lock:
            self._replace(size, kept)

    def _replace(self, before: int, size: int) -> None:
        self.held += size - before
        if before <= SMALL_BYTES:
            self._held_small -= before
        if size <= SMALL_BYTES:
            self._held_small += size


class Held:
    """What one request has taken; it may grow, also in a thread, and is given back once."""

    def __init__(self, bodies: InflightBytes) -> None:
        self._bodies = bodies
        self._size = 0
        self._is_over = False
        self._lock = threading.Lock()

    def grow_to(self, size: int) -> None:
        """Take so many bytes in all.

        Raises:
            RequestTooLarge: it alone would exceed the limit.
            TooManyBytes: all requests would exceed the limit.
            RequestCancelled: it was given back, so that nobody waits for what grows.
        """
        with self._lock:
            if self._is_over:
                raise RequestCancelled
            if size > self._size:
                self._bodies.take(size, self._size)
                self._size = size

    def shrink_to(self, size: int) -> None:
        """Give back what is more than so many bytes."""
        with self._lock:
            if size < self._size:
                self._bodies.give_back(self._size, size)
                self._size = size

    def give_back(self) -> None:
        """Give all of it back, and take no more."""
        with self._lock:
            self._is_over = True
            self._bodies.give_back(self._size)
            self._size = 0
