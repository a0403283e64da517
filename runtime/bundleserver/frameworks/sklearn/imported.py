"""scikit-learn's classes, as far as they are imported: no object can be of another.

Importing all that are asked for here takes as long as a booster's whole library.
"""

from __future__ import annotations

import sys


def classes(*names: str) -> tuple[type, ...]:
    """Return the classes of these names, such as ``ensemble.IsolationForest``."""
    found = []
    for name in names:
        module, _, kind = name.rpartition(".")
        found.append(getattr(sys.modules.get(f"sklearn.{module}"), kind, None))
    return tuple(kind for kind in found if isinstance(kind, type))


def is_of(thing: object, *names: str) -> bool:
    """Ask whether an object is of one of these classes, or of one that extends it."""
    return isinstance(thing, classes(*names))
