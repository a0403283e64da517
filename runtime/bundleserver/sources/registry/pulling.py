"""One download of a registered version: ``pull``, and KServe's storage initializer."""

from __future__ import annotations

import logging
import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from bundleserver.bundle.trust.verification import SIGNATURE_NAME
from bundleserver.errors import SourceError, StoreError
from bundleserver.manifest import MANIFEST_NAME, Manifest
from bundleserver.sources.registry.client import RegistryClient
from bundleserver.sources.registry.download import Artifacts
from bundleserver.sources.registry.flavours import manifest_of, with_facts
from bundleserver.sources.registry.listing import Choice, resolve
from bundleserver.sources.registry.uri import ModelUri
from bundleserver.sources.registry.values import RegisteredModel, RegisteredVersion

LOG = logging.getLogger(__name__)

_PART_PREFIX = ".part-"


@dataclass(frozen=True)
class Pulled:
    """A version that was pulled, its directory and manifest."""

    name: str
    version: str
    directory: Path
    manifest: Manifest


def pull(uri: ModelUri, directory: Path, client: RegistryClient) -> Pulled:
    """Download a version into a directory: a new one, an empty one, or one that was pulled into.

    A native MLflow model gets a manifest, so that ``serve --model_dir`` supports it too. The
    manifest is written last: until then the directory is not a bundle.

    Raises:
        SourceError: the registry has no such version, or is unavailable.
        IntegrityError: an artifact's path leads out, or a file differs from its listing.
        BundleError, ManifestError: it cannot be opened.
        StoreError: the directory has other files, or cannot be written.
    """
    _refuse_other_things(directory)
    version = chosen_version(uri, client)
    artifacts = Artifacts(client, uri.name, version.number)
    files = artifacts.list()
    facts = {"name": uri.name, "uri": str(uri), **client.run(version), **version.facts()}
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=_PART_PREFIX, dir=directory) as part:
            staging = Path(part)
            artifacts.fetch(files, staging)
            manifest = replace(with_facts(manifest_of(staging, uri.name), facts), inferred=False)
            if not (staging / MANIFEST_NAME).exists():
                if (staging / SIGNATURE_NAME).exists():
                    LOG.warning(
                        "'%s' is signed, and its signature does not cover the %s that was "
                        "written; sign it again to serve it from a directory",
                        directory,
                        MANIFEST_NAME,
                    )
                with (staging / MANIFEST_NAME).open("x", encoding="utf-8") as file:
                    file.write(manifest.to_json())
            _move_in(staging, directory)
    except OSError as error:
        raise StoreError(f"'{directory}' cannot be written: {error.strerror or error}") from error
    return Pulled(uri.name, version.number, directory, manifest)


def chosen_version(uri: ModelUri, client: RegistryClient) -> RegisteredVersion:
    """Return the version that a URI refers to now; without a choice, the newest.

    Raises:
        SourceError: there is no such version, or the registry is unavailable.
    """
    model = client.model(uri.name)
    if model is None:
        raise SourceError(f"the registry at '{client.place}' has no model '{uri.name}'")
    number = uri.version or _number_by_label(uri, model, client.place)
    found = model.find(number) if number else next(iter(model.versions), None)
    if found is None:
        raise SourceError(model.no_version(number or "at all", client.place))
    return found


def _number_by_label(uri: ModelUri, model: RegisteredModel, place: str) -> str | None:
    if uri.label is None:
        return None
    resolved = resolve(Choice(uri, (), uri.name), model, place)
    if uri.label in resolved.missing:
        raise SourceError(resolved.missing[uri.label])
    return resolved.labels[uri.label]


def _refuse_other_things(directory: Path) -> None:
    """Protect other files from being replaced, or mixed with a bundle.

    A pull that was killed leaves its hidden directory and no manifest.
    """
    present = {path.name for path in directory.iterdir()} if directory.is_dir() else set()
    if MANIFEST_NAME in present or any(name.startswith(_PART_PREFIX) for name in present):
        return
    others = sorted(name for name in present - {"lost+found"} if not name.startswith("."))
    if others:
        raise StoreError(
            f"'{directory}' is neither empty nor a bundle (found '{others[0]}'); pull into a new "
            "or empty directory"
        )


def _move_in(staging: Path, directory: Path) -> None:
    """Replace files of the same names; an init container may run twice."""
    (directory / MANIFEST_NAME).unlink(missing_ok=True)
    # False sorts before True: the manifest comes last.
    for path in sorted(staging.iterdir(), key=lambda path: (path.name == MANIFEST_NAME, path.name)):
        target = directory / path.name
        if target.is_dir() and not target.is_symlink():
            shutil.rmtree(target)
        path.replace(target)
