"""What may answer in one worker process: what all of them have open."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from bundleserver.manager.admission import Admission, VersionKey
from bundleserver.versions import Version


class SharedAdmission(Admission):
    """Admits what every worker process has open, and refuses what fails in another one.

    The manager asks under its lock; the member's thread tells, and has it asked again.
    """

    def __init__(self, agreed: Collection[VersionKey]) -> None:
        """Begin with what the others have open, which is loaded here too until ``join``."""
        self._agreed = self._required = frozenset(agreed)
        self._failed: Mapping[VersionKey, str] = {}

    def agree(self, agreed: Collection[VersionKey], failed: Mapping[VersionKey, str]) -> None:
        """Take in what all worker processes have open, and what fails in another one."""
        self._agreed, self._failed = frozenset(agreed), dict(failed)

    def join(self) -> None:
        """Require nothing any more: this process has all that the others have."""
        self._required = frozenset()

    def may_serve(self, key: VersionKey) -> bool:
        """Ask whether every worker process has it open."""
        return key in self._agreed

    def refusal(self, key: VersionKey) -> str | None:
        """Return why it fails in another worker process; None where it does not."""
        why = self._failed.get(key)
        return why and why.replace("FAILED", "FAILED in another worker process", 1)

    def required(self, model: str) -> Collection[Version]:
        """Return what this process has to catch up with."""
        return [Version(key.version) for key in self._required if key.model == model]
