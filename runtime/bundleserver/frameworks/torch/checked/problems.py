"""What a checked archive may not have."""

from __future__ import annotations


class NotAllowed(Exception):
    """An archive has what no honest one needs, or what the lists do not name."""

    def __init__(self, where: str, what: str) -> None:
        super().__init__(f"{where} {what}")


def shown(value: object) -> str:
    """Return a value for a message, bounded."""
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:100]}…"
