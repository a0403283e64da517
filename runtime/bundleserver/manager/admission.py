"""The decision whether a version that is open and warm may answer."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from bundleserver.versions import Version


class VersionKey(NamedTuple):
    """A version with its files' fingerprint."""

    model: str
    version: str
    fingerprint: str


Outcomes = Mapping[VersionKey, str | None]
"""The outcome of loads by version: why it failed; None if it answers or awaits admission."""


class Admission:
    """Decides between WARMING and READY; this one admits every version as soon as it is warm.

    Called under the manager's lock, so it must not block. When its answers change, call
    ``Manager.reconsider``.
    """

    def may_serve(self, key: VersionKey) -> bool:
        """Ask whether an open version may answer now."""
        return True

    def refusal(self, key: VersionKey) -> str | None:
        """Return why it must not answer, as ``FAILED …``; None while that is undecided."""
        return None

    def required(self, model: str) -> Collection[Version]:
        """Return the versions of a model to load whatever its policy selects."""
        return ()
