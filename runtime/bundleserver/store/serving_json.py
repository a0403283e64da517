"""Which version answers: ``serving.json`` at a model root, changed by one atomic rename.

A change is read, made and written under a lock, so that of two people who promote at once neither
undoes the other's change; and it is checked as the server will check it.
"""

from __future__ import annotations

import fcntl
import logging
import math
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from bundleserver.bundle import read_manifest
from bundleserver.bundle.integrity import verify_files
from bundleserver.errors import BundleServerError, StoreError
from bundleserver.manifest import MANIFEST_NAME
from bundleserver.store.staging import STAGING_PREFIX, open_to_group, versions_in
from bundleserver.versions import Version
from bundleserver.versions.serving_config import CONFIG_NAME, ServingConfig

LOG = logging.getLogger(__name__)

DEFAULT = "default"
LATEST = "latest"
_LOCK_NAME = ".serving.lock"


def complete_versions(root: Path) -> tuple[Version, ...]:
    """Return the versions that exist for a server, oldest first.

    Those are the ones with a manifest, or all of them while none has one.
    """
    versions = versions_in(root)
    written = tuple(v for v in versions if (root / v.label / MANIFEST_NAME).is_file())
    return written or versions


def read_config(root: Path) -> ServingConfig:
    """Read a model root's ``serving.json``; without one, what an empty one says.

    Raises:
        ConfigError: it breaks its format.
        StoreError: it cannot be read.
    """
    path = root / CONFIG_NAME
    try:
        return ServingConfig.from_json(path.read_bytes(), str(path))
    except (FileNotFoundError, NotADirectoryError):
        return ServingConfig()
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror or error}") from error


def resolve(root: Path, config: ServingConfig, name: str) -> Version:
    """Return the version that a version or label stands for.

    Raises:
        StoreError: there is none; lists those there are.
    """
    label = config.labels.get(name, name)
    versions = complete_versions(root)
    for version in versions:
        if version.label == label:
            return version
    target = f", which is '{label}'" if label != name else ""
    known = f"; labels: {_quoted(config.labels)}" if config.labels else ""
    raise StoreError(
        f"{root} has no version or label '{name}'{target}; "
        f"it holds {_quoted(v.label for v in versions[-20:]) or 'no versions'}{known}"
    )


def serving_version(root: Path, config: ServingConfig) -> Version:
    """Return the version that answers requests which name none: the default, else the newest sound.

    Raises:
        StoreError: there are no versions, or not the default one.
    """
    if config.default is not None:
        return resolve(root, config, config.default)
    versions = complete_versions(root)
    if not versions:
        raise StoreError(f"{root} holds no versions")
    return _newest_sound(root, versions) or versions[-1]


def check_sound(root: Path, version: Version) -> None:
    """Check that a version's files are there and have their sizes, which takes no time.

    Digests are the server's to check: on-call waits for no terabyte to be read.

    Raises:
        ManifestError: its manifest breaks the format.
        IntegrityError: files are missing or differ in size.
    """
    directory = root / version.label
    manifest = read_manifest(directory)
    if manifest is not None:
        sizes = {name: replace(c, sha256=None) for name, c in manifest.components.items()}
        verify_files(directory, replace(manifest, components=sizes))


def promote(root: Path, name: str, label: str | None = None) -> ServingConfig:
    """Point a label, or the default when none is given, at a version (or at another label's).

    ``latest`` takes the pin off the default, so that the version policy decides again. A traffic
    split goes before the default, so moving the default ends the split, and a canary's rollout.
    """

    def change(config: ServingConfig) -> ServingConfig:
        if label in (None, DEFAULT) and name == LATEST:
            return _with_default(config, None)
        version = _resolve_sound(root, config, name)
        if label is None or label == DEFAULT:
            return _with_default(config, version)
        return replace(config, labels={**config.labels, label: version.label})

    return _edit(root, change)


def rollback(root: Path, to: str | None = None) -> ServingConfig:
    """Pin the default to a version: ``to``, or the newest sound one before the one that serves.

    A traffic split ends, for it goes before the default; so does a canary's rollout.
    """

    def change(config: ServingConfig) -> ServingConfig:
        version = _resolve_sound(root, config, to) if to else _earlier(root, config)
        return _with_default(config, version)

    return _edit(root, change)


def split(root: Path, shares: Mapping[str, float]) -> ServingConfig:
    """Split the requests that name no version over versions and labels; no shares end the split.

    A canary's rollout, which splits by itself, ends.
    """

    def change(config: ServingConfig) -> ServingConfig:
        for name, share in shares.items():
            resolve(root, config, name)
            if not math.isfinite(share):
                raise StoreError(f"the share of '{name}' is {share}; expected a finite number")
        return replace(config, traffic=shares, canary=None)

    return _edit(root, change)


def _with_default(config: ServingConfig, version: Version | None) -> ServingConfig:
    if config.traffic:
        LOG.warning("the traffic split %s ends with the change", dict(config.traffic))
    if config.canary:
        LOG.warning("the rollout of the canary '%s' ends with the change", config.canary.version)
    label = None if version is None else version.label
    return replace(config, default=label, traffic={}, canary=None)


def _earlier(root: Path, config: ServingConfig) -> Version:
    serving = serving_version(root, config)
    earlier = [version for version in complete_versions(root) if version < serving]
    found = _newest_sound(root, earlier)
    if found is None:
        raise StoreError(f"'{serving}' serves, and {root} holds no sound version before it")
    return found


def _resolve_sound(root: Path, config: ServingConfig, name: str) -> Version:
    version = resolve(root, config, name)
    check_sound(root, version)
    return version


def _newest_sound(root: Path, versions: Sequence[Version]) -> Version | None:
    for version in reversed(versions):
        try:
            check_sound(root, version)
        except BundleServerError as error:
            LOG.warning("passed over '%s': %s", version, error)
        else:
            return version
    return None


def _quoted(names: Iterator[str] | Mapping[str, str]) -> str:
    return ", ".join(f"'{name}'" for name in names)


def _edit(root: Path, change: Callable[[ServingConfig], ServingConfig]) -> ServingConfig:
    """Read ``serving.json``, change it and put it back, alone."""
    if not root.is_dir():
        raise StoreError(f"{root} is no directory; expected the one where a model's versions lie")
    path = root / CONFIG_NAME
    with _locked(root):
        text = change(read_config(root)).to_json()
        # Read as the server will: a label that is none, or shares of 0, are refused here.
        config = ServingConfig.from_json(text, str(path))
        replace_file(path, text.encode())
    return config


def replace_file(path: Path, data: bytes) -> None:
    """Put a file there by one rename, as a whole or not at all.

    Raises:
        StoreError: it cannot be written.
    """
    try:
        descriptor, name = tempfile.mkstemp(prefix=STAGING_PREFIX, dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fchmod(descriptor, 0o644)
                os.fsync(descriptor)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error.strerror or error}") from error


@contextmanager
def _locked(root: Path) -> Iterator[None]:
    """Hold the model root's lock where the file system has locks; the change is atomic anyway."""
    descriptor = None
    try:
        descriptor = os.open(root / _LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        open_to_group(root / _LOCK_NAME)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError as error:
        LOG.warning("%s has no lock (%s); a change made now by another may be lost", root, error)
    try:
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)
