"""Which version answers: ``serving.json`` at a model root, changed by one atomic rename.

A change is read, made and written under a lock, so that of two people who promote at once neither
undoes the other's change; and it is validated as the server will do it.
"""

from __future__ import annotations

import fcntl
import logging
import math
import os
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from bundleserver.bundle import read_manifest
from bundleserver.bundle.integrity import verify_files
from bundleserver.errors import BundleServerError, StoreError
from bundleserver.manifest import MANIFEST_NAME
from bundleserver.sources import named_versions, policy_of
from bundleserver.store.staging import STAGING_PREFIX, open_to_group, versions_in
from bundleserver.versions import Version, VersionPolicy, select_versions
from bundleserver.versions.lifecycle import settled_versions
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
    """Return the version that a server answers with where a request names none.

    Raises:
        StoreError: there are no versions, not the default one, or none that the policy selects.
    """
    if config.default is not None:
        return resolve(root, config, config.default)
    versions, policy = complete_versions(root), policy_of(config, VersionPolicy())
    if not versions:
        raise StoreError(f"{root} holds no versions")
    named = named_versions(config)
    found = _first_sound(root, versions, lambda left: settled_versions(left, policy, named)[1])
    if found is None:
        raise StoreError(f"{root} has no sound version that the policy '{policy}' selects")
    return found


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

    That is never one which the policy excludes. Of a traffic split or a canary's rollout the newest
    version counts; both end, for they go before the default.
    """

    def change(config: ServingConfig) -> ServingConfig:
        version = _resolve_sound(root, config, to) if to else _earlier(root, config)
        return _with_default(config, version)

    return _edit(root, change)


def split(root: Path, shares: Mapping[str, float]) -> ServingConfig:
    """Split the requests that name no version over versions and labels; no weights end the split.

    A canary's rollout, which splits by itself, ends.
    """

    def change(config: ServingConfig) -> ServingConfig:
        for name, share in shares.items():
            resolve(root, config, name)
            if not math.isfinite(share):
                raise StoreError(f"the weight of '{name}' is {share}; expected a finite number")
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
    policy = policy_of(config, VersionPolicy())
    if config.policy is None:
        LOG.warning(
            "%s sets no policy; assuming '%s', as --version_policy is unknown here",
            root / CONFIG_NAME,
            policy,
        )
    in_use = _in_use(root, config)
    serving = max(in_use)

    def choose(left: Collection[Version]) -> Version | None:
        return max((*select_versions(left, policy), *in_use.intersection(left)), default=None)

    earlier = [version for version in complete_versions(root) if version < serving]
    found = _first_sound(root, earlier, choose)
    if found is None:
        selected = f" that the policy '{policy}' selects" if policy.specific else ""
        raise StoreError(f"'{serving}' serves, and {root} has no sound version before it{selected}")
    return found


def _in_use(root: Path, config: ServingConfig) -> frozenset[Version]:
    """Return the versions that get requests which name none."""
    canary = [config.canary.version] if config.canary else []
    names = [name for name, share in config.traffic.items() if share] or canary
    versions = {Version(config.resolve(name)) for name in names}
    found = versions.intersection(complete_versions(root))
    return frozenset(found if found and config.traffic else {*found, serving_version(root, config)})


def _resolve_sound(root: Path, config: ServingConfig, name: str) -> Version:
    version = resolve(root, config, name)
    check_sound(root, version)
    return version


def _first_sound(
    root: Path,
    versions: Collection[Version],
    choose: Callable[[Collection[Version]], Version | None],
) -> Version | None:
    """Return the version that is chosen of those that load; only what is chosen is checked."""
    left = {*versions}
    while (version := choose(left)) is not None:
        try:
            check_sound(root, version)
        except BundleServerError as error:
            LOG.warning("skipped '%s': %s", version, error)
            left.discard(version)
        else:
            return version
    return None


def _quoted(names: Iterator[str] | Mapping[str, str]) -> str:
    return ", ".join(f"'{name}'" for name in names)


def _edit(root: Path, change: Callable[[ServingConfig], ServingConfig]) -> ServingConfig:
    """Read ``serving.json``, change it and put it back, alone."""
    if not root.is_dir():
        raise StoreError(f"{root} is not a directory; expected the one with a model's versions")
    path = root / CONFIG_NAME
    with _locked(root):
        text = change(read_config(root)).to_json()
        # Read as the server will: an invalid label, or weights of 0, are refused here.
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
        LOG.warning("cannot lock %s (%s); a concurrent change may be lost", root, error)
    try:
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)
