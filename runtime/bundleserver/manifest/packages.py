"""Packages in a manifest: their names, and versions that a line of a Dockerfile may have."""

from __future__ import annotations

from collections.abc import Mapping

from packaging.version import InvalidVersion, Version

PACKAGE_NAME = r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$"

VERSION_CHARACTERS = r"^[A-Za-z0-9][A-Za-z0-9.!+_-]*$"
"""What every version matches, as a pattern of JSON Schema."""

MOST_VERSION_CHARACTERS = 128


def is_version(text: str) -> bool:
    """Ask whether a text is one version as PEP 440 has it: no range, and nothing beside it."""
    if len(text) > MOST_VERSION_CHARACTERS or text != text.strip():
        return False
    try:
        Version(text)
    except InvalidVersion:
        return False
    return True


def numbered(packages: Mapping[str, str | None]) -> dict[str, str]:
    """Leave out packages without a version, or with one that no manifest may have."""
    return {name: version for name, version in packages.items() if version and is_version(version)}
