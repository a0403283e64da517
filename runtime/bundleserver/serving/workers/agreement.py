"""What all worker processes have open: the pure part of the agreement."""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce

from bundleserver.manager.admission import VersionKey


class Agreement:
    """Who has what open, and who counts; used by one thread.

    A worker process counts once it has all that those who count have in common, and begins to
    listen only then. So one that begins takes nothing away from the others, and what answers in one
    answers in all.
    """

    def __init__(self) -> None:
        self._opened: dict[int, frozenset[VersionKey]] = {}
        self._failed: dict[int, Mapping[VersionKey, str]] = {}
        self._joined: set[int] = set()

    @property
    def agreed(self) -> frozenset[VersionKey]:
        """What every worker process that counts has open."""
        opened = [self._opened[number] for number in sorted(self._joined)]
        return reduce(frozenset.intersection, opened) if opened else frozenset()

    @property
    def joined(self) -> frozenset[int]:
        """The worker processes that count."""
        return frozenset(self._joined)

    def failed_elsewhere(self, number: int) -> dict[VersionKey, str]:
        """Return what does not load in worker processes that count, other than the one asking."""
        return {
            key: why
            for other, failed in sorted(self._failed.items())
            if other != number and other in self._joined
            for key, why in failed.items()
        }

    def report(
        self, number: int, opened: frozenset[VersionKey], failed: Mapping[VersionKey, str]
    ) -> None:
        """Take in the report of a worker process, and let it count if it has caught up."""
        self._opened[number], self._failed[number] = opened, failed
        if opened >= self.agreed:
            self._joined.add(number)

    def leave(self, number: int) -> None:
        """Forget a worker process that has ended."""
        self._opened.pop(number, None)
        self._failed.pop(number, None)
        self._joined.discard(number)
