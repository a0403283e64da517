"""A new version against what serves: whether clients of the one would go on with the other.

What serves is known from its manifest, where it was recorded at publishing. Else it is opened, and
then nothing of it runs: pickles only by the built-in list, no code of bundles.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from bundleserver.bundle.facts.interface import recorded_in
from bundleserver.bundle.opening import manifest_of, open_bundle
from bundleserver.bundle.trust import Trust
from bundleserver.errors import BundleServerError, StoreError
from bundleserver.frameworks.trust import CodeTrust, PicklePolicy
from bundleserver.manifest import MANIFEST_NAME, Manifest
from bundleserver.sources.own_files import location_of
from bundleserver.store import serving_json
from bundleserver.store.finding import complete_versions
from bundleserver.tensors.breaking import Interface, find_breaks, not_compared
from bundleserver.versions import Version
from bundleserver.versions.serving_config import ServingConfig

if TYPE_CHECKING:
    from bundleserver.sources.registry.client import RegistryClient

LOG = logging.getLogger(__name__)

_NOTHING_RUNS = Trust(CodeTrust(PicklePolicy.LISTED, bundle_code=False))


def check_against_served(
    root: Path, name: str, interface: Interface, new: str, *, allow_breaking: bool
) -> None:
    """Compare a new version with those that get requests without a version.

    Args:
        root: the model's directory.
        name: the model's name.
        interface: what clients of the new version would rely on.
        new: the new version, for messages.
        allow_breaking: whether what breaks clients is only told.

    Raises:
        StoreError: it would break their clients.
    """
    for label, directory in _served(root):
        before = _known(directory, name, label, is_root=directory == root)
        if before is not None:
            what = f"'{name}' version {label}, which serves from {root}"
            _check(before, interface, what, (f"version {label}", new), allow_breaking)


def check_against_registered(
    client: RegistryClient,
    name: str,
    aliases: Sequence[str],
    interface: Interface,
    *,
    allow_breaking: bool,
) -> None:
    """Compare a bundle with the registered versions of its aliases, else with the latest.

    Raises:
        StoreError: it would break their clients.
        SourceError: the registry is unavailable.
    """
    model = client.model(name)
    if model is None or not model.versions:
        return
    numbers = [model.aliases[alias] for alias in aliases if alias in model.aliases]
    for number in dict.fromkeys(numbers or [model.versions[0].number]):
        before = _known_registered(client, name, number)
        if before is not None:
            what = f"'{name}' version {number} in the registry"
            sides = (f"version {number}", "the new version")
            _check(before, interface, what, sides, allow_breaking)


def _check(
    before: Interface, after: Interface, what: str, sides: tuple[str, str], allow_breaking: bool
) -> None:
    if breaks := find_breaks(before, after, *sides):
        said = f"{sides[1]} would break clients of {what}: {'; '.join(breaks)}"
        if not allow_breaking:
            raise StoreError(
                f"{said}; nothing was published; publish it all the same with --allow-breaking, "
                "or allow_breaking=True"
            )
        LOG.warning("%s; published all the same", said)
        return
    if unknown := not_compared(before, after):
        LOG.warning(
            "%s was not compared in full with %s; not known: %s",
            sides[1],
            what,
            ", ".join(unknown),
        )
    if len(before.signature.outputs) == 1 < len(after.signature.outputs):
        LOG.warning(
            "%s has further outputs, so its V1 predictions are objects; those of %s are values",
            sides[1],
            what,
        )


def _served(root: Path) -> Iterator[tuple[str, Path]]:
    """Yield the label and directory of each version that gets requests without a version."""
    try:
        if not complete_versions(root):
            return
        for label in _labels(root, serving_json.read_config(root)):
            yield label, location_of(root, Version(label))
    except (BundleServerError, OSError) as error:
        LOG.warning("%s: the new version is not compared with what serves: %s", root, error)


def _labels(root: Path, config: ServingConfig) -> list[str]:
    versions = {version.label for version in complete_versions(root)}
    weighted = [config.resolve(name) for name, share in config.traffic.items() if share]
    shared = [label for label in dict.fromkeys(weighted) if label in versions]
    return shared or [serving_json.serving_version(root, config).label]


def _known(directory: Path, name: str, label: str, *, is_root: bool) -> Interface | None:
    """Return what clients of a version rely on; None, with the reason logged, if it is not told."""
    try:
        manifest = manifest_of(directory, name)
        return recorded_in(manifest) or _opened(directory, manifest, name, label, is_root=is_root)
    except (BundleServerError, OSError) as error:
        _log_unknown(name, label, error)
    return None


def _known_registered(client: RegistryClient, name: str, number: str) -> Interface | None:
    from bundleserver.sources.registry.download import Artifacts
    from bundleserver.sources.registry.flavours import manifest_of as manifest_of_registered

    artifacts = Artifacts(client, name, number)
    try:
        files = artifacts.list()
        with tempfile.TemporaryDirectory(prefix="bundleserver-compared-") as temporary:
            directory = Path(temporary)
            artifacts.fetch(tuple(f for f in files if f.path == MANIFEST_NAME), directory)
            if (directory / MANIFEST_NAME).is_file() and (
                known := recorded_in(manifest_of(directory, name))
            ):
                return known
            artifacts.fetch(tuple(f for f in files if f.path != MANIFEST_NAME), directory)
            manifest = manifest_of_registered(directory, name)
            return _opened(directory, manifest, name, number, is_root=False)
    except (BundleServerError, OSError) as error:
        _log_unknown(name, number, error)
    return None


def _opened(
    directory: Path, manifest: Manifest, name: str, label: str, *, is_root: bool
) -> Interface:
    with closing(
        open_bundle(
            directory,
            manifest,
            model=name,
            version=label,
            links_lead_anywhere=is_root,
            version_mismatch="ignore",
            probe="warn",
            trust=_NOTHING_RUNS,
        )
    ) as bundle:
        return bundle.interface()


def _log_unknown(name: str, label: str, error: Exception) -> None:
    LOG.warning(
        "'%s' version %s serves, and was not compared with the new version: %s", name, label, error
    )
