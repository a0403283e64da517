"""Classes and functions that a pickle carries as code, which no list of names can allow.

cloudpickle writes them so where they are defined in a notebook or a script. Their code is
Python's bytecode, which another minor version of Python does not run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from importlib import import_module
from pathlib import Path
from typing import Any

from bundleserver.errors import StoreError
from bundleserver.frameworks.file_names import suffix_of
from bundleserver.frameworks.interface import first_line
from bundleserver.frameworks.pickles.scan import inspect_pickle

_REBUILDERS = frozenset({"cloudpickle", "dill"})

_MADE: ContextVar[dict[object, type] | None] = ContextVar("made", default=None)
"""The classes that the present load has made, by cloudpickle's identifiers."""


def carries_code(path: Path, suffixes: frozenset[str]) -> bool:
    """Ask whether a file with one of those suffixes is a pickle with code in it.

    Raises:
        LoadError: the file cannot be read.
    """
    return any(map(rebuilds, modules_named(path, suffixes)))


def modules_named(path: Path, suffixes: frozenset[str]) -> frozenset[str]:
    """Return the modules that a file names, if it is a pickle with one of those suffixes.

    Raises:
        LoadError: the file cannot be read.
    """
    if suffix_of(path.name) not in suffixes:
        return frozenset()
    return frozenset(name.module for name in inspect_pickle(path).named)


def rebuilds(module: str) -> bool:
    """Ask whether a module makes classes and functions of code in a pickle."""
    return module.partition(".")[0] in _REBUILDERS


def write_by_value(model: object, path: Path, stem: str, why: str) -> None:
    """Pickle an object with the code of what is defined in a notebook or a script.

    Args:
        model: the object.
        path: the file to write.
        stem: the component's name.
        why: why it is not written by name, for messages.

    Raises:
        StoreError: cloudpickle is not installed, or the object cannot be pickled.
        OSError: the file cannot be written.
    """
    try:
        import cloudpickle
    except ModuleNotFoundError as error:
        raise StoreError(
            f"component '{stem}' {why}; install cloudpickle, which saves its code too: pip install "
            "'bundleserver[notebook]'; or move it to a module, which code=['features.py'] saves"
        ) from error
    try:
        with path.open("wb") as file:
            cloudpickle.dump(model, file)
    except OSError:
        raise
    except Exception as error:
        path.unlink(missing_ok=True)
        raise StoreError(
            f"component '{stem}' cannot be pickled: {first_line(error)}; leave out what cannot be "
            "written, such as locks, open files and connections"
        ) from error


@contextmanager
def separate_classes() -> Iterator[None]:
    """Let pickles that are opened in the block make classes of their own.

    cloudpickle knows each class of a notebook by an identifier, and gives what it opens later the
    class that it made before, with the new attributes: two versions would change each other's.
    """
    try:
        module = import_module("cloudpickle.cloudpickle")
    except ModuleNotFoundError:
        yield
        return
    _look_up_own_first(module)
    token = _MADE.set({})
    try:
        yield
    finally:
        _MADE.reset(token)


def _look_up_own_first(module: Any) -> None:
    """Let cloudpickle ask for the classes of the present load before its own, once and for all."""
    known: Callable[[object, type], type] = module._lookup_class_or_track
    if getattr(known, "asks_load", False):
        return

    def look_up(identifier: object, made: type) -> type:
        own = _MADE.get()
        if own is None or identifier is None:
            return known(identifier, made)
        return own.setdefault(identifier, made)

    look_up.asks_load = True  # type: ignore[attr-defined]  # a mark of ours
    module._lookup_class_or_track = look_up
