"""What the tests of servers in processes of their own share."""

from __future__ import annotations

import socket
from contextlib import ExitStack

import pytest


@pytest.fixture(scope="session")
def free_ports():
    """Give a function that finds ports nobody listens on now."""

    def find(count: int) -> list[int]:
        with ExitStack() as held:
            sockets = [held.enter_context(socket.create_server(("", 0))) for _ in range(count)]
            return [taken.getsockname()[1] for taken in sockets]

    return find
