"""Which series of versions that are gone stay a while, and which are forgotten."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping

Present = Mapping[str, Collection[str]]
"""The versions that there are, by model."""

KEPT_SECONDS = 900.0
"""How long the series of a version stay after it is gone: longer than rates are asked over."""

MOST_GONE = 10
"""How many versions of a model that are gone have series, whatever their time."""


EVERY_SECONDS = 5.0
"""How often is looked which are gone; scrapes may come more often."""


class Retention:
    """Notes since when versions are gone. Called from one thread at a time."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now, self._looked = now, -EVERY_SECONDS
        self._since: dict[tuple[str, str], float] = {}

    def is_due(self) -> bool:
        """Ask whether the last look was long enough ago."""
        return self._now() - self._looked >= EVERY_SECONDS

    def gone(self, counted: Iterable[tuple[str, str]], present: Present) -> set[tuple[str, str]]:
        """Return the models and versions to forget.

        Args:
            counted: those that have series; the version is empty for requests without one.
            present: those that there are.
        """
        now = self._looked = self._now()
        missing = {
            (model, version)
            for model, version in counted
            if model not in present or (version and version not in present[model])
        }
        self._since = {key: self._since.get(key, now) for key in missing}
        forgotten = {key for key, since in self._since.items() if now - since >= KEPT_SECONDS}
        by_model: dict[str, list[tuple[str, str]]] = {}
        # The newest first, since a dictionary keeps the order of those with the same time.
        for key in sorted(self._since, key=self._since.__getitem__, reverse=True):
            by_model.setdefault(key[0], []).append(key)
        for keys in by_model.values():
            forgotten.update(keys[MOST_GONE:])
        return forgotten
