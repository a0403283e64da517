"""The schemes of a registry's URI: those that the installed MLflow has a client for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bundleserver.documents.printable import printable
from bundleserver.errors import ConfigError, Problem

_WORDS = ("databricks", "databricks-uc", "uc")


def check_schemes(variables: Mapping[str, str]) -> None:
    """Refuse a registry that no client can ever reach; plugins of MLflow add schemes.

    Raises:
        ConfigError: a variable's URI has another scheme.
    """
    from mlflow.tracking._model_registry import utils
    from mlflow.utils import uri as uris

    registry: Any = utils._get_store_registry  # MLflow has no types here
    scheme_of: Any = uris.get_uri_scheme
    known = sorted({*registry()._registry} - {""})
    for name, uri in variables.items():
        scheme = scheme_of(uri) if uri and uri not in _WORDS else ""
        if scheme and scheme not in known:
            shown = ", ".join(f"'{it}'" for it in known)
            what = f"has the scheme '{printable(scheme)}'; expected one of {shown}"
            raise ConfigError("serve", [Problem(f"${name}", what)])
