"""Version labels in natural order, and the policies that select versions."""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property, total_ordering
from itertools import groupby

_LABEL = re.compile(r"v?[0-9][A-Za-z0-9._+-]*\Z")
_LONGEST = 64
_MOST_SPECIFIC = 1_000

_PART = re.compile(r"[0-9]+|[A-Za-z]+")

_BEFORE_RELEASE = {
    "dev": 0,
    "snapshot": 0,
    "nightly": 0,
    "alpha": 1,
    "beta": 2,
    "pre": 3,
    "preview": 3,
    "rc": 3,
}
"""Pre-release words in their order; a label with one sorts before the same label without it."""

_BEFORE_RELEASE_WITH_NUMBER = {"a": 1, "b": 2, "c": 3}
"""As above when a number follows: ``1.2b1`` is a beta, ``2b`` comes after ``2``."""

# The kinds of a label's parts in their sort order.
_FIRST, _EARLIER, _END, _WORD, _NUMBER = range(5)


def is_version_label(name: str) -> bool:
    """Ask whether a name is a version label: ``1``, ``v2``, ``1.10.0``, ``2025-12-09``."""
    return len(name) <= _LONGEST and _LABEL.match(name) is not None


@total_ordering
@dataclass(frozen=True, eq=False)
class Version:
    """A version label; equal labels are equal versions, ``v2`` and ``2`` only have the same order.

    Order is natural: ``v9 < v10 < 10.1``, ``1.2.0-rc1 < 1.2.0 < 1.2.0-fix``, dates in order.
    Between labels of the same order the spelling decides: ``2 < v2``.

    Attributes:
        label: its name.
        is_first: it is what lay in a model's directory before there were versions, which comes
            before all of them whatever its label.
    """

    label: str
    is_first: bool = False

    @classmethod
    def parse(cls, text: str) -> Version:
        """Parse a label.

        Raises:
            ValueError: the string is not a valid version label.
        """
        if not is_version_label(text):
            raise ValueError(
                f"'{text}' is not a valid version label; expected a digit, or v and a digit, then "
                f"letters, digits, '.', '_', '+', '-', at most {_LONGEST} characters"
            )
        return cls(text)

    def __str__(self) -> str:
        return self.label

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Version) and self.label == other.label

    def __hash__(self) -> int:
        return hash(self.label)

    def __lt__(self, other: Version) -> bool:
        # The label itself settles 'v2' against '2', so that the order is total and equality exact.
        return (self.order, self.label) < (other.order, other.label)

    @cached_property
    def order(self) -> tuple[tuple[int, int, str], ...]:
        """The natural sort key; the same for ``v2`` and ``2``."""
        if self.is_first:
            return ((_FIRST, 0, ""),)
        number = self.label.removeprefix("v")
        if number.isdigit():
            return (_NUMBER, int(number), ""), (_END, 0, "")
        main, _, build = number.partition("+")
        return (*_order_main(main), (_END, 0, ""), *map(_order_part, _PART.findall(build)))


def _order_main(text: str) -> Iterator[tuple[int, int, str]]:
    parts = _PART.findall(text)
    for part, following in zip(parts, [*parts[1:], ""], strict=True):
        rank = _BEFORE_RELEASE.get(part.lower())
        if rank is None and following.isdigit():
            rank = _BEFORE_RELEASE_WITH_NUMBER.get(part.lower())
        yield _order_part(part) if rank is None else (_EARLIER, rank, "")


def _order_part(part: str) -> tuple[int, int, str]:
    return (_NUMBER, int(part), "") if part.isdigit() else (_WORD, 0, part.lower())


@dataclass(frozen=True)
class VersionPolicy:
    """Which versions are wanted: the ``count`` newest (None: all of them), or ``specific`` ones."""

    count: int | None = 1
    specific: tuple[Version, ...] = ()

    @classmethod
    def parse(cls, text: str) -> VersionPolicy:
        """Parse ``latest``, ``latest:N``, ``all`` or ``specific:v1,v3``.

        Raises:
            ValueError: it is none of them.
        """
        kind, colon, value = text.strip().partition(":")
        if kind == "specific":
            if value.count(",") >= _MOST_SPECIFIC:
                raise ValueError(
                    f"the version policy names {value.count(',') + 1} versions; expected at most "
                    f"{_MOST_SPECIFIC}"
                )
            try:
                named = {Version.parse(label.strip()) for label in value.split(",")}
            except ValueError as error:
                raise ValueError(f"'{text}' is not a valid version policy: {error}") from error
            return cls(None, tuple(sorted(named)))
        if text.strip() == "all":
            return cls(None)
        if kind == "latest":
            return cls(_parse_count(text, value) if colon else 1)
        raise ValueError(
            f"'{text}' is not a valid version policy; expected latest, latest:N, all or "
            "specific:v1,v3"
        )

    def __str__(self) -> str:
        if self.specific:
            return "specific:" + ",".join(version.label for version in self.specific)
        if self.count is None:
            return "all"
        return "latest" if self.count == 1 else f"latest:{self.count}"


def select_versions(versions: Iterable[Version], policy: VersionPolicy) -> tuple[Version, ...]:
    """Return the versions that a policy selects, newest first."""
    if policy.specific:
        named = set(policy.specific)
        return tuple(sorted({v for v in versions if v in named}, reverse=True))
    if policy.count is None:
        return tuple(sorted(set(versions), reverse=True))
    return tuple(heapq.nlargest(policy.count, set(versions)))


def sort_key(version: Version) -> tuple[object, str]:
    """Return the key that sorts as versions compare; for thousands it is much faster than they."""
    return version.order, version.label


def same_order(ordered: Iterable[Version]) -> tuple[tuple[Version, ...], ...]:
    """Return the groups of sorted versions of the same order, such as ``2`` and ``v2``."""
    alike = groupby(ordered, key=lambda version: version.order)
    return tuple(group for _, members in alike if len(group := tuple(members)) > 1)


def _parse_count(text: str, value: str) -> int:
    if not (value.isascii() and value.isdigit() and int(value) > 0):
        raise ValueError(
            f"'{text}' is not a valid version policy; expected latest:N with an integer N of at "
            "least 1, such as latest:2"
        )
    return int(value)
