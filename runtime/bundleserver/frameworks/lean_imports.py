"""Imports without what a library takes along only because it happens to be installed."""

from __future__ import annotations

import sys
import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType


@contextmanager
def without(packages: Collection[str]) -> Iterator[None]:
    """Import in the block, in this thread, as if packages were not installed.

    They can be imported afterwards, and by other threads meanwhile; one that is imported already
    stays.
    """
    finder = _NotHere(packages)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


class _NotHere(MetaPathFinder):
    """Says to one thread that packages are not installed."""

    def __init__(self, packages: Collection[str]) -> None:
        self._packages = frozenset(packages)
        self._thread = threading.get_ident()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Refuse what is to be left out; everything else is for the finders behind."""
        if fullname in self._packages and threading.get_ident() == self._thread:
            raise ModuleNotFoundError(f"'{fullname}' is left out here", name=fullname)
        return None
