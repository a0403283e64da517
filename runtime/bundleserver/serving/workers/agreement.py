"""Which versions all worker processes have loaded: the pure part of the agreement."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import reduce

from bundleserver.manager.admission import VersionKey


class Agreement:
    """The loaded versions of each worker process; used by one thread.

    A worker process joins once it has loaded the agreed set, and listens only then. So a new one
    removes no version from the others, and what answers in one answers in all.
    """

    def __init__(self) -> None:
        self._opened: dict[int, frozenset[VersionKey]] = {}
        self._failed: dict[int, Mapping[VersionKey, str]] = {}
        self._joined: set[int] = set()
        self._barred: frozenset[VersionKey] = frozenset()

    @property
    def agreed(self) -> frozenset[VersionKey]:
        """What every joined worker process has loaded."""
        opened = [self._opened[number] for number in sorted(self._joined)]
        return reduce(frozenset.intersection, opened) - self._barred if opened else frozenset()

    @property
    def joined(self) -> frozenset[int]:
        """The joined worker processes."""
        return frozenset(self._joined)

    def failed_elsewhere(self, number: int) -> dict[VersionKey, str]:
        """Return the failed loads of joined worker processes other than this one."""
        return {
            key: why
            for other, failed in sorted(self._failed.items())
            if other != number and other in self._joined
            for key, why in failed.items()
        }

    def report(
        self, number: int, opened: frozenset[VersionKey], failed: Mapping[VersionKey, str]
    ) -> None:
        """Store the report of a worker process, which joins if it has loaded the agreed set."""
        self._opened[number], self._failed[number] = opened, failed
        if opened >= self.agreed:
            self._joined.add(number)

    def bar(self, barred: Collection[VersionKey]) -> None:
        """Set the versions that are never agreed, as their loads have ended a worker process."""
        self._barred = frozenset(barred)

    def leave(self, number: int) -> None:
        """Remove a worker process that has exited."""
        self._opened.pop(number, None)
        self._failed.pop(number, None)
        self._joined.discard(number)
