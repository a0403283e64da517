"""The flags of ``serve``: spelled as KServe spells them, parsed into ``Settings``."""

from __future__ import annotations

import argparse
import difflib
import os
from collections.abc import Mapping, Sequence
from dataclasses import fields
from enum import Enum
from functools import partial
from types import MappingProxyType
from typing import NoReturn

from bundleserver.commands.flags.flag import Flag
from bundleserver.commands.flags.profiles import PROFILES
from bundleserver.commands.flags.table import (
    FLAGS,
    GROUPS,
    IGNORED,
)
from bundleserver.commands.flags.values import (
    parse_bool,
)
from bundleserver.commands.flags.variables import VARIABLES, read_variables
from bundleserver.errors import ConfigError, Problem
from bundleserver.settings import Settings


def read_settings(
    arguments: Sequence[str], environ: Mapping[str, str] = MappingProxyType(os.environ)
) -> Settings:
    """Parse the flags of ``serve``; of a repeated flag the last one counts.

    ``--help`` prints the help and exits with 0.

    Raises:
        ConfigError: a flag is unknown (names the nearest), or a value is invalid.
    """
    values, unknown = _parser().parse_known_args(list(arguments))
    if problems := _unknown_flags(unknown):
        raise ConfigError("serve", problems)
    from_environment = read_variables(environ, vars(values))
    profile = PROFILES.get(getattr(values, "profile", ""), {})
    try:
        return Settings(**{**profile, **from_environment, **vars(values)})
    except ConfigError as error:
        flags = [
            Problem(
                f"${VARIABLES[it.where]}"
                if it.where in from_environment
                else FLAGS[it.where].spelling,
                it.what,
            )
            for it in error.problems
        ]
        raise ConfigError("serve", flags) from error


def ignored_flags(settings: Settings) -> tuple[str, ...]:
    """Return the flags that are set but have no effect."""
    defaults = {field.name: field.default for field in fields(settings)}
    return tuple(
        flag.spelling
        for flag in GROUPS[IGNORED]
        if getattr(settings, flag.setting) != defaults[flag.setting]
    )


class _Parser(argparse.ArgumentParser):
    """An argument parser that raises our error instead of exiting."""

    def error(self, message: str) -> NoReturn:
        where, _, what = message.removeprefix("argument ").partition(": ")
        raise ConfigError("serve", [Problem(where, what) if what else Problem("", message)])


def _parser() -> _Parser:
    parser = _Parser(
        prog="bundleserver serve",
        usage="%(prog)s [--flag value | --flag=value] ...",
        description="Serve the models of a directory over the V1, V2 and gRPC protocols.",
        epilog="example: bundleserver serve --model_name fraud --model_dir /mnt/models "
        "--version_policy latest:2",
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    defaults = {field.name: field.default for field in fields(Settings)}
    for title, flags in GROUPS.items():
        group = parser.add_argument_group(title)
        for flag in flags:
            _add_flag(group, flag, defaults[flag.setting])
    return parser


def _add_flag(group: argparse._ArgumentGroup, flag: Flag, default: object) -> None:
    plain = default.value if isinstance(default, Enum) else default
    shown = "" if plain is None or plain == () else f" (default: {str(plain).lower()})"
    text = (flag.text + shown).replace("%", "%%")
    add = partial(group.add_argument, flag.spelling, dest=flag.setting, type=flag.parse, help=text)
    if flag.parse is parse_bool:
        # KServe's switches have a value; without one a switch is on.
        add(nargs="?", const=True, metavar="true|false")
    else:
        add(metavar="VALUE")


def _unknown_flags(arguments: Sequence[str]) -> list[Problem]:
    """Describe every unknown flag; values after one belong to it."""
    known = [flag.spelling for flag in FLAGS.values()]
    found: list[Problem] = []
    for argument in arguments:
        name = argument.partition("=")[0]
        if name.startswith("-"):
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else "see serve --help"
            found.append(Problem("", f"unknown flag {name}; {hint}"))
        elif not found:
            found.append(Problem("", f"unexpected argument '{argument}'; expected only flags"))
    return found
