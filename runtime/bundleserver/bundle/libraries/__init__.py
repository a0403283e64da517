"""Where the libraries of this environment differ from those that a bundle was saved with."""

from __future__ import annotations

import platform
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from bundleserver.errors import Problem
from bundleserver.manifest import Requirements

PYTHON = "python"

_MOST_NAMED = 4
_BUILDS = (("xgboost", "xgboost-cpu"), ("onnxruntime", "onnxruntime-gpu"))
"""Distributions that have one package, built for other devices."""


@dataclass(frozen=True)
class Mismatch:
    """A library of other versions than the recorded ones.

    Attributes:
        name: its distribution, or ``python``.
        saved: the version that was recorded, or that a file names.
        installed: the version here; None if it is not installed, and empty if it tells none.
    """

    name: str
    saved: str
    installed: str | None

    @property
    def problem(self) -> Problem:
        """The difference, under the library's name."""
        here = f"it is {self.installed}" if self.installed else "it has no version"
        if self.installed is None:
            here = "it is not installed"
        return Problem(self.name, f"was {self.saved} when this was saved; here {here}")

    @property
    def facts(self) -> Mapping[str, object]:
        """The difference for the metadata."""
        return {"saved": self.saved, "installed": self.installed}

    def __str__(self) -> str:
        here = f"opened with {self.installed or 'an unknown version'}"
        if self.installed is None:
            here = "it is not installed"
        return f"{self.name} {self.saved} and {here}"


NOTHING_NOTED: Mapping[str, Collection[str]] = {}


def mismatches(
    requirements: Requirements, noted: Mapping[str, Collection[str]] = NOTHING_NOTED
) -> tuple[Mismatch, ...]:
    """List where this environment differs from the one that a bundle was saved in.

    Python differs by its minor version, a package by its public version: the build that follows a
    ``+`` (``2.6.0+cpu``) is no difference.

    Args:
        requirements: what the manifest records.
        noted: what the files themselves say, by distribution; it counts where it differs.
    """
    found = [_of_python(requirements.python)] if requirements.python else []
    found += [_of_package(name, saved) for name, saved in requirements.packages.items()]
    found += [_of_package(name, v) for name, saved in noted.items() for v in sorted(saved)]
    return tuple(dict.fromkeys(one for one in found if one is not None))


def said(found: Sequence[Mismatch]) -> str:
    """Say how a version's libraries differ; an empty string if they do not."""
    if not found:
        return ""
    more = f", and {len(found) - _MOST_NAMED} others" if len(found) > _MOST_NAMED else ""
    return f"saved with {', '.join(map(str, found[:_MOST_NAMED]))}{more}"


def facts(found: Sequence[Mismatch]) -> Iterator[tuple[str, Mapping[str, object]]]:
    """Yield each library that differs, with both versions."""
    yield from ((one.name, one.facts) for one in found)


def first_build(name: str) -> str:
    """Return the canonical name of a distribution, that of the usual build if there are others."""
    canonical = canonicalize_name(name)
    return next((builds[0] for builds in _BUILDS if canonical in builds), canonical)


def name_here(name: str) -> str:
    """Return the name that a package is installed by: its own, or that of another build of it."""
    canonical = canonicalize_name(name)
    same = next((builds for builds in _BUILDS if canonical in builds), ())
    return next(filter(_is_installed, (canonical, *same)), canonical)


def public(version: str) -> str | Version:
    """Return a version to compare, without the build that follows a ``+``."""
    try:
        return Version(Version(version).public)
    except InvalidVersion:
        return version


def _of_python(saved: str) -> Mismatch | None:
    running = platform.python_version()
    try:
        minor = Version(saved).release[:2]
    except InvalidVersion:
        minor = ()
    if minor and minor == Version(running).release[: len(minor)]:
        return None
    return Mismatch(PYTHON, saved, running)


def _is_installed(name: str) -> bool:
    try:
        metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def _of_package(name: str, saved: str) -> Mismatch | None:
    try:
        installed = metadata.version(name_here(name))
    except metadata.PackageNotFoundError:
        return Mismatch(name, saved, None)
    except KeyError:
        # importlib_metadata, which MLflow brings along, raises where Python's own gives None.
        installed = ""
    # Metadata that lacks its version gives None, whatever the signature says.
    if installed and public(installed) == public(saved):
        return None
    return Mismatch(name, saved, installed or "")
