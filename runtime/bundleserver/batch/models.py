"""The model that a table is scored with: a directory, or a registered version."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
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


def open_directory(
    directory: Path, version: str | None, *, device: str = "cpu", trust: Trust = TRUST_ANY
) -> Bundle:
    """Open a version of a directory, as a server of it does; the caller closes the bundle.

    Raises:
        BundleServerError: there is no such version, or it cannot be opened.
    """
    source, candidate = find_version(directory, choose_version(directory, version))
    return open_candidate(source, candidate, device=device, trust=trust)


@contextmanager
def local_directory(model: str | os.PathLike[str], version: str | None) -> Iterator[Path]:
    """Yield a model's directory: its own, or that of a download, which is removed at the end.

    Raises:
        ConfigError: a registry is needed, and the environment names none.
        StoreError: the URI is not valid, or a version is given beside it.
        SourceError: the registry has no such version, or is unavailable.
    """
    if not is_registered(model):
        yield Path(model)
        return
    with tempfile.TemporaryDirectory(prefix="bundleserver-") as place:
        yield pull_registered(str(model), version, Path(place))


def pull_registered(model: str, version: str | None, place: Path) -> Path:
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
    pull(uri, directory, RegistryClient())
    return directory


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
        return open_directory(Path(place), version, device=device, trust=trust)
    directory = Path(tempfile.mkdtemp(prefix="bundleserver-"))
    atexit.register(partial(shutil.rmtree, directory, ignore_errors=True))
    pulled = pull_registered(place, version, directory)
    return open_directory(pulled, None, device=device, trust=trust)
