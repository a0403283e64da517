"""The gate between a version that is open and one that answers, where several processes agree."""

from __future__ import annotations

from collections.abc import Collection, Mapping

Key = tuple[str, str, str]
"""One version with certain files: its model, its name and its fingerprint."""


class Gate:
    """What may answer here; a process that serves alone lets everything through.

    Every method is called under the manager's lock.

    Attributes:
        agreed: what every process has open; None where this one serves alone.
        failed: what does not load in one of the others, with its reason.
        waiting: what is open here and waits for the others.
    """

    def __init__(self) -> None:
        self.agreed: frozenset[Key] | None = None
        self.failed: Mapping[Key, str] = {}
        self.waiting: set[Key] = set()

    def begin(self, agreed: Collection[Key]) -> None:
        """Let nothing through from now on but what all have."""
        self.agreed = frozenset(agreed)

    def passes(self, key: Key) -> bool:
        """Ask whether a version may answer."""
        return self.agreed is None or key in self.agreed
