"""The size of a request's head, within a limit."""

from __future__ import annotations

from collections.abc import Iterable

from bundleserver.errors import HeadTooLarge


def check_head(target: bytes, headers: Iterable[tuple[bytes, bytes]], most_bytes: int) -> None:
    """Refuse a whole head by its size.

    Raises:
        HeadTooLarge: it has more bytes, unless the limit is 0.
    """
    size = len(target) + sum(len(name) + len(value) + 4 for name, value in headers)
    if size > most_bytes > 0:
        raise HeadTooLarge(size, most_bytes)
