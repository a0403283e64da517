"""YAML within limits: an alias may stand for very much, and nesting ends a parser in C."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

MOST_VALUES = 100_000
"""The most values of a document, each alias counted as what it stands for."""

DEEPEST = 64
"""Maximum nesting depth."""


_LONGEST_NUMBER = 1_000
_NUMBER = re.compile(r"[-+0-9_:.eExXa-fA-F]*")


def parse_yaml(text: str) -> object:
    """Return the document in a YAML text.

    Raises:
        ValueError: it is not YAML, or exceeds a limit; says which.
    """
    import yaml

    # The one in C is quick. Both recurse when they build, which is why nesting is checked first.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        _check(yaml.parse(text, Loader=loader))
        return yaml.load(text, Loader=loader)  # noqa: S506  # one of the two that are safe
    except yaml.YAMLError as error:
        raise ValueError(str(error).partition("\n")[0]) from error
    except (LookupError, TypeError, AttributeError, ArithmeticError) as error:
        # What the library raises for a tag on a value that it does not fit, as !!int "".
        raise ValueError(f"it has a value that its tag does not fit: {error!r}") from error


def _check(events: Iterable[Any]) -> None:
    """Count what a document has, without building it.

    Raises:
        ValueError: it exceeds a limit.
    """
    import yaml

    # Of each open list or mapping, and first of the document: its anchor, and the values before.
    open_nodes: list[tuple[str | None, int]] = []
    sizes: dict[str, int | None] = {}
    count = 0
    for event in events:
        if isinstance(event, yaml.CollectionStartEvent):
            open_nodes.append((event.anchor, count))
            if event.anchor:
                sizes[event.anchor] = None
            count += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_nodes.pop()
            if anchor:
                sizes[anchor] = count - before
        elif isinstance(event, yaml.ScalarEvent):
            count += 1
            if len(event.value) > _LONGEST_NUMBER and _NUMBER.fullmatch(event.value):
                # YAML has numbers like 1:59:59, which take the square of their length.
                raise ValueError(f"it has a number of {len(event.value)} characters")
            if event.anchor:
                sizes[event.anchor] = 1
        elif isinstance(event, yaml.AliasEvent):
            size = sizes.get(event.anchor, 1)
            if size is None:
                raise ValueError(f"'*{event.anchor}' stands within what it stands for")
            count += size
        if count > MOST_VALUES:
            raise ValueError(f"it has more than {MOST_VALUES} values")
        if len(open_nodes) > DEEPEST:
            raise ValueError(f"it is nested deeper than {DEEPEST}")
