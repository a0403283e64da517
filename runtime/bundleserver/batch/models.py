"""The model that a table is scored with: a directory, or a registered version."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from bundleserver.bundle import Bundle
from bundleserver.bundle.trust import TRUST_ANY, Trust
from bundleserver.errors import BundleError, ConfigError, Problem, StoreError
from bundleserver.sources import open_candidate
from bundleserver.sources.one_version import find_version
from bundleserver.sources.own_files import own_version
from bundleserver.sources.registry.uri import ModelUri
from bundleserver.store.finding import complete_versions
from bundleserver.store.serving_json import read_config, resolve, serving_version
from bundleserver.versions import Version

SCHEME = "models:/"

_NAMES_A_REGISTRY = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI")


def is_registered(model: str | os.PathLike[str]) -> bool:
    """Ask whether a model is named by the URI of a registry, and not by a path."""
    return isinstance(model, str) and model.startswith(SCHEME)


def choose_version(directory: Path, wanted: str | None) -> str | None:
    """Return the version of a model's directory; None if the directory itself is the bundle.

    Args:
        directory: a bundle, or a directory with versions.
        wanted: a version or a label; None is the default version.

    Raises:
        BundleError: it has no versions, and one is wanted.
        StoreError: there is no such version.
    """
    versions, own = complete_versions(directory), own_version(directory)
    if not versions or versions == (own,):
        if wanted not in (None, own and own.label):
            raise BundleError(f"{directory} is a bundle without versions; omit --version")
        return None
    config = read_config(directory)
    chosen = resolve(directory, config, wanted) if wanted else serving_version(directory, config)
    return chosen.label


@dataclass(frozen=True)
class Local:
    """A model's files on this machine.

    Attributes:
        directory: a bundle, or a directory with versions.
        version: a version or a label of it; None is the default one.
        name: what a registry calls the model; None for the directory's own name.
        number: what a registry calls the version.
    """

    directory: Path
    version: str | None = None
    name: str | None = None
    number: str | None = None


def open_local(local: Local, *, device: str = "cpu", trust: Trust = TRUST_ANY) -> Bundle:
    """Open a model, as a server of it does; the caller closes the bundle.

    Raises:
        BundleServerError: there is no such version, or it cannot be opened.
    """
    label = choose_version(local.directory, local.version)
    source, candidate = find_version(local.directory, label)
    if local.name is not None:
        candidate = replace(candidate, model=local.name, version=Version(local.number or "1"))
    return open_candidate(source, candidate, device=device, trust=trust)


@contextmanager
def local_model(model: str | os.PathLike[str], version: str | None) -> Iterator[Local]:
    """Yield a model's files: its own, or those of a download, which is removed at the end.

    Raises:
        ConfigError: a registry is needed, and the environment names none.
        StoreError: the URI is not valid, or a version is given beside it.
        SourceError: the registry has no such version, or is unavailable.
    """
    if not is_registered(model):
        yield Local(Path(model), version)
        return
    with tempfile.TemporaryDirectory(prefix="bundleserver-") as place:
        yield pull_registered(str(model), version, Path(place))


def pull_registered(model: str, version: str | None, place: Path) -> Local:
    """Download the version that a URI refers to into a directory of the model's name in a place.

    The registry is named by MLFLOW_TRACKING_URI.

    Raises:
        ConfigError: the environment names no registry.
        StoreError: the URI is not valid, or a version is given beside it.
        SourceError: the registry has no such version, or is unavailable.
    """
    if version is not None:
        raise StoreError(
            f"'{model}' has a version of its own, as in models:/NAME/3; omit --version"
        )
    try:
        uri = ModelUri.parse(model)
    except ValueError as error:
        raise StoreError(str(error)) from error
    if not any(os.environ.get(name) for name in _NAMES_A_REGISTRY):
        problem = Problem(model, "requires $MLFLOW_TRACKING_URI; set it to the registry's URL")
        raise ConfigError("predict", [problem])
    from bundleserver.sources.registry.client import RegistryClient
    from bundleserver.sources.registry.pulling import pull

    directory = place / uri.name
    pulled = pull(uri, directory, RegistryClient())
    return Local(directory, None, uri.name, pulled.version)


_Key = tuple[str, "str | None", str, Trust]
_opened: dict[_Key, Bundle] = {}
_locks: dict[_Key, threading.Lock] = {}
_lock = threading.Lock()


def opened_once(
    model: str | os.PathLike[str], version: str | None, device: str, trust: Trust
) -> Bundle:
    """Open a model once in this process, however many threads ask, and keep it open.

    What is there at the first call stays until the process ends, also if the files change.

    Raises:
        BundleServerError: there is no such version, or it cannot be opened.
    """
    place = str(model) if is_registered(model) else os.path.abspath(model)  # noqa: PTH100 - a key
    key = (place, version, device, trust)
    with _lock:
        lock = _locks.setdefault(key, threading.Lock())
    with lock:
        if key not in _opened:
            _opened[key] = _open(place, version, device, trust)
        return _opened[key]


def _open(place: str, version: str | None, device: str, trust: Trust) -> Bundle:
    if not is_registered(place):
        return open_local(Local(Path(place), version), device=device, trust=trust)
    directory = Path(tempfile.mkdtemp(prefix="bundleserver-"))
    atexit.register(partial(shutil.rmtree, directory, ignore_errors=True))
    pulled = pull_registered(place, version, directory)
    return open_local(pulled, device=device, trust=trust)
