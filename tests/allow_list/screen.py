"""What a class's source says about it: each hit is reviewed by hand, in ``verdicts.txt``."""

from __future__ import annotations

import functools
import importlib
import inspect
import re
from collections.abc import Iterator

from tests.allow_list.record import LIBRARIES

RUNS_CODE = re.compile(
    r"(?<![\w.])(eval|exec|compile|open|__import__|globals|locals|input|setattr)\(|"
    r"(getattr)\((?![^()]*,\s*[\"'])|"
    r"\b(import_module|importlib|subprocess|pickle|ctypes|os\.(system|popen|remove|unlink)|"
    r"urlopen|socket|joblib\.load|np\.load|tempfile|Popen|marshal|builtins|"
    r"__reduce__|__reduce_ex__|__setstate__|__call__|__getattr__|__getattribute__|__del__|"
    r"__array_function__|read_csv|loadtxt|genfromtxt|fromfile|memmap)\b"
)
"""What the source of a class is searched for: ways to run, to open and to import, attributes by
names that are no literals, and what Python calls by itself."""

_SCREENED = frozenset(LIBRARIES)


def found(name: str) -> object | None:
    """Return what a name means with the installed versions; None if it means nothing."""
    module, _, rest = name.rpartition(".")
    parts = [rest]
    while module:
        try:
            owner: object = importlib.import_module(module)
        except ImportError:
            module, _, part = module.rpartition(".")
            parts.insert(0, part)
            continue
        for part in parts:
            owner = getattr(owner, part, None)
        return owner
    return None


def classes_of(kind: type) -> Iterator[type]:
    """Yield a class and those that it extends, of the libraries that are screened."""
    for base in kind.__mro__:
        if base.__module__.partition(".")[0] in _SCREENED:
            yield base


@functools.cache
def hits(kind: type) -> list[str]:
    """Return what the search finds in a class's own source; 'no source' for compiled ones."""
    try:
        source = inspect.getsource(kind)
    except (OSError, TypeError):
        return ["no source"]
    lines = (line.partition("#")[0] for line in source.splitlines())
    code = re.sub(r'r?"""(?:.|\n)*?"""', "", "\n".join(lines))
    return sorted({next(filter(None, match.groups())) for match in RUNS_CODE.finditer(code)})
