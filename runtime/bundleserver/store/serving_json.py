"""Changes to ``serving.json`` in a model's directory, each by one atomic rename.

A change is read, made and written under a lock, so that concurrent changes are not lost, and it is
validated as the server will validate it.
"""

from __future__ import annotations

import fcntl
import logging
import math
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from bundleserver.bundle.inferring import infer_manifest
from bundleserver.bundle.integrity import verify_files
from bundleserver.bundle.metadata_files import CONFIG_BYTES, read_metadata
from bundleserver.bundle.reading import read_manifest
from bundleserver.errors import BundleServerError, StoreError
from bundleserver.sources import named_versions, policy_of
from bundleserver.sources.own_files import location_of
from bundleserver.store.finding import complete_versions
from bundleserver.store.staging import open_shared, replace_file
from bundleserver.versions import Version, VersionPolicy, select_versions
from bundleserver.versions.lifecycle import settled_versions
from bundleserver.versions.serving_config import CONFIG_NAME, ServingConfig

LOG = logging.getLogger(__name__)

DEFAULT = "default"
LATEST = "latest"
_LOCK_NAME = ".serving.lock"


def read_config(root: Path) -> ServingConfig:
    """Read the ``serving.json`` of a model's directory; an empty configuration without one.

    Raises:
        ConfigError: it is invalid.
        StoreError: it cannot be read.
    """
    path = root / CONFIG_NAME
    try:
        return ServingConfig.from_json(read_metadata(path, CONFIG_BYTES), str(path))
    except (FileNotFoundError, NotADirectoryError):
        return ServingConfig()
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror or error}") from error


def resolve(root: Path, config: ServingConfig, name: str) -> Version:
    """Return the version that a version or label refers to.

    Raises:
        StoreError: there is none; lists the known ones.
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
        f"versions: {_quoted(v.label for v in versions[-20:]) or 'none'}{known}"
    )


def serving_version(root: Path, config: ServingConfig) -> Version:
    """Return the default version of a server for this directory.

    Raises:
        StoreError: there are no versions, or the policy selects none.
    """
    if config.default is not None:
        try:
            return resolve(root, config, config.default)
        except StoreError as error:
            LOG.warning("the default is ignored, as by the server: %s", error)
    versions, policy = complete_versions(root), policy_of(config, VersionPolicy())
    if not versions:
        raise StoreError(f"{root} has no versions")
    named = named_versions(config)
    why: list[str] = []
    found = _first_sound(root, versions, lambda left: settled_versions(left, policy, named)[1], why)
    if found is None:
        reasons = "; ".join(why[:3])
        raise StoreError(
            f"{root} has no sound version that the policy '{policy}' selects; {reasons}"
        )
    return found


def check_sound(root: Path, version: Version) -> None:
    """Check that a version's files exist and have the listed sizes, which is fast.

    Digests are verified by the server when it loads the version.

    Raises:
        ManifestError: its manifest is invalid.
        IntegrityError: files are missing or differ in size.
        BundleError: it is the files in the directory itself, and what they are is not certain.
    """
    directory = location_of(root, version)
    manifest = read_manifest(directory)
    if manifest is None and directory == root:
        infer_manifest(directory, root.name)
    elif manifest is not None:
        sizes = {name: replace(c, sha256=None) for name, c in manifest.components.items()}
        verify_files(directory, replace(manifest, components=sizes))


def promote(root: Path, name: str, label: str | None = None) -> ServingConfig:
    """Move a label, or the default if none is given, to a version or another label's version.

    ``latest`` unpins the default, so that the version policy selects it again. A traffic split
    overrides the default, so moving the default ends the split and a canary's rollout; a version
    that becomes the default is no longer a shadow.
    """

    def change(config: ServingConfig) -> ServingConfig:
        if label in (None, DEFAULT) and name == LATEST:
            return _with_default(config, None)
        version = _resolve_sound(root, config, name)
        if label is None or label == DEFAULT:
            return _with_default(config, version)
        moved = replace(config, labels={**config.labels, label: version.label})
        return _without_default(moved) if label == config.default else moved

    return _edit(root, change)


def rollback(root: Path, to: str | None = None) -> ServingConfig:
    """Pin the default to a version: ``to``, or the newest sound one before the serving one.

    A version that the policy excludes is not considered. During a traffic split or a canary's
    rollout the newest version in use counts; both end, since they override the default.
    """

    def change(config: ServingConfig) -> ServingConfig:
        version = _resolve_sound(root, config, to) if to else _earlier(root, config)
        return _with_default(config, version)

    return _edit(root, change)


def split(root: Path, shares: Mapping[str, float]) -> ServingConfig:
    """Split the requests that name no version over versions and labels; no weights end the split.

    It also ends a canary's rollout.
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
    return _without_default(replace(config, default=label, traffic={}, canary=None))


