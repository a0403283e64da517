"""Names of a bundle's own modules that other modules have: a library would get the wrong one."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from importlib.machinery import PathFinder
from pathlib import Path

from bundleserver.documents.forms import quoted
from bundleserver.errors import LoadError
from bundleserver.manifest import CODE

_INSTALLED = frozenset({"site-packages", "dist-packages"})


def refuse_taken(directory: Path, names: Iterable[str]) -> None:
    """Refuse modules with the names of Python's own, or of installed ones.

    What only lies on the path, as the module in a notebook's directory does that was saved with the
    bundle, was installed by nobody, and each version has its own.

    Raises:
        LoadError: names them.
    """
    taken = [name for name in sorted(names) if is_taken(name)]
    if taken:
        raise LoadError(
            f"'{directory / CODE}' has {quoted(taken)}, and so has Python, or a package that is "
            "installed here; rename them, or save the bundle without them to use what is installed"
        )


def is_taken(name: str) -> bool:
    """Ask whether Python, or a package that is installed here, has a module of that name."""
    if name in sys.stdlib_module_names or name == "bundleserver":
        return True
    places = [place for place in sys.path if Path(place).name in _INSTALLED]
    spec = PathFinder.find_spec(name, places)
    # A directory without modules is a package without a file.
    return spec is not None and spec.origin is not None
