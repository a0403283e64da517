"""The model source of ``serve``: a directory, or a model in a registry."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from bundleserver.errors import ConfigError, Problem
from bundleserver.settings import Settings
from bundleserver.sources import Source
from bundleserver.sources.directory import DirectorySource
from bundleserver.sources.registry.uri import ModelUri

_NAMES_A_REGISTRY = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI")


def check_registry_is_named(environ: Mapping[str, str], what: str, where: str = "") -> None:
    """Require a registry in the environment; MLflow would use a local file without one.

    Raises:
        ConfigError: neither variable is set.
    """
    if not any(environ.get(name) for name in _NAMES_A_REGISTRY):
        problem = Problem(where, "requires $MLFLOW_TRACKING_URI; set it to the registry's URL")
        raise ConfigError(what, [problem])


def check_place(settings: Settings) -> None:
    """Refuse a place of models that can never be one; a missing directory may come.

    Raises:
        ConfigError: ``--model_dir`` is a file.
    """
    if settings.model_uri is not None:
        return
    place = settings.model_dir
    try:
        is_other = not stat.S_ISDIR(place.stat().st_mode)
    except (OSError, ValueError) as error:
        if not isinstance(error, ValueError) and error.errno != errno.ENAMETOOLONG:
            return
        why = getattr(error, "strerror", None) or error
        problem = Problem("--model_dir", f"'{place}' cannot be a directory: {why}")
        raise ConfigError("serve", [problem]) from error
    if is_other:
        what = f"'{place}' is not a directory; expected the directory of a model, or of models"
        hint = f", such as '{place.parent}'" if place.is_file() else ""
        raise ConfigError("serve", [Problem("--model_dir", f"{what}{hint}")])


def served_name(settings: Settings) -> str | None:
    """Return the name of the one model to serve; None for all models that are found."""
    if settings.model_name is None and settings.model_uri is not None:
        return ModelUri.parse(settings.model_uri).name
    return settings.model_name


def make_source(
    settings: Settings, environ: Mapping[str, str] = MappingProxyType(os.environ)
) -> Source:
    """Return the source in the settings; it is not polled yet.

    Raises:
        ConfigError: the registry is not set.
        FrameworkError: MLflow is required and not installed.
    """
    if settings.model_uri is None:
        return DirectorySource(settings.model_dir, settings.model_name)
    check_registry_is_named(environ, "serve", "--model_uri")
    from bundleserver.sources.registry.cache import Cache
    from bundleserver.sources.registry.client import RegistryClient
    from bundleserver.sources.registry.schemes import check_schemes
    from bundleserver.sources.registry.source import RegistrySource

    uri = ModelUri.parse(settings.model_uri)
    client = RegistryClient()
    check_schemes({name: environ.get(name, "") for name in _NAMES_A_REGISTRY})
    cache = Cache(
        settings.cache_dir or Path(tempfile.gettempdir(), "bundleserver-cache"),
        uri.name,
        client.place,
        keep=settings.cache_versions,
        max_bytes=settings.cache_max_bytes,
    )
    return RegistrySource(
        uri,
        cache,
        client,
        model_name=served_name(settings),
        labels=settings.labels,
        traffic=dict(settings.traffic or ()),
    )
