"""The registry of frameworks, and the framework of an object or a file.

A framework is declared in one place, a :class:`Framework` in the ``__init__`` of its package, and
listed in ``_BUILT_IN``. Another distribution adds one with an entry point in the group
``bundleserver.frameworks`` whose value is a :class:`Framework`; nothing else has to be changed.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Collection, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from types import MappingProxyType

from bundleserver.documents.forms import did_you_mean, quoted
from bundleserver.errors import BundleServerError, FrameworkError
from bundleserver.frameworks import (
    catboost,
    lightgbm,
    onnx,
    prophet,
    pyfunc,
    python,
    sklearn,
    skops,
    statsmodels,
    torch,
    voting,
    xgboost,
)
from bundleserver.frameworks.file_facts import FileFacts, FileRole
from bundleserver.frameworks.file_names import suffix_of
from bundleserver.frameworks.interface import Framework, LoadContext, Predictor, named_line, reading

__all__ = [
    "ENTRY_POINT_GROUP",
    "FileFacts",
    "FileRole",
    "Framework",
    "LoadContext",
    "Predictor",
    "facts_of_file",
    "framework_for",
    "framework_named",
    "framework_of_file",
    "frameworks",
    "is_model_file_name",
    "model_suffixes",
]

LOG = logging.getLogger(__name__)

ENTRY_POINT_GROUP = "bundleserver.frameworks"

# sklearn is asked last about a pickle: it opens what no other does, or says why it does not.
_BUILT_IN = (
    catboost.FRAMEWORK,
    lightgbm.FRAMEWORK,
    onnx.FRAMEWORK,
    prophet.FRAMEWORK,
    statsmodels.FRAMEWORK,
    torch.FRAMEWORK,
    voting.FRAMEWORK,
    xgboost.FRAMEWORK,
    pyfunc.FRAMEWORK,
    skops.FRAMEWORK,
    python.FRAMEWORK,
    sklearn.FRAMEWORK,
)


@functools.cache
def frameworks() -> Mapping[str, Framework]:
    """Return every framework by name, in the order in which they are asked: plug-ins first."""
    return MappingProxyType({row.name: row for row in (*_plug_ins(), *_BUILT_IN)})


@functools.cache
def model_suffixes() -> frozenset[str]:
    """Return the suffixes of model files, in lower case."""
    return frozenset().union(*(row.suffixes for row in frameworks().values()))


def is_model_file_name(name: str) -> bool:
    """Ask whether a file of that name may be a model, compressed or not."""
    return suffix_of(name) in model_suffixes()


def framework_named(name: str) -> Framework:
    """Return the framework of that name.

    Raises:
        FrameworkError: there is none; names the known ones.
    """
    row = frameworks().get(name)
    if row is None:
        hint = did_you_mean(name, frameworks())
        known = quoted(sorted(frameworks()))
        raise FrameworkError(f"framework is '{name}'; expected one of {known}{hint}")
    return row


def framework_for(model: object) -> str | None:
    """Return the name of the framework that saves a fitted object, or None.

    Raises:
        FrameworkError: several do; the caller of ``save`` must name one.
    """
    built_in = {row.name for row in _BUILT_IN}
    owners = [name for name, row in frameworks().items() if _recognises(row, model)]
    chosen = [name for name in owners if name not in built_in] or owners
    if len(chosen) > 1:
        raise FrameworkError(
            f"a {type(model).__module__}.{type(model).__qualname__} is recognised by the "
            f"frameworks {', '.join(map(repr, chosen))}; name one of them: "
            f"frameworks={{'model': {chosen[0]!r}}}"
        )
    return chosen[0] if chosen else None


def framework_of_file(path: Path) -> tuple[str, FileRole] | None:
    """Return the framework that opens a file and the file's role; None when there is none.

    The suffix and the content decide, without unpickling anything.

    Raises:
        LoadError: the file cannot be read, or its content is not supported by any framework.
    """
    for name, row in frameworks().items():
        if suffix_of(path.name) not in row.suffixes:
            continue
        role = _sniff(row, path)
        if role is not None:
            return name, role
    return None


def facts_of_file(path: Path, framework: str, role: FileRole) -> FileFacts:
    """Return what can be told of a file that the framework opens, without opening it.

    Raises:
        LoadError: the file cannot be read.
    """
    facts = framework_named(framework).facts(path)
    return facts or FileFacts(f"a {role} of the framework '{framework}'")


def _plug_ins() -> Iterator[Framework]:
    """Load the frameworks of other distributions; an unusable one is logged and skipped."""
    taken = {row.name for row in _BUILT_IN}
    for point in sorted(metadata.entry_points(group=ENTRY_POINT_GROUP), key=lambda p: p.name):
        row: object = None
        try:
            row = point.load()
            problem = _problem_with(row, taken)
        except BaseException as error:  # noqa: BLE001 - importing foreign code may raise anything
            problem = named_line(error)
        if isinstance(row, Framework) and problem is None:
            taken.add(row.name)
            yield row
        else:
            LOG.error("entry point '%s' is skipped: %s", point.name, problem)


def _problem_with(row: object, taken: Collection[str]) -> str | None:
    if not isinstance(row, Framework):
        return f"is a {type(row).__name__}; expected a bundleserver.frameworks.Framework"
    if not (row.name and isinstance(row.name, str) and isinstance(row.module, str)):
        return f"has the name {row.name!r} and the module {row.module!r}; expected strings"
    if not isinstance(row.suffixes, (frozenset, set, tuple)) or not all(
        isinstance(suffix, str) and suffix.startswith(".") for suffix in row.suffixes
    ):
        return f"has the suffixes {row.suffixes!r}; expected a frozenset such as {{'.ubj'}}"
    if not (callable(row.sniff) and callable(row.recognises)):
        return "has a 'sniff' or a 'recognises' that is not a function"
    return f"framework '{row.name}' already exists" if row.name in taken else None


def _recognises(row: Framework, model: object) -> bool:
    try:
        return row.recognises(model)
    except Exception as error:  # noqa: BLE001 - a plug-in must not prevent others from saving
        LOG.warning("framework '%s' is skipped: recognises: %s", row.name, named_line(error))
        return False


def _sniff(row: Framework, path: Path) -> FileRole | None:
    try:
        with reading(path):
            return row.sniff(path)
    except BundleServerError:
        raise
    except Exception as error:  # noqa: BLE001 - a plug-in must not prevent others from opening
        LOG.warning("framework '%s' is skipped for %s: %s", row.name, path, named_line(error))
        return None
