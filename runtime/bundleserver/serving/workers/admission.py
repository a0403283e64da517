"""Which versions one worker process may serve: those that all of them have loaded."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from bundleserver.manager.admission import Admission, VersionKey
from bundleserver.versions import Version


class SharedAdmission(Admission):
    """Admits what every worker process has loaded, and refuses what fails in another one.

    The manager calls it under its lock; the member's thread updates it.
    """

    def __init__(self, agreed: Collection[VersionKey]) -> None:
        """Set the agreed set of the others, which this process must load before ``join``."""
        self._agreed = self._required = frozenset(agreed)
        self._failed: Mapping[VersionKey, str] = {}

    def agree(self, agreed: Collection[VersionKey], failed: Mapping[VersionKey, str]) -> None:
        """Update the agreed set, and the failures in other worker processes."""
        self._agreed, self._failed = frozenset(agreed), dict(failed)

    def join(self) -> None:
        """Clear the required set: this process has loaded the agreed set."""
        self._required = frozenset()

    def may_serve(self, key: VersionKey) -> bool:
        """Ask whether every worker process has it loaded."""
        return key in self._agreed

    def refusal(self, key: VersionKey) -> str | None:
        """Return why it fails in another worker process; None if it does not."""
        why = self._failed.get(key)
        return why and why.replace("FAILED", "FAILED in another worker process", 1)

    def required(self, model: str) -> Collection[Version]:
        """Return the versions that this process must load before ``join``."""
        return [Version(key.version) for key in self._required if key.model == model]
