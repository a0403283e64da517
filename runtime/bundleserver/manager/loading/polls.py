"""The span of a poll: kept only where the poll found something else than the one before it."""

from __future__ import annotations

from collections.abc import Sequence

from bundleserver.sources import Listing
from bundleserver.spans import begin


class PollSpan:
    """The span of one poll; one that is not ended is dropped. In the watcher's thread."""

    def __init__(self) -> None:
        self._span = begin("poll")

    def end(self, listings: Sequence[Listing], before: Sequence[Listing]) -> Sequence[Listing]:
        """End a poll that found other listings than before; return what to compare the next with.

        Nothing is kept where nothing is traced.
        """
        if self._span is None:
            return ()
        if listings != before:
            self._span.set("bundleserver.models", len(listings))
            found = sum(len(listing.candidates) for listing in listings)
            self._span.set("bundleserver.versions", found)
            self._span.end()
        return listings

    def end_failed(self, error: BaseException, *, is_new: bool) -> None:
        """End a poll that failed, unless the poll before it has told the same."""
        if self._span is not None and is_new:
            self._span.fail(error)
            self._span.end()
