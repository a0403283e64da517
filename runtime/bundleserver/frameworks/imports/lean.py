"""Imports without a library's optional dependencies, even if they are installed."""

from __future__ import annotations

import sys
import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType


class _LeftOut(threading.local):
    """The packages that one thread does not import."""

    packages: frozenset[str] = frozenset()


class _NotHere(MetaPathFinder):
    """Reports to a thread that the packages it left out are not installed."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Raise for a package that is left out; None leaves others to the next finders."""
        if fullname in _LEFT_OUT.packages:
            raise ModuleNotFoundError(f"'{fullname}' is not imported here", name=fullname)
        return None


_LEFT_OUT = _LeftOut()
_FINDER = _NotHere()


@contextmanager
def without(packages: Collection[str]) -> Iterator[None]:
    """Import in the block, in this thread, as if packages were not installed.

    They can be imported afterwards, and by other threads meanwhile; an imported one stays.
    """
    # Never removed: a thread that iterates over the finders would skip one.
    if _FINDER not in sys.meta_path:
        sys.meta_path.insert(0, _FINDER)
    before, _LEFT_OUT.packages = _LEFT_OUT.packages, frozenset(packages)
    try:
        yield
    finally:
        _LEFT_OUT.packages = before


IMPORTING = threading.RLock()
"""Held while a load imports modules.

Where threads import parts of each other's packages, Python goes on with half of one, and what
failed to import stays broken.
"""


class _Placeholder:
    """Stands for a class of a library while that is imported; nothing is an instance of it."""


class _Watched(MetaPathFinder):
    """Gives a module its classes' names before its own code defines them."""

    def __init__(self, module: str, classes: Collection[str]) -> None:
        self._module = module
        self._classes = tuple(classes)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find the module as usual, with placeholders until it is imported."""
        if fullname != self._module:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or not isinstance(spec.loader, SourceFileLoader):
            return spec
        loader = spec.loader
        execute = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            for name in self._classes:
                setattr(module, name, _Placeholder)
            execute(module)

        loader.exec_module = exec_module  # type: ignore[method-assign]  # of this one loader
        return spec


def complete_at_once(module: str, classes: Collection[str]) -> None:
    """Let other threads ask for a library's classes while it is being imported.

    scikit-learn looks a library up in ``sys.modules``, to tell whether a table is one of its
    classes; there a library that another thread imports is incomplete.
    """
    if module not in sys.modules:
        sys.meta_path.insert(0, _Watched(module, classes))
