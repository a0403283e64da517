"""Which versions one worker process may load, and serve: those that all of them have loaded."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from queue import SimpleQueue
from typing import NamedTuple

from bundleserver.manager.admission import Admission, VersionKey
from bundleserver.versions import Version


class LoadNote(NamedTuple):
    """What the supervisor is told of a load: that it is wanted, or that it has ended."""

    verb: str
    key: VersionKey


class SharedAdmission(Admission):
    """Admits what every worker process has loaded, and refuses what fails in another one.

    The manager calls it under its lock; the member's thread updates it.

    Attributes:
        notes: what the supervisor is to be told, in order.
    """

    def __init__(self, agreed: Collection[VersionKey]) -> None:
        """Set the agreed set of the others, which this process must load before ``join``."""
        self._agreed = self._required = frozenset(agreed)
        self.served = frozenset(key.model for key in agreed)
        self._failed: Mapping[VersionKey, str] = {}
        self._barred: Mapping[VersionKey, str] = {}
        self._for_good: frozenset[VersionKey] = frozenset()
        # Loads that are wanted or underway, and whether they may begin.
        self._loads: dict[VersionKey, bool] = {}
        self.notes: SimpleQueue[LoadNote] = SimpleQueue()

    def agree(
        self,
        agreed: Collection[VersionKey],
        failed: Mapping[VersionKey, str],
        barred: Mapping[VersionKey, str] | None = None,
        for_good: Collection[VersionKey] = (),
    ) -> None:
        """Update the agreed set, the failures in other worker processes, and what ended one.

        ``for_good`` are those of the latter that wait for other files.
        """
        self._agreed, self._failed = frozenset(agreed), dict(failed)
        self._barred, self._for_good = dict(barred or {}), frozenset(for_good)

    def grant(self, key: VersionKey) -> None:
        """Let a load begin that was asked for."""
        if key in self._loads:
            self._loads[key] = True

    def join(self) -> None:
        """Clear the required set: this process has loaded the agreed set."""
        self._required = frozenset()

    def may_load(self, key: VersionKey) -> bool:
        """Ask whether the supervisor lets a load begin; the first time asks for that."""
        if key not in self._loads:
            self._loads[key] = False
            self.notes.put(LoadNote("want", key))
        return self._loads[key]

    def bar(self, key: VersionKey) -> str | None:
        """Return why no process loads it, as it has ended one; None if it has not."""
        why = self._barred.get(key)
        return why and _elsewhere(why)

    def end_load(self, key: VersionKey) -> None:
        """Tell the supervisor that a load has ended, or will not begin."""
        if self._loads.pop(key, None) is not None:
            self.notes.put(LoadNote("end", key))

    def may_serve(self, key: VersionKey) -> bool:
        """Ask whether every worker process has it loaded."""
        return key in self._agreed

    def refusal(self, key: VersionKey) -> str | None:
        """Return why it fails in another worker process; None if it does not."""
        why = self._barred.get(key) or self._failed.get(key)
        return why and _elsewhere(why)

    def is_barred_for_good(self, key: VersionKey) -> bool:
        """Ask whether it has ended a worker process, and is refused until its files change."""
        return key in self._for_good

    def required(self, model: str) -> Collection[Version]:
        """Return the versions that this process must load before ``join``."""
        return [Version(key.version) for key in self._required if key.model == model]


def _elsewhere(why: str) -> str:
    return why.replace("FAILED", "FAILED in another worker process", 1)
