"""What is said of a booster's file whose parts do not agree, before compiled code reads it."""

from __future__ import annotations


class NotSound(ValueError):
    """A model would make its library read, or write, outside of its arrays; says what is wrong."""


def demand(*, holds: object, what: str) -> None:
    """Refuse a model unless a condition holds.

    Raises:
        NotSound: it does not; the message is ``what``.
    """
    if not holds:
        raise NotSound(what)
