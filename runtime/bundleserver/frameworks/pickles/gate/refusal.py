"""What the gate says when it refuses a pickle."""

from __future__ import annotations

import pickle


class Refused(pickle.UnpicklingError):
    """A pickle does what ``--pickle_policy=listed`` does not allow; says what, and why."""


class NotListed(Refused):
    """A pickle uses a name that no list has, or in a way in which it is not listed.

    Attributes:
        name: the class or function.
        way: the way in which it would have to be listed; empty: it is not listed at all.
    """

    def __init__(self, name: str, way: str = "", use: str = "") -> None:
        what = f"'{name}', which is not listed" if not way else f"'{name}' {use}"
        super().__init__(
            f"it names {what}" if not way else f"it uses {what}, but it is not listed as '{way}'"
        )
        self.name = name
        self.way = way


class Uncheckable(Refused):
    """A pickle has what its library writes and nothing here can compare; says what."""


def kind_of(value: object) -> str:
    """Name an object's class, for a message."""
    kind = type(value)
    return f"{kind.__module__}.{kind.__qualname__}"
