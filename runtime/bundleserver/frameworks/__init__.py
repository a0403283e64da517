"""The frameworks: which there are, and which one an object or a file belongs to.

A framework is declared in one place, a :class:`Framework` in the ``__init__`` of its package, and
listed in ``_BUILT_IN``. Another distribution adds one with an entry point in the group
``bundleserver.frameworks`` whose value is a :class:`Framework`; nothing else has to be changed.
"""

from __future__ import annotations

import difflib
import functools
import logging
from collections.abc import Collection, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from types import MappingProxyType

from bundleserver.errors import FrameworkError, LoadError
from bundleserver.frameworks import prophet, pyfunc, sklearn, statsmodels, torch, voting
from bundleserver.frameworks.interface import FileRole, Framework, LoadContext, Predictor

__all__ = [
    "ENTRY_POINT_GROUP",
    "FileRole",
    "Framework",
    "LoadContext",
    "Predictor",
    "framework_for",
    "framework_named",
    "framework_of_file",
    "frameworks",
    "model_suffixes",
]

LOG = logging.getLogger(__name__)

ENTRY_POINT_GROUP = "bundleserver.frameworks"

# sklearn is the last to look at a pickle: it opens what no other knows, or says why it does not.
_BUILT_IN = (
    prophet.FRAMEWORK,
    statsmodels.FRAMEWORK,
    torch.FRAMEWORK,
    voting.FRAMEWORK,
    pyfunc.FRAMEWORK,
    sklearn.FRAMEWORK,
)


@functools.cache
def frameworks() -> Mapping[str, Framework]:
    """Return every framework by name, in the order in which they are asked: plug-ins first."""
    return MappingProxyType({row.name: row for row in (*_plug_ins(), *_BUILT_IN)})


@functools.cache
def model_suffixes() -> frozenset[str]:
    """Return how files may end that hold a model, in lower case."""
    return frozenset().union(*(row.suffixes for row in frameworks().values()))


def framework_named(name: str) -> Framework:
    """Return the framework of that name.

    Raises:
        FrameworkError: there is none; names the known ones.
    """
    row = frameworks().get(name)
    if row is None:
        near = difflib.get_close_matches(name, frameworks(), n=1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        known = ", ".join(f"'{known}'" for known in sorted(frameworks()))
        raise FrameworkError(f"framework is '{name}'; expected one of {known}{hint}")
    return row


def framework_for(model: object) -> str | None:
    """Name the framework that saves a fitted object, or None.

    Raises:
        FrameworkError: several do; the caller of ``save`` has to name one.
    """
    built_in = {row.name for row in _BUILT_IN}
    owners = [name for name, row in frameworks().items() if row.recognises(model)]
    chosen = [name for name in owners if name not in built_in] or owners
    if len(chosen) > 1:
        raise FrameworkError(
            f"a {type(model).__module__}.{type(model).__qualname__} is recognised by the "
            f"frameworks {', '.join(map(repr, chosen))}; name one of them: "
            f"frameworks={{'model': {chosen[0]!r}}}"
        )
    return chosen[0] if chosen else None


def framework_of_file(path: Path) -> tuple[str, FileRole] | None:
    """Name the framework that opens a file, and what the object in it does; None when none does.

    Nothing is unpickled; the file's suffix and what it says of its content decide.

    Raises:
        LoadError: the file cannot be read, or holds what no framework opens.
    """
    for name, row in frameworks().items():
        if path.suffix.lower() not in row.suffixes:
            continue
        try:
            role = row.sniff(path)
        except OSError as error:
            raise LoadError(f"'{path}' cannot be read: {error.strerror or error}") from error
        if role is not None:
            return name, role
    return None


def _plug_ins() -> Iterator[Framework]:
    """Load the frameworks of other distributions; one that is unusable is logged and left out."""
    taken = {row.name for row in _BUILT_IN}
    for point in sorted(metadata.entry_points(group=ENTRY_POINT_GROUP), key=lambda p: p.name):
        row: object = None
        try:
            row = point.load()
            problem = _problem_with(row, taken)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - importing foreign code may raise anything
            problem = f"{type(error).__name__}: {error}"
        if isinstance(row, Framework) and problem is None:
            taken.add(row.name)
            yield row
        else:
            LOG.error("entry point '%s' is left out: %s", point.name, problem)


def _problem_with(row: object, taken: Collection[str]) -> str | None:
    if not isinstance(row, Framework):
        return f"is a {type(row).__name__}; expected a bundleserver.frameworks.Framework"
    return f"there is a framework '{row.name}' already" if row.name in taken else None
