"""What is begun for a client that has gone ends at once."""

from __future__ import annotations

import asyncio

import pytest

from bundleserver.serving.errors import ClientDisconnectedError
from bundleserver.serving.rest.client import CLIENT, Client, answer_while_there


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_nobody_is_answered_who_has_gone(when):
    """A client may leave before its request is begun, too."""
    ended = []

    async def answering():
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.append(when)

    async def run():
        client = Client()
        asking = asyncio.ensure_future(answer_while_there({CLIENT: client}, answering()))
        if when == "meanwhile":
            await asyncio.sleep(0)
        client.leave()
        done, _ = await asyncio.wait({asking}, timeout=5)
        assert done
        with pytest.raises(ClientDisconnectedError):
            asking.result()

    asyncio.run(run())

    assert [when] == ended
