"""A connection is closed when the head of its next request is awaited for too long.

A request costs nothing more for it: one timer per connection checks now and then whether a head
has arrived since its last check. A body has a deadline of its own, in ``rest/http.py``; it begins
with a body's first bytes, or with the first check that finds none.
"""

from __future__ import annotations

import asyncio

from bundleserver.serving.connection.refusing import LastWords
from bundleserver.serving.errors import answer_for
from bundleserver.serving.rest.arriving import too_slow
from bundleserver.serving.rest.http import answer_of_error

NO_HEAD = object()
"""No head is awaited: a request is being answered, or uvicorn's keep-alive timeout runs."""


class HeadDeadline(LastWords):
    """A mixin for uvicorn's protocols: a next head may take twice ``timeout_receive`` at most.

    A connection's first head may take ``timeout_receive``.
    """

    timeout_receive: float = 0.0
    """Seconds between two checks; 0: none."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to check."""
        super().connection_made(transport)
        self._awaited_after: object = None
        self._next_check: asyncio.TimerHandle | None = None
        if self.timeout_receive:
            self._check_later()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop checking."""
        if self._next_check is not None:
            self._next_check.cancel()
        super().connection_lost(exc)

    def head_awaited_after(self) -> object:
        """Return what came before the awaited head, None before a first one, or ``NO_HEAD``."""
        raise NotImplementedError

    def has_head_begun(self) -> bool:
        """Tell whether a part of the awaited head has certainly arrived."""
        raise NotImplementedError

    def _check_later(self) -> None:
        loop = asyncio.get_running_loop()
        self._next_check = loop.call_later(self.timeout_receive, self._check)

    def _check(self) -> None:
        """Close the connection where the head awaited at the last check has not arrived."""
        if self.is_over or self._connection.is_closing():
            return
        before, self._awaited_after = self._awaited_after, self.head_awaited_after()
        if self._awaited_after is NO_HEAD or self._awaited_after is not before:
            self._check_later()
            return
        if self.has_head_begun():
            # There is no request yet that the application could answer.
            error = too_slow("a part of its head", self.timeout_receive, self.timeout_receive)
            self.note_unread("http", error)
            self.end_with(self.words_of(answer_of_error(answer_for(error))))
        else:
            self._connection.close()
