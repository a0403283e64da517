"""The names that pickles may use, and in which ways: ours, in ``lists/``, and the operator's.

A line of a list is an exact ``module.name`` and its ways. Nothing that calls what it is given,
imports, opens or builds code is in a list of ours: whatever a ``value`` is called with, by a model
that a hostile file described, does no harm.

``new``
    Instances are made without a call of the class (``__new__``), and get a state.
``call``
    It is called.
``build``
    What the call returns gets a state; it is new, and nobody else has it.
``items``
    What is made is a container, and gets items.
``make``
    It is called with a class that is listed as ``new``, and makes an instance of it.
``value``
    It may be part of an object: the datatype of a column, the function of a transformer. Whatever
    is no ``value`` can only be used at once, in the other ways.
"""

from __future__ import annotations

import functools
from collections.abc import Hashable, Iterator, Mapping
from pathlib import Path
from typing import cast

NEW = "new"
CALL = "call"
BUILD = "build"
ITEMS = "items"
MAKE = "make"
VALUE = "value"

WAYS = frozenset({NEW, CALL, BUILD, ITEMS, MAKE, VALUE})

ANY_WAY = frozenset({NEW, CALL, BUILD, ITEMS, VALUE})
"""How the operator's own names may be used: they are trusted like installed code."""

_LISTS = Path(__file__).parent / "lists"

_MAKES_CODE = frozenset(
    {
        "_pickle", "_posixsubprocess", "_thread", "asyncio", "bdb", "builtins", "cloudpickle",
        "code", "codeop", "ctypes", "dill", "ftplib", "functools", "http", "importlib", "inspect",
        "io", "marshal", "multiprocessing", "nt", "operator", "os", "pdb", "pickle", "pip",
        "pkgutil", "platform", "posix", "profile", "pty", "pydoc", "runpy", "shutil", "signal",
        "smtplib", "socket", "subprocess", "sys", "tempfile", "threading", "timeit", "trace",
        "types", "urllib", "webbrowser", "zipimport",
    }
)  # fmt: skip
"""Packages of which the operator cannot list a name: whoever may use them may do anything."""


@functools.cache
def built_in() -> Mapping[str, frozenset[str]]:
    """Return the names of our lists, each with its ways."""
    found: dict[str, frozenset[str]] = {}
    for path in sorted(_LISTS.glob("*.txt")):
        for name, ways in parse_list(path.read_text("utf-8")):
            found[name] = found.get(name, frozenset()) | ways
    return found


def parse_list(text: str) -> Iterator[tuple[str, frozenset[str]]]:
    """Yield each name of a list with its ways; ``#`` begins a comment.

    Raises:
        ValueError: a line has no way, or an unknown one.
    """
    for line in text.splitlines():
        name, *ways = line.partition("#")[0].split() or [""]
        if name and not (ways and {*ways} <= WAYS):
            raise ValueError(f"'{line}': expected a name and some of {sorted(WAYS)}")
        if name:
            yield name, frozenset(ways)


def why_never(name: str) -> str:
    """Say why no list can have a name; empty if one can."""
    package = name.partition(".")[0]
    if package in ("cloudpickle", "dill"):
        return "it rebuilds code that the file carries"
    if package in _MAKES_CODE and name not in built_in():
        return f"'{package}' has what runs anything, so only the built-in list names things of it"
    return ""


@functools.lru_cache(maxsize=4096)
def _names(kind: Hashable) -> tuple[str, ...]:
    return tuple(f"{base.__module__}.{base.__qualname__}" for base in cast(type, kind).__mro__)


# The name under which scikit-learn before 1.9 has its compiled losses; pickles have it too.
REAL_MODULES: Mapping[str, str] = {"_loss": "sklearn._loss._loss"}


def package_of(name: str) -> str:
    """Return the package of a class or function by its name."""
    package = name.partition(".")[0]
    return REAL_MODULES.get(package, package).partition(".")[0]


def own_names(kind: type) -> tuple[str, ...]:
    """Return the names of a class and of those that it extends, whatever a pickle called it."""
    return _names(cast(Hashable, kind))
