"""A model's manual loads and unloads, which override its policy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from bundleserver.sources import Candidate
from bundleserver.versions import Version


@dataclass
class ManualOrders:
    """What was loaded and unloaded manually. Every method is called under the manager's lock.

    Attributes:
        loaded: versions that the policy does not select.
        unloaded: versions, with their files' fingerprint, None while it is unknown.
        is_stopped: the whole model was unloaded, and nothing was published since.
    """

    loaded: set[Version] = field(default_factory=set)
    unloaded: dict[Version, str | None] = field(default_factory=dict)
    is_stopped: bool = False

    @classmethod
    def from_json(cls, document: Mapping[str, object]) -> ManualOrders:
        """Parse the result of another process's ``to_json``."""
        loaded, unloaded = document.get("loaded"), document.get("unloaded")
        return cls(
            set(map(Version, loaded)) if isinstance(loaded, list) else set(),
            {Version(label): files for label, files in unloaded.items()}
            if isinstance(unloaded, dict)
            else {},
            bool(document.get("stopped")),
        )

    def to_json(self) -> Mapping[str, object]:
        """Return it as JSON values, without empty ones."""
        document = {
            "loaded": [version.label for version in self.loaded],
            "unloaded": {version.label: files for version, files in self.unloaded.items()},
            "stopped": self.is_stopped,
        }
        return {key: value for key, value in document.items() if value}

    def load(self, version: Version) -> None:
        """Undo the unload of a version."""
        self.unloaded.pop(version, None)
        self.is_stopped = False

    def load_all(self) -> None:
        """Undo every unload."""
        self.unloaded.clear()
        self.is_stopped = False

    def unload(self, version: Version, candidate: Candidate | None) -> None:
        """Unload a version with its current files."""
        self.unloaded[version] = candidate.fingerprint if candidate else None
        self.loaded.discard(version)

    def see(self, candidate: Candidate) -> bool:
        """Update from a listed version; returns whether new files end its unload."""
        if not candidate.settled:
            return False
        known = self.unloaded.get(candidate.version, "")
        if known is None:
            self.unloaded[candidate.version] = candidate.fingerprint
            return False
        if known == candidate.fingerprint:
            return False
        self.load(candidate.version)
        return known != ""
