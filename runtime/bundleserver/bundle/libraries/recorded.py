"""What a bundle says of the libraries that it was saved with; nothing of it is opened."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from packaging.utils import canonicalize_name

from bundleserver.bundle.libraries import PYTHON
from bundleserver.bundle.reading import read_nested_manifest
from bundleserver.bundle.requirements import files_with_code
from bundleserver.frameworks import facts_of_file
from bundleserver.manifest import BUNDLE, MODEL, Manifest


@dataclass(frozen=True)
class Recorded:
    """The versions that a bundle's manifest and its files name.

    Attributes:
        versions: by distribution, ``python`` first, then in alphabetical order; several where its
            files were saved with several.
        code_of: the Pythons whose bytecode its files have, which no other minor version runs.
    """

    versions: Mapping[str, tuple[str, ...]]
    code_of: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return ", ".join(f"{name} {' and '.join(found)}" for name, found in self.versions.items())


def recorded_in(directory: Path, manifest: Manifest) -> Recorded:
    """Return what a verified bundle, with those inside of it, was saved with.

    Raises:
        BundleServerError: a file cannot be read.
    """
    found: dict[str, set[str]] = {}
    for name, version in _said(directory, manifest):
        found.setdefault(canonicalize_name(name), set()).add(version)
    ordered = sorted(found, key=lambda name: (name != PYTHON, name))
    versions = {name: tuple(sorted(found[name])) for name in ordered}
    return Recorded(versions, frozenset(_code_of(directory, manifest)))


def _code_of(directory: Path, manifest: Manifest) -> Iterator[str]:
    if manifest.requirements.python and any(files_with_code(directory, manifest)):
        yield manifest.requirements.python
    for component in manifest.components.values():
        if component.framework == BUNDLE and component.path is not None:
            path = directory / component.path
            yield from _code_of(path, read_nested_manifest(path, component.name, component.sha256))


def _said(directory: Path, manifest: Manifest) -> Iterator[tuple[str, str]]:
    if manifest.requirements.python:
        yield PYTHON, manifest.requirements.python
    yield from manifest.requirements.packages.items()
    for component in manifest.components.values():
        if component.framework == MODEL or component.path is None:
            continue
        path = directory / component.path
        if component.framework == BUNDLE:
            yield from _said(path, read_nested_manifest(path, component.name, component.sha256))
            continue
        facts = facts_of_file(path, component.framework, "model")
        yield from ((name, one) for name, found in facts.libraries.items() for one in found)