def _without_default(config: ServingConfig) -> ServingConfig:
    """Let the default version be neither a shadow nor the canary, which it cannot be."""
    default = config.default and config.resolve(config.default)
    shadow = tuple(name for name in config.shadow if config.resolve(name) != default)
    for name in {*config.shadow} - {*shadow}:
        LOG.warning("'%s' is now the default, so it is no longer a shadow", name)
    canary = config.canary
    if canary and config.resolve(canary.version) == default:
        LOG.warning("the rollout of the canary '%s' ends with the change", canary.version)
        canary = None
    return replace(config, shadow=shadow, canary=canary)


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
        # What gets requests now was loaded; what the policy selects may never have been.
        return max(in_use.intersection(left) or select_versions(left, policy), default=None)

    earlier = [version for version in complete_versions(root) if version < serving]
    found = _first_sound(root, earlier, choose, [])
    if found is None:
        selected = f" that the policy '{policy}' selects" if policy.specific else ""
        raise StoreError(
            f"'{serving}' is serving, and {root} has no earlier sound version{selected}"
        )
    return found


def _in_use(root: Path, config: ServingConfig) -> frozenset[Version]:
    """Return the versions that get requests without a version."""
    canary = [config.canary.version] if config.canary else []
    names = [name for name, share in config.traffic.items() if share] or canary
    versions = {Version(config.resolve(name)) for name in names}
    found = [version for version in complete_versions(root) if version in versions]
    return frozenset(found if found and config.traffic else {*found, serving_version(root, config)})


def _resolve_sound(root: Path, config: ServingConfig, name: str) -> Version:
    version = resolve(root, config, name)
    check_sound(root, version)
    return version


def _first_sound(
    root: Path,
    versions: Collection[Version],
    choose: Callable[[Collection[Version]], Version | None],
    why: list[str],
) -> Version | None:
    """Return the first version, in the order of ``choose``, whose files are complete.

    Why the ones before it are not is logged, and added to ``why``.
    """
    left = {*versions}
    while (version := choose(left)) is not None:
        try:
            check_sound(root, version)
        except BundleServerError as error:
            LOG.warning("skipped '%s': %s", version, error)
            why.append(f"'{version}': {error}")
            left.discard(version)
        else:
            return version
    return None


def _quoted(names: Iterator[str] | Mapping[str, str]) -> str:
    return ", ".join(f"'{name}'" for name in names)


def _edit(root: Path, change: Callable[[ServingConfig], ServingConfig]) -> ServingConfig:
    """Read, change and replace ``serving.json`` under the lock."""
    if not root.is_dir():
        raise StoreError(f"{root} is not a directory; expected a directory with a model's versions")
    path = root / CONFIG_NAME
    with _locked(root):
        text = change(read_config(root)).to_json()
        # Validated as in the server: an invalid label, or weights of 0, are refused here.
        config = ServingConfig.from_json(text, str(path))
        replace_file(path, text.encode())
    return config


@contextmanager
def _locked(root: Path) -> Iterator[None]:
    """Hold the lock if the file system has locks; the change is atomic in any case."""
    descriptor = None
    try:
        descriptor = open_shared(root / _LOCK_NAME)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError as error:
        LOG.warning("cannot lock %s (%s); a concurrent change may be lost", root, error)
    try:
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)
