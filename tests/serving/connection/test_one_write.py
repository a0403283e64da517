"""Answers in one write: what a client reads at once is the whole of it."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

import pytest

from bundleserver.serving.connection.one_write import OneWriteTransport
from tests.serving.fakes import DEADLINE_SECONDS, FakeManager, FakeModel, serving

HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"
LARGE = b"x" * 100_000


class Wire:
    """A connection that remembers what was written, and whether it was closed."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def get_extra_info(self, name: str) -> str:
        return f"the {name}"


@pytest.mark.parametrize(
    ("pieces", "written"),
    [
        ([HEAD, b"{}"], [HEAD + b"{}"]),
        ([HEAD, b"{", b"}"], [HEAD + b"{", b"}"]),
        ([HEAD, b"{}", HEAD, b"[]"], [HEAD + b"{}", HEAD + b"[]"]),
        ([b"HTTP/1.1 100 Continue\r\n\r\n"], [b"HTTP/1.1 100 Continue\r\n\r\n"]),
        ([b"HTTP/1.1 is what a body may say\r\n"], [b"HTTP/1.1 is what a body may say\r\n"]),
        ([HEAD, LARGE], [HEAD, LARGE]),
        ([HEAD], []),
    ],
)
def test_a_head_goes_with_what_follows(pieces, written):
    """A head waits for the first piece of its body; nothing else waits for anything."""
    wire = Wire()
    transport = OneWriteTransport(wire)
    for piece in pieces:
        transport.write(piece)

    assert written == wire.written


@pytest.mark.parametrize("end", ["flush", "close"])
def test_a_head_alone_is_sent_at_the_end(end):
    """An answer without a body, or one that breaks off, is not kept back, and is sent once."""
    wire = Wire()
    transport = OneWriteTransport(wire)
    transport.write(HEAD)
    getattr(transport, end)()
    transport.flush()

    assert [HEAD] == wire.written
    assert (end == "close") == wire.closed
    assert "the peername" == transport.get_extra_info("peername")


@pytest.fixture
def connection():
    """Lend a connection to a server."""
    with serving(FakeManager(FakeModel("sums"))) as server:
        address = urlsplit(server.rest)
        with socket.create_connection((address.hostname, address.port), DEADLINE_SECONDS) as wire:
            yield wire


def ask(wire: socket.socket, request: bytes, upto: bytes) -> bytes:
    """Send a request and read until its answer ends so."""
    wire.sendall(request)
    answer = b""
    while not answer.endswith(upto):
        piece = wire.recv(65536)
        assert piece, answer
        answer += piece
    return answer


def test_every_kind_of_answer_arrives(connection):
    """GET, HEAD, and a body that waits for '100 Continue', one after the other on one line."""
    body = b'{"instances": [[1.0, 2.0]]}'
    post = b"POST /v1/models/sums:predict HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n"
    post += b"Content-Length: %d\r\n\r\n" % len(body)

    got = ask(connection, b"GET /v2/health/live HTTP/1.1\r\nHost: h\r\n\r\n", b"}")
    head = ask(connection, b"HEAD /v2/health/live HTTP/1.1\r\nHost: h\r\n\r\n", b"\r\n\r\n")
    go_on = ask(connection, post, b"100 Continue\r\n\r\n")
    answered = ask(connection, body, b"}")

    assert got.startswith(b"HTTP/1.1 200 OK")
    assert b"\r\n\r\n{" in got
    assert head.startswith(b"HTTP/1.1 200 OK")
    assert go_on.startswith(b"HTTP/1.1 100")
    assert answered.startswith(b"HTTP/1.1 200 OK")
    assert b"predictions" in answered


def test_a_request_that_is_no_http_is_told_so(connection):
    """The answer of the protocol itself comes before the connection is closed."""
    connection.sendall(b"this is no request\r\n\r\n")

    assert connection.recv(65536).startswith(b"HTTP/1.1 400 Bad Request")
