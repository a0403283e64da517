"""The end of a server's connections: each is told with an answer before it is closed.

A client that keeps a connection may send its next request at any moment, and one that has connected
its first. So while the server ends every answer says ``connection: close``, new connections are
still answered, and what is closed without an answer has been silent for long.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Protocol

from bundleserver.serving.accepting import POLL_SECONDS


class Ending:
    """Whether the server ends; every connection of it reads the same one.

    Attributes:
        begun: whether answers say that their connection is closed after them.
    """

    begun = False


class EndingConnection(Protocol):
    """What a connection promises to a server that ends."""

    def close_after_answers(self) -> None:
        """Say with the last answer in flight that the connection is closed after it."""

    def has_head_begun(self) -> bool:
        """Tell whether a part of a request's head has arrived."""


async def wait_for_silence(
    connections: Iterable[EndingConnection], known: Iterable[object], seconds: float
) -> None:
    """Wait until no connection's first request, and no begun one, may still come; at most so long.

    Args:
        connections: those that are open, now and later.
        known: those that have been silent for long, if no request has begun there.
        seconds: how long a silent one waits for its request.
    """
    loop, known = asyncio.get_running_loop(), set(known)
    until = loop.time() + seconds
    while loop.time() < until and any(
        connection not in known or connection.has_head_begun() for connection in connections
    ):
        await asyncio.sleep(POLL_SECONDS)
