"""Imports without what a library takes along only because it happens to be installed."""

from __future__ import annotations

import sys
import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType


class _LeftOut(threading.local):
    """The packages that one thread does without."""

    packages: frozenset[str] = frozenset()


class _NotHere(MetaPathFinder):
    """Says to a thread that the packages that it does without are not installed."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Refuse what is to be left out; everything else is for the finders behind."""
        if fullname in _LEFT_OUT.packages:
            raise ModuleNotFoundError(f"'{fullname}' is left out here", name=fullname)
        return None


_LEFT_OUT = _LeftOut()
_FINDER = _NotHere()


@contextmanager
def without(packages: Collection[str]) -> Iterator[None]:
    """Import in the block, in this thread, as if packages were not installed.

    They can be imported afterwards, and by other threads meanwhile; one that is imported already
    stays.
    """
    # It stays: another thread that goes through the finders would skip one if this one went.
    if _FINDER not in sys.meta_path:
        sys.meta_path.insert(0, _FINDER)
    before, _LEFT_OUT.packages = _LEFT_OUT.packages, frozenset(packages)
    try:
        yield
    finally:
        _LEFT_OUT.packages = before
