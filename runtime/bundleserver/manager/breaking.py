"""Whether clients of the version that serves go on with the one that takes its place."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bundleserver.tensors.breaking import Interface, find_breaks

if TYPE_CHECKING:
    from bundleserver.manager.leases import Loaded
    from bundleserver.versions import Version


class LastServed:
    """What the clients of a model rely on: the version that served last, without its bundle.

    Every method is called under the manager's lock.
    """

    def __init__(self) -> None:
        self._known: tuple[Version, str, Interface] | None = None

    def breaks(self, loaded: Loaded) -> str:
        """Say what would break clients if a bundle served; an empty string if nothing would."""
        if self._known is None or self._known[:2] == (loaded.version, loaded.fingerprint):
            return ""
        version, _, before = self._known
        was, now = f"version {version}", f"version {loaded.version}"
        if version == loaded.version:
            was, now = f"the previous {was}", f"the new {now}"
        found = find_breaks(before, loaded.interface, was, now)
        return f"it breaks clients of {was}: {'; '.join(found)}" if found else ""

    def follow(self, serving: Loaded | None) -> str:
        """Note what serves now; returns what breaks clients, if that is new."""
        if serving is None or self._is(serving):
            return ""
        serving.breaks = self.breaks(serving)
        self._known = serving.version, serving.fingerprint, serving.interface
        return serving.breaks

    def _is(self, loaded: Loaded) -> bool:
        return self._known is not None and self._known[:2] == (loaded.version, loaded.fingerprint)
