"""The client of a connection: work for one that has gone away is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from bundleserver.serving.errors import ClientDisconnectedError
from bundleserver.serving.rest.asgi import Message
from bundleserver.serving.rest.http import Answer

CLIENT = "bundleserver.client"
"""The key of the client in the scope of its requests, where the connection tells of its end."""


class Client:
    """The tasks that answer one connection's requests. On the event loop."""

    def __init__(self) -> None:
        self.tasks: set[asyncio.Task[object]] = set()
        self.is_gone = False

    def leave(self) -> None:
        """Cancel what is being answered: nobody waits for it."""
        self.is_gone = True
        for task in tuple(self.tasks):
            task.cancel()


async def answer_while_there(scope: Message, answering: Awaitable[Answer]) -> Answer:
    """Wait for an answer as long as the client does.

    Raises:
        ClientDisconnectedError: it has gone away.
    """
    client, task = scope.get(CLIENT), asyncio.current_task()
    if not isinstance(client, Client) or task is None:
        return await answering
    if client.is_gone:
        # As if it had left in the meantime: what was begun has to end.
        task.cancel()
    client.tasks.add(task)
    try:
        answer = await answering
        if client.is_gone:
            raise ClientDisconnectedError
        return answer
    except asyncio.CancelledError:
        if client.is_gone:
            raise ClientDisconnectedError from None
        raise
    finally:
        client.tasks.discard(task)
