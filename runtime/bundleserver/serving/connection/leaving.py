"""Notices that a client has gone away, which ends the work for it.

A client that sends no more, but still reads, looks like one that has closed altogether. Only the
latter's machine refuses what it is sent; so while such a client's request is worked on, it is sent
the interim response ``100 Continue`` now and then, which every HTTP/1.1 client skips.
"""

from __future__ import annotations

import asyncio

from bundleserver.serving.connection.head_deadline import HeadDeadline
from bundleserver.serving.rest.client import Client

_INTERIM = b"HTTP/1.1 100 Continue\r\n\r\n"
_FIRST_SECONDS, _LAST_SECONDS = 0.4, 5.0
"""The first two are this far apart, since the second one notices; the others twice as far each."""


class NoticesLeaving(HeadDeadline):
    """A mixin for uvicorn's protocols: cancels a connection's requests when its client leaves."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin with a client that is there."""
        super().connection_made(transport)
        self.awaiting = Client()
        self._next_interim: asyncio.TimerHandle | None = None

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel what is being answered."""
        if self._next_interim is not None:
            self._next_interim.cancel()
        super().connection_lost(exc)
        self.awaiting.leave()

    def notice_leaving(self) -> None:
        """Find out whether a client that sends no more has left."""
        if self._next_interim is None:
            self._wait_and_send(_FIRST_SECONDS, _FIRST_SECONDS)

    def _wait_and_send(self, seconds: float, then: float) -> None:
        loop = asyncio.get_running_loop()
        self._next_interim = loop.call_later(seconds, self._send_interim, then)

    def _send_interim(self, then: float) -> None:
        if self.is_over or self._connection.is_closing():
            return
        # Whoever is in it has sent no part of its answer.
        if self.awaiting.tasks:
            self._connection.write(_INTERIM)
        self._wait_and_send(then, min(2 * then, _LAST_SECONDS))
