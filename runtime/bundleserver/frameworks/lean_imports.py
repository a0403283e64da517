"""Imports without a library's optional dependencies, even if they are installed."""

from __future__ import annotations

import sys
import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
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
