"""Whether clients of the version that serves go on with the one that takes its place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bundleserver.tensors.breaking import Interface, find_breaks
from bundleserver.versions import Version

if TYPE_CHECKING:
    from bundleserver.manager.leases import Loaded
    from bundleserver.manager.records import VersionRecord

_DEFAULT = ""


@dataclass(frozen=True)
class _Known:
    """What answered, without its bundle."""

    version: Version
    fingerprint: str
    interface: Interface

    def is_of(self, version: Version, fingerprint: str) -> bool:
        return (self.version, self.fingerprint) == (version, fingerprint)


class LastServed:
    """What the clients of a model rely on: what answered last by default, and under each label.

    Every method is called under the manager's lock.
    """

    def __init__(self) -> None:
        self._known: dict[str, _Known] = {}
        self._is_over = False

    def end(self) -> None:
        """Follow nothing any more: versions end because the server does."""
        self._is_over = True

    def why_not(self, loaded: Loaded, versions: Mapping[Version, VersionRecord]) -> str:
        """Say what would break clients if a bundle served by default; an empty string if nothing.

        Nothing does on the way back, or where what served last could not serve in its place.
        """
        last = self._known.get(_DEFAULT)
        record = None if last is None else versions.get(last.version)
        if last is None or record is None or loaded.version < last.version:
            return ""
        candidate = record.candidate if record.is_loadable else None
        is_there = candidate is not None and last.is_of(last.version, candidate.fingerprint)
        return self._breaks(loaded, _DEFAULT) if record.loaded or is_there else ""

    def follow(
        self,
        serving: Loaded | None,
        labels: Mapping[str, str],
        versions: Mapping[Version, VersionRecord],
    ) -> Iterator[tuple[Version, str]]:
        """Note what answers now; yields what breaks clients of what answered, where that is new.

        Args:
            serving: what answers by default.
            labels: the version of each label.
            versions: the record of each version.
        """
        if self._is_over:
            return
        for asked in self._known.keys() - {_DEFAULT, *labels}:
            del self._known[asked]
        records = {label: versions.get(Version(version)) for label, version in labels.items()}
        under = {label: record.loaded if record else None for label, record in records.items()}
        for asked, loaded in {_DEFAULT: serving, **under}.items():
            if loaded is None or self._is_known(loaded, asked):
                continue
            breaks = loaded.breaks_of[asked] = self._breaks(loaded, asked)
            self._known[asked] = _Known(loaded.version, loaded.fingerprint, loaded.interface)
            if breaks:
                yield loaded.version, breaks

    def _is_known(self, loaded: Loaded, asked: str) -> bool:
        last = self._known.get(asked)
        return last is not None and last.is_of(loaded.version, loaded.fingerprint)

    def _breaks(self, loaded: Loaded, asked: str) -> str:
        last = self._known.get(asked)
        if last is None or self._is_known(loaded, asked):
            return ""
        was, now = f"version {last.version}", f"version {loaded.version}"
        if last.version == loaded.version:
            was, now = f"the previous {was}", f"the new {now}"
        found = find_breaks(last.interface, loaded.interface, was, now)
        whose = f"{was}, which was '{asked}'" if asked else was
        return f"it breaks clients of {whose}: {'; '.join(found)}" if found else ""
