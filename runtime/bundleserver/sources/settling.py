"""When the files of a version are complete, as far as can be seen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bundleserver.sources.files import Contents


@dataclass(frozen=True)
class _Observation:
    """The contents of a version's directory, since when, and whether they are complete."""

    contents: Contents
    since: float
    settled: bool


class Settling:
    """The contents that each directory had last, to detect changes. For one thread."""

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        """Set how long files without a manifest must be unchanged, and what tells the time."""
        self.known: dict[Path, _Observation] = {}
        self._seconds = seconds
        self._clock = clock

    def is_settled(self, location: Path, contents: Contents) -> bool:
        """Ask whether files are complete: at once with a new manifest, which is written last."""
        now = self._clock()
        before = self.known.get(location)
        if before is None or before.contents.fingerprint != contents.fingerprint:
            old = before.contents.manifest if before else None
            now_seen = _Observation(contents, now, contents.manifest not in (None, "", old))
        else:
            rested = before.settled or now - before.since >= self._seconds
            now_seen = _Observation(contents, before.since, rested and not contents.is_uploading)
        self.known[location] = now_seen
        return now_seen.settled

    def is_complete(self, location: Path) -> bool:
        """Ask whether a directory had files when it was last seen, and they were complete."""
        seen = self.known.get(location)
        return seen is not None and seen.settled and not seen.contents.is_empty
