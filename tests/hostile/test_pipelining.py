"""Requests that come before others are answered cost little, however they are cut."""

from __future__ import annotations

import json
import socket
import threading

import pytest

from bundleserver.serving.connection.eager import EagerProtocol
from bundleserver.serving.connection.pipelining import FEW_BYTES, MOST_AHEAD
from tests.serving.connection.test_bad_clients import BODY, HEAD, connect
from tests.serving.connection.test_eager import PREDICTABLE
from tests.serving.connection.test_other_protocols import infer, to_the_end
from tests.serving.fakes import (
    DEADLINE_SECONDS,
    ECHO,
    FakeManager,
    FakeModel,
    FakeVersion,
    Gate,
    echo,
    serving,
)

SHORTEST = b"GET / HTTP/1.1\r\n\r\n"


@pytest.fixture
def lengths(monkeypatch):
    """Note how many requests wait after each piece that is parsed."""
    seen, own = [], EagerProtocol.parse

    def parse(self, data):
        own(self, data)
        seen.append(len(self.pipeline))

    monkeypatch.setattr(EagerProtocol, "parse", parse)
    return seen


@pytest.mark.parametrize("size", [1, 17, 500, FEW_BYTES, 1000, 1024, 5000, 100_000])
def test_no_more_requests_wait_than_the_limits_page_says(lengths, size):
    """32 may wait, whatever their size and their pieces; all of them are answered."""
    gate, count = Gate(), 1200
    manager = FakeManager(FakeModel("sums", (FakeVersion("1", gate),)))
    with serving(manager) as server, connect(server) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(HEAD + BODY)
        assert gate.entered.acquire(timeout=DEADLINE_SECONDS)
        sent = SHORTEST * (count if size > 1 else 60)
        for start in range(0, len(sent), size):
            connection.sendall(sent[start : start + size])
        connection.shutdown(socket.SHUT_WR)
        gate.opened.set()
        said = to_the_end(connection)

    assert 1 + len(sent) // len(SHORTEST) == said.replace(b"HTTP/1.1 100", b"").count(b"HTTP/1.1 ")
    assert MOST_AHEAD >= max(lengths)


def test_large_bodies_among_many_requests_are_framed(lengths):
    """A body is parsed in few pieces, also behind others, and what follows it in small ones."""
    gate = Gate()
    manager = FakeManager(
        FakeModel("sums", (FakeVersion("1", gate),)),
        FakeModel("echo", (FakeVersion("1", echo, ECHO),)),
    )
    names = [f"n{at}" * size for at in range(5) for size in (1, 40_000)]
    sent = SHORTEST * 40 + b"".join(map(infer, names)) + SHORTEST * 40
    with serving(manager) as server, connect(server) as connection:
        connection.sendall(HEAD + BODY)
        assert gate.entered.acquire(timeout=DEADLINE_SECONDS)
        sending = threading.Thread(target=connection.sendall, args=(sent,))
        sending.start()
        gate.opened.set()
        said = b""
        while said.count(b"HTTP/1.1 ") < 91 or not said.endswith(b"}"):
            said += connection.recv(2**16)
        sending.join()

    bodies = [part.partition(b"\r\n\r\n")[2] for part in said.split(b"HTTP/1.1 ")[1:]]
    ids = [json.loads(body).get("id") for body in bodies if body.startswith(b"{")]
    assert names == [name for name in ids if name]
    assert MOST_AHEAD >= max(lengths)
    assert 2000 > len(lengths)


@pytest.mark.parametrize("before", [0, 3, 40])
def test_nothing_is_asked_after_the_last_answer(before):
    """What comes behind a request that ends its connection is never run."""
    gate, asked = Gate(), []

    def note(inputs, parameters):
        asked.append(1)
        return echo(inputs, parameters)

    manager = FakeManager(
        FakeModel("sums", (FakeVersion("1", gate),)),
        FakeModel("echo", (FakeVersion("1", note, ECHO, call_traits=PREDICTABLE),)),
    )
    last = b"GET /v2/health/live HTTP/1.1\r\nConnection: close\r\n\r\n"
    with serving(manager) as server, connect(server) as connection:
        connection.sendall(HEAD + BODY)
        assert gate.entered.acquire(timeout=DEADLINE_SECONDS)
        connection.sendall(SHORTEST * before + last + infer("behind") * 60)
        gate.opened.set()
        said = to_the_end(connection)

    assert 2 + before == said.count(b"HTTP/1.1 ")
    assert b'{"live":true}' in said
    assert not asked
