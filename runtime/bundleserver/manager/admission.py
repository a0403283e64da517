"""The decision when a version may be loaded, and whether an open, warm one may answer."""

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
    """Decides about the beginning of loads, and between WARMING and READY.

    This one lets every load begin, and admits every version as soon as it is warm.

    Called under the manager's lock, so it must not block. When its answers change, call
    ``Manager.reconsider``.

    Attributes:
        served: the models that other processes of this server answer for, at its start.
    """

    served: Collection[str] = ()

    def may_load(self, key: VersionKey) -> bool:
        """Ask whether a load may begin now; the first time asks for that."""
        return True

    def bar(self, key: VersionKey) -> str | None:
        """Return why it must not be loaded, as ``FAILED …``; None if it may be, now or later."""
        return None

    def end_load(self, key: VersionKey) -> None:
        """Note that a load has ended, or will not begin."""

    def may_serve(self, key: VersionKey) -> bool:
        """Ask whether an open version may answer now."""
        return True

    def refusal(self, key: VersionKey) -> str | None:
        """Return why it must not answer, as ``FAILED …``; None while that is undecided."""
        return None

    def is_barred_for_good(self, key: VersionKey) -> bool:
        """Ask whether it is refused until its files change."""
        return False

    def required(self, model: str) -> Collection[Version]:
        """Return the versions of a model to load whatever its policy selects."""
        return ()
