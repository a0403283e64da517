"""The sets of libraries for which there are images, and which of them a bundle needs."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from packaging.version import InvalidVersion, Version

from bundleserver.bundle.libraries import PYTHON, first_build, public
from bundleserver.bundle.libraries.recorded import Recorded

SETS = Path(__file__).parent / "sets"
"""The directory of the sets, a file each, which 'make library-sets' writes."""

CURRENT = "current"
"""The set of the images without a mark."""


@dataclass(frozen=True)
class Difference:
    """A library of which a set has another version than the recorded one."""

    name: str
    saved: str
    has: str

    def __str__(self) -> str:
        return f"{self.name} {self.has} (saved with {self.saved})"

    @property
    def is_large(self) -> bool:
        """Whether major or minor versions differ, and not only patches."""
        return _minor(self.saved) != _minor(self.has)


@dataclass(frozen=True)
class LibrarySet:
    """One set of versions.

    Attributes:
        name: the name in its file's and its images' names.
        versions: the version of each library, by distribution.
    """

    name: str
    versions: Mapping[str, str]

    @property
    def image_mark(self) -> str:
        """What follows the name of an image of this set, before its tag."""
        return "" if self.name == CURRENT else f"-{self.name}"

    def differences(self, recorded: Recorded) -> tuple[Difference, ...]:
        """List the recorded libraries of which this set has other versions."""
        return tuple(
            Difference(name, saved, self.versions[first_build(name)])
            for name, found in recorded.versions.items()
            for saved in found
            if first_build(name) in self.versions
            and _differs(name, saved, self.versions[first_build(name)])
        )


@functools.cache
def library_sets() -> tuple[LibrarySet, ...]:
    """Return the sets, the current one first."""
    names = sorted((path.stem for path in SETS.glob("*.txt")), key=lambda n: (n != CURRENT, n))
    return tuple(LibrarySet(name, _read(SETS / f"{name}.txt")) for name in names)


def set_for(recorded: Recorded) -> LibrarySet | None:
    """Return the set with the fewest and smallest differences; None if nothing is recorded of any.

    Of several the first one.
    """
    sets = library_sets()
    if not any(first_build(name) in one.versions for one in sets for name in recorded.versions):
        return None
    return min(sets, key=lambda one: _distance(one.differences(recorded)))


def _distance(differences: tuple[Difference, ...]) -> tuple[int, int]:
    return sum(one.is_large for one in differences), len(differences)


def _read(path: Path) -> dict[str, str]:
    lines = (line.partition("==") for line in path.read_text("utf-8").splitlines())
    return {first_build(name): version for name, sign, version in lines if sign}


def _differs(name: str, saved: str, has: str) -> bool:
    if name == PYTHON:
        return _minor(saved) != _minor(has)
    return public(saved) != public(has)


def _minor(version: str) -> tuple[int, ...] | str:
    try:
        return Version(version).release[:2]
    except InvalidVersion:
        return version
