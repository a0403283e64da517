"""A client that is refused can read why, also if it goes on sending."""

from __future__ import annotations

import socket
import threading

import pytest
import uvicorn

from bundleserver.serving.connection import refusing
from bundleserver.serving.options import ServerOptions
from tests.hostile.test_http import MOST_BYTES, flood
from tests.serving.connection.test_bad_clients import BODY, HEAD, connect
from tests.serving.connection.test_other_protocols import to_the_end
from tests.serving.fakes import (
    DEADLINE_SECONDS,
    FakeManager,
    FakeModel,
    FakeVersion,
    Gate,
    serving,
)

LIVE = b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n"
LONG = LIVE + b"x: " + b"y" * 70_000
CHUNKED = HEAD.partition(b"Content-Length")[0] + b"Transfer-Encoding: chunked\r\n\r\n"
WAYS = [(uvicorn.__version__, "eager"), ("99.0", "plain")]


@pytest.mark.parametrize(("version", "way"), WAYS, ids=["eager", "plain"])
@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"no request\r\n\r\n", 400),
        (LONG, 431),
        (LIVE + b"x", 408),
        (LIVE + b"\r\nno request\r\n\r\n", 400),
        (CHUNKED + b"zz\r\n", 400),
        (b"no request\r\n\r\n" * 100, 400),
        (LIVE + b"\r\n" + b"no request\r\n\r\n" * 100, 400),
    ],
    ids=[
        *("no request", "long head", "slow head", "after another", "broken body"),
        *("many", "many after another"),
    ],
)
def test_who_is_refused_reads_why(monkeypatch, caplog, version, way, sent, status):
    """The answer comes, then the end; what is sent after that is taken and dropped."""
    monkeypatch.setattr(uvicorn, "__version__", version)
    monkeypatch.setattr(refusing, "_LINGER_SECONDS", DEADLINE_SECONDS)
    if (way, sent[:4]) == ("plain", CHUNKED[:4]):
        pytest.skip("a request that runs may say something yet; it is closed at once")
    manager = FakeManager(FakeModel("sums", (FakeVersion("1"),)))
    options = ServerOptions(timeout_receive=0.3)
    with serving(manager, options) as server, connect(server) as connection:
        connection.sendall(sent)
        said = to_the_end(connection)
        for _ in range(3):
            # The first one would be answered by a reset, and the next ones fail.
            connection.sendall(b"x" * 1000)
            threading.Event().wait(0.02)

    assert b"HTTP/1.1 %d " % status in said
    assert said.count(b"HTTP/1.1 ") == 1 + (LIVE + b"\r\n" in sent)
    assert "Fatal error" not in caplog.text


def test_whoever_goes_on_and_on_is_cut_off(monkeypatch):
    """After a mebibyte what comes is taken no more."""
    monkeypatch.setattr(refusing, "_LINGER_SECONDS", DEADLINE_SECONDS)
    manager = FakeManager(FakeModel("sums", (FakeVersion("1"),)))
    with serving(manager) as server, connect(server) as connection:
        connection.sendall(b"no request\r\n\r\n")
        to_the_end(connection)

        assert flood(connection, b"x" * 2**16) < MOST_BYTES


@pytest.mark.parametrize("half_closed", [False, True])
@pytest.mark.parametrize("behind", [0, 3])
def test_what_was_accepted_is_answered_whatever_follows(behind, half_closed):
    """However much comes after what is no request, those before it get their answers, then it."""
    gate = Gate()
    manager = FakeManager(FakeModel("sums", (FakeVersion("1", gate),)))
    with serving(manager) as server, connect(server) as connection:
        connection.sendall(HEAD + BODY + (LIVE + b"\r\n") * behind + b"no request\r\n\r\n")
        assert gate.entered.acquire(timeout=DEADLINE_SECONDS)
        if half_closed:
            connection.shutdown(socket.SHUT_WR)
        else:
            connection.setblocking(False)
            sent = 0
            try:
                # What the kernels and the server take.
                while sent < 2**23:
                    sent += connection.send(b"x" * 2**16)
            except BlockingIOError:
                pass
            threading.Event().wait(0.1)
            connection.settimeout(DEADLINE_SECONDS)
        gate.opened.set()
        said = b""
        while said.count(b"HTTP/1.1 4") < 1 and (more := connection.recv(2**16)):
            said += more

    finals = said.replace(b"HTTP/1.1 100", b"")
    assert [b"200"] * (1 + behind) + [b"400"] == [
        part[:3] for part in finals.split(b"HTTP/1.1 ")[1:]
    ]
