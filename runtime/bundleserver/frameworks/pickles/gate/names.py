"""The names of a class as it calls itself, with those that it extends."""

from __future__ import annotations

import functools
from collections.abc import Hashable
from typing import cast


@functools.lru_cache(maxsize=4096)
def _names(kind: Hashable) -> tuple[str, ...]:
    return tuple(f"{base.__module__}.{base.__qualname__}" for base in cast(type, kind).__mro__)


def own_names(kind: type) -> tuple[str, ...]:
    """Return the names of a class and of those that it extends, whatever a pickle called it."""
    return _names(cast(Hashable, kind))
