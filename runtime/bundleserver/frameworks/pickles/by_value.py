"""Classes and functions that a pickle carries as code, which no list of names can allow."""

from __future__ import annotations

from pathlib import Path

from bundleserver.frameworks.file_names import suffix_of
from bundleserver.frameworks.pickles.scan import inspect_pickle

_REBUILDERS = frozenset({"cloudpickle", "dill"})


def carries_code(path: Path, suffixes: frozenset[str]) -> bool:
    """Ask whether a file with one of those suffixes is a pickle with code in it.

    Raises:
        LoadError: the file cannot be read.
    """
    if suffix_of(path.name) not in suffixes:
        return False
    named = inspect_pickle(path).named
    return any(name.module.partition(".")[0] in _REBUILDERS for name in named)
