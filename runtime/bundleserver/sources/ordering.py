"""A model's versions in order, kept between polls: thousands are sorted only once."""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass, field

from bundleserver.versions import Version, same_order, sort_key

_FEW = 100
"""Up to so many new versions are inserted one by one; more are sorted with the rest."""


@dataclass(frozen=True)
class OrderedVersions:
    """The versions of a model in one poll.

    Attributes:
        labels: their labels in the order of the directory.
        newest_first: the versions in order.
        alike: groups of versions of the same order, which are probably a mistake.
        known: the versions by label.
    """

    labels: tuple[str, ...] = ()
    newest_first: tuple[Version, ...] = ()
    alike: tuple[tuple[Version, ...], ...] = ()
    known: dict[str, Version] = field(default_factory=dict)

    def with_labels(self, labels: tuple[str, ...]) -> OrderedVersions:
        """Return the versions of a later poll; only new ones are parsed and inserted."""
        if labels == self.labels:
            return self
        present = {*labels}
        ordered = [v for v in reversed(self.newest_first) if v.label in present]
        new = [Version(label) for label in labels if label not in self.known]
        if len(new) > _FEW:
            ordered = sorted([*ordered, *new], key=sort_key)
        else:
            for version in new:
                insort(ordered, version, key=sort_key)
        known = {version.label: version for version in ordered}
        return OrderedVersions(labels, tuple(reversed(ordered)), same_order(ordered), known)
