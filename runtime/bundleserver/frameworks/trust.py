"""What code a file may bring to life: the operator decides, a bundle never can."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from bundleserver.errors import ConfigError, Problem
from bundleserver.frameworks.own_code import OwnCode


class PicklePolicy(str, Enum):
    """Which pickles are opened, those of joblib, cloudpickle, torch and MLflow included."""

    ANY = "any"
    """Every pickle; opening one runs whatever code it names."""

    LISTED = "listed"
    """Those that name nothing but what the built-in list, or the operator's own, allows."""

    DENY = "deny"
    """None: only formats without code."""


@dataclass(frozen=True)
class CodeTrust:
    """What a component's file may do while it is opened; the default is anything.

    Attributes:
        pickles: which pickles are opened.
        allowed: the operator's own names, as ``package.module.name``, beside the built-in list.
        bundle_code: whether code that ships with a bundle or a registry model may run.
        own: the code that ships with the bundle which is opened; None if it has none.
    """

    pickles: PicklePolicy = PicklePolicy.ANY
    allowed: frozenset[str] = frozenset()
    bundle_code: bool = True
    own: OwnCode | None = field(default=None, compare=False)


_NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+")
_MOST_BYTES = 1 << 20


def read_names(path: Path) -> frozenset[str]:
    """Read the operator's list: ``package.module.name``, one in a line; ``#`` begins a comment.

    Raises:
        ConfigError: the file cannot be read, or a line is no such name.
    """
    what = f"--pickle_allow '{path}'"
    try:
        with path.open("rb") as file:
            text = file.read(_MOST_BYTES + 1).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(what, [Problem("", f"cannot be read: {error}")]) from error
    if len(text) > _MOST_BYTES:
        raise ConfigError(what, [Problem("", f"has more than {_MOST_BYTES} bytes")])
    lines = [line.partition("#")[0].strip() for line in text.splitlines()]
    problems = [
        Problem(
            f"line {number}", f"is '{line[:100]}'; expected an exact name, as package.module.Name"
        )
        for number, line in enumerate(lines, 1)
        if line and not _NAME.fullmatch(line)
    ]
    if problems:
        raise ConfigError(what, problems[:20])
    return frozenset(filter(None, lines))
