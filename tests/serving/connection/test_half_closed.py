"""Clients that close their sending side after a request get its answer, and then the end."""

from __future__ import annotations

import json
import socket
import struct

import pytest
import uvicorn

from bundleserver.serving.options import ServerOptions
from tests.serving.connection.test_bad_clients import ANSWER, BODY, HEAD, PATH, ask, wait_until
from tests.serving.connection.test_eager import connect, models, request
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

CHUNKED = request("POST", PATH, None, "Transfer-Encoding: chunked")
LIVE = request("GET", "/v2/health/live")


@pytest.fixture(autouse=True, params=[uvicorn.__version__, "99.0"], ids=["eager", "plain"])
def _way(request, monkeypatch):
    """Serve with each protocol."""
    monkeypatch.setattr(uvicorn, "__version__", request.param)


def sent_and_closed(server, sent):
    """Send something, close the sending side, and return all that comes back."""
    with connect(server) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        return to_the_end(connection)


@pytest.mark.parametrize(
    "sent",
    [
        HEAD + BODY,
        CHUNKED + b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY),
        request("POST", PATH, BODY, "Connection: Upgrade", "Upgrade: h2c"),
        request("POST", PATH, BODY, "Connection: close"),
        request("POST", PATH, BODY, "Expect: 100-continue"),
        request("POST", PATH, BODY + b" " * 300_000),
        LIVE,
        request("GET", "/metrics"),
        request("POST", "/v2/nothing", BODY),
    ],
)
def test_a_client_that_only_listens_is_answered(sent):
    """Every whole request is answered before the connection is closed."""
    with serving(models()) as server:
        said = sent_and_closed(server, sent)

    final = said.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert final.startswith(b"HTTP/1.1 404" if b"nothing" in sent else b"HTTP/1.1 200"), said
    assert 1 == final.count(b"HTTP/1.1 ")


def test_pipelined_requests_are_all_answered():
    """Those that are whole, that is; a part of one is dropped without a word."""
    names = [f"n{at}" for at in range(5)]
    sent = b"".join(map(infer, names))
    with serving(models()) as server:
        for rest in (b"", infer("part")[:40], infer("part")[:-3]):
            said = sent_and_closed(server, sent + rest)
            bodies = [part.partition(b"\r\n\r\n")[2] for part in said.split(b"HTTP/1.1 200 OK")[1:]]
            assert names == [json.loads(body)["id"] for body in bodies]


@pytest.mark.parametrize("rest", [b"", LIVE, LIVE[:10], HEAD, HEAD + BODY[:5]])
def test_a_slow_answer_comes_too(rest):
    """However long a model takes, the client that listens gets its answer, then the end."""
    gate = Gate()
    manager = FakeManager(FakeModel("sums", (FakeVersion("1", gate),)))
    with serving(manager) as server, connect(server) as connection:
        connection.sendall(HEAD + BODY + rest)
        connection.shutdown(socket.SHUT_WR)
        assert gate.entered.acquire(timeout=DEADLINE_SECONDS)
        gate.opened.set()
        said = to_the_end(connection)

    assert b"HTTP/1.1 200 OK" == said.split(b"\r\n")[0]
    assert json.dumps(ANSWER, separators=(",", ":")).encode() in said
    assert (b'{"live":true}' in said) == (rest == LIVE)


def test_a_large_answer_comes_whole():
    """An answer larger than what sockets buffer is sent to its last byte."""
    body = b'{"inputs":[{"name":"x","datatype":"BYTES","shape":[1],"data":["%b"]}]}'
    body %= b"a" * 20_000_000
    manager = FakeManager(FakeModel("echo", (FakeVersion("1", echo, ECHO),)))
    with serving(manager) as server:
        said = sent_and_closed(server, request("POST", "/v2/models/echo/infer", body))

    assert 20_000_000 == said.count(b"a" * 1000) * 1000


@pytest.mark.parametrize(
    "sent",
    [b"", HEAD[:10], HEAD, HEAD + BODY[:5], CHUNKED, CHUNKED + b"3\r\n{} \r\n", LIVE + HEAD[:10]],
)
def test_a_part_of_a_request_is_dropped_at_once(sent):
    """Half a request asks no model, is no error, and leaves no connection behind."""
    with serving(models(), ServerOptions(timeout_receive=0)) as server:
        said = sent_and_closed(server, sent)
        requests = [
            sample.value
            for family in server.registry.collect()
            for sample in family.samples
            if sample.name == "bundleserver_requests_total"
        ]

    assert said.startswith(b"HTTP/1.1 200 OK") if sent.startswith(LIVE) else b"" == said
    assert not requests


def test_a_client_that_is_gone_leaves_nothing():
    """Whoever resets the connection frees what it held once the call is over."""
    gate = Gate()
    manager = FakeManager(FakeModel("sums", (FakeVersion("1", gate),)))
    with serving(manager, ServerOptions(max_asyncio_workers=1)) as server:
        for half_closed in (False, True):
            connection = connect(server)
            connection.sendall(HEAD + BODY)
            if half_closed:
                connection.shutdown(socket.SHUT_WR)
            wait_until(lambda: manager.leased)
            linger = struct.pack("ii", 1, 0)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            connection.close()
            gate.opened.set()
            wait_until(lambda: not manager.leased)
            gate.opened.clear()
        gate.opened.set()
        assert ANSWER == ask(server)


def test_a_stopped_server_answers_a_client_that_only_listens():
    """A half-closed connection in flight is answered at the end as any other."""
    gate = Gate()
    manager = FakeManager(FakeModel("sums", (FakeVersion("1", gate),)))
    with serving(manager) as server, connect(server) as connection:
        connection.sendall(HEAD + BODY)
        connection.shutdown(socket.SHUT_WR)
        assert gate.entered.acquire(timeout=DEADLINE_SECONDS)
        server.server.stop()
        gate.opened.set()
        said = to_the_end(connection)

    assert said.startswith(b"HTTP/1.1 200 OK")
