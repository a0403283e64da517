"""The environment variables of ``serve``: those that stand for flags, and those without effect."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType

from bundleserver.commands.flags.values import parse_true_or_false
from bundleserver.errors import ConfigError, Problem

VARIABLES = MappingProxyType(
    {
        "ssl_certfile": "KSERVE_TLS_CERT_FILE",
        "ssl_keyfile": "KSERVE_TLS_KEY_FILE",
        "model_uri": "MODEL_URI",
        "termination_log": "TERMINATION_LOG",
        "predict_proba": "PREDICT_PROBA",
    }
)
"""The variable of a setting, which is read where its flag is not given."""

_PARSERS: Mapping[str, Callable[[str], object]] = MappingProxyType(
    {"predict_proba": parse_true_or_false}
)
"""How those are parsed that are not strings."""


def read_variables(environ: Mapping[str, str], given: Collection[str]) -> dict[str, object]:
    """Return the settings that the environment has, except those that flags give.

    Raises:
        ConfigError: names a variable whose value is invalid.
    """
    return {
        name: _read(name, environ[variable])
        for name, variable in VARIABLES.items()
        if environ.get(variable) and name not in given
    }


def ignored_variables(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return the variables that MLServer would read, which have no effect here."""
    return tuple(sorted(name for name in environ if name.startswith("MLSERVER_")))


def _read(name: str, text: str) -> object:
    try:
        return _PARSERS.get(name, str)(text)
    except argparse.ArgumentTypeError as error:
        raise ConfigError("serve", [Problem(f"${VARIABLES[name]}", str(error))]) from error
