"""As what a version was signed, and as what it is served."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bundleserver.bundle.reading import read_manifest
from bundleserver.bundle.trust.statement import Statement
from bundleserver.bundle.trust.verification import Origin
from bundleserver.errors import BundleServerError
from bundleserver.manifest import Manifest, is_model_name
from bundleserver.versions import is_version_label


@dataclass(frozen=True)
class Served:
    """As what a version is served; None where nobody says."""

    model: str | None = None
    version: str | None = None


def moved(
    manifest: Manifest | None, statement: Statement, served: Served, origin: Origin
) -> str | None:
    """Return why what was signed is not what it is served as: another model or version.

    The manifest says which it is. What it leaves open, or a directory without one, the signature
    says: as ``sign`` writes it, the name of a model, or ``NAME/VERSION``.
    """
    names = {name for name in (served.model, origin.registered_as) if name}
    version = None if origin.registered_as else served.version
    if not names and version is None:
        return None
    name, label = (manifest.name, manifest.version) if manifest else (None, None)
    if (name is None and names) or (label is None and version is not None):
        said, _, said_label = statement.name.partition("/")
        if names and said not in {*names, name}:
            return _elsewhere(said, said_label, served, version)
        name, label = name or said, label or said_label
    if (not names or name in names) and (version is None or label in ("", version)):
        return None
    return _elsewhere(name or "", label or "", served, version)


def foreign(directory: Path, statement: Statement, served: Served, origin: Origin) -> str | None:
    """Return why a signature whose files are others is one of another version, if it is.

    Only what ``sign`` writes tells: ``NAME/VERSION``. Here the manifest does, though nobody has
    signed it, since all of this only says why something is refused.
    """
    name, _, label = statement.name.partition("/")
    if not (is_model_name(name) and is_version_label(label)):
        return None
    try:
        manifest = read_manifest(directory)
    except BundleServerError:
        manifest = None
    model = (manifest and manifest.name) or served.model
    version = (manifest and manifest.version) or (None if origin.registered_as else served.version)
    if model in (None, name, origin.registered_as) and version in (None, label):
        return None
    return (
        f"is the signature of {_described(name, label)}, and this is {_described(model, version)}; "
        "put that here which was made for it, or sign the version again"
    )


def _elsewhere(name: str, label: str, served: Served, version: str | None) -> str:
    other, here = _described(name, label), _described(served.model, version)
    return (
        f"it was made for {other}, and this is {here}; move the version to its own place, or sign "
        "it as what it is here"
    )


def _described(model: str | None, version: str | None) -> str:
    return " ".join(filter(None, (_quoted("", model), _quoted("version ", version))))


def _quoted(lead: str, text: str | None) -> str:
    return f"{lead}'{text}'" if text else ""
