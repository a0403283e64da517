"""What decides whether a version that is open and warm may answer."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple, Protocol

from bundleserver.versions import Version


class VersionKey(NamedTuple):
    """One version with certain files."""

    model: str
    version: str
    fingerprint: str


Outcomes = Mapping[VersionKey, str | None]
"""What has come of versions: why one does not load; None where it answers, or awaits admission."""


class Admission(Protocol):
    """Decides between WARMING and READY; called under the manager's lock, so it may not wait.

    When its answers change, ``Manager.reconsider`` is to be called.
    """

    def may_serve(self, key: VersionKey) -> bool:
        """Ask whether a version that is open may answer now."""

    def refusal(self, key: VersionKey) -> str | None:
        """Return why it is not to answer, as ``FAILED …``; None while that is not decided."""

    def required(self, model: str) -> Collection[Version]:
        """Return the versions of a model to load whatever its policy wants."""


class AdmitAll:
    """Lets every version answer as soon as it is warm."""

    def may_serve(self, key: VersionKey) -> bool:
        """Admit it."""
        return True

    def refusal(self, key: VersionKey) -> str | None:
        """Refuse nothing."""
        return None

    def required(self, model: str) -> Collection[Version]:
        """Require nothing."""
        return ()
