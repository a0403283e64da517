"""The columns that a request has, held against those that a table's taker expects."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from itertools import islice

MOST_COMPARED = 200
"""Names among which a similar one is sought, whose cost grows with them."""

_LONGEST = 80
_MOST_SAID = 20


def column_problems(
    came: Collection[str],
    columns: Collection[str],
    required: Sequence[str],
    *,
    strict: bool = False,
) -> tuple[str, str] | None:
    """Say which columns are missing or there twice; None if the table can be made.

    Args:
        came: the request's columns, in any order.
        columns: the taker's columns.
        required: those that it cannot do without.
        strict: whether a column that the taker does not know is a problem; else it is ignored.

    Returns:
        The problems, and a hint to end the message with: columns that were probably misspelt.
    """
    listed, known = Counter(iter(came)), set(columns)
    unknown = [name for name in listed if name not in known]
    missing = [name for name in required if name not in listed]
    problems = [f"missing column '{name}'" for name in missing]
    problems += [f"unknown column '{name}'" for name in unknown if strict]
    twice = [name for name in columns if listed[name] > 1]
    problems += [f"duplicate column '{name}'" for name in twice]
    if not problems:
        return None
    if len(problems) > _MOST_SAID:
        problems[_MOST_SAID:] = [f"and {len(problems) - _MOST_SAID} more problems"]
    near = ((name, nearest(name, unknown)) for name in missing[:_MOST_SAID])
    meant = [f"'{name}' for '{other}'" for name, other in near if other is not None]
    return ", ".join(problems), f"; did you mean {', '.join(meant)}?" if meant else ""


def nearest(name: str, others: Iterable[str]) -> str | None:
    """Return the name that is most like one that was probably misspelt; None if none is.

    Long names and any after the first ones are not looked at.
    """
    some = islice(others, MOST_COMPARED)
    folded = {other.casefold(): other for other in some if len(other) <= _LONGEST}
    if not folded or len(name) > _LONGEST:
        return None
    near = difflib.get_close_matches(name.casefold(), folded, n=1)
    return folded[near[0]] if near else None
