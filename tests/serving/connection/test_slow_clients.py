"""Clients that begin a request and do not go on: each is told, or disconnected, in time."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import time
import weakref
from contextlib import ExitStack

import pytest
import uvicorn
from uvicorn.server import ServerState

from bundleserver.serving.connection.protocols import eager_protocol, plain_protocol
from bundleserver.serving.options import ServerOptions
from tests.serving.connection.test_bad_clients import (
    ANSWER,
    BODY,
    HEAD,
    PATH,
    ask,
    connect,
    read_answer,
)
from tests.serving.fakes import (
    DEADLINE_SECONDS,
    FakeManager,
    FakeModel,
    FakeVersion,
    Gate,
    serving,
)
from tests.serving.served_process import process

SECONDS = 0.3
OPTIONS = ServerOptions(timeout_receive=SECONDS)
CHUNKED = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
UNKNOWN = HEAD.replace(PATH.encode(), b"/v1/nothing")
EXPECT = HEAD.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n")
OK = ("HTTP/1.1 200 OK", {"predictions": ANSWER})


@pytest.fixture(params=[uvicorn.__version__, "99.0"], ids=["eager", "plain"])
def served(request, monkeypatch):
    """Serve a quick model to clients that have a third of a second, with each protocol."""
    monkeypatch.setattr(uvicorn, "__version__", request.param)
    with serving(FakeManager(FakeModel("sums")), OPTIONS) as server:
        yield server


def is_quiet(connection, seconds):
    """Tell whether the server says nothing, and leaves the connection open, for that long."""
    connection.settimeout(seconds)
    try:
        connection.recv(1)
    except TimeoutError:
        return True
    finally:
        connection.settimeout(DEADLINE_SECONDS)
    return False


def said_at_last(connection):
    """Read until the server closes the connection."""
    said = b""
    while piece := connection.recv(65536):
        said += piece
    return said


def drip(connection, drop):
    """Send a few bytes again and again until the server closes; return what it said."""
    ends, said = time.monotonic() + DEADLINE_SECONDS, b""
    connection.settimeout(SECONDS / 6)
    while time.monotonic() < ends:
        try:
            connection.sendall(drop)
            piece = connection.recv(65536)
        except TimeoutError:
            continue
        except ConnectionError:
            return said
        said += piece
        if not piece:
            return said
    raise AssertionError("the connection stayed open")


def assert_too_slow(said, came):
    """Check that an answer is 408 in the one form of an error, and that it says what came."""
    head, _, body = said.partition(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")

    assert b"http/1.1 408 request timeout" == lines[0], said
    assert {b"connection: close", b"content-type: application/json"} < set(lines)
    assert b"content-length: %d" % len(body) in lines
    assert body.startswith(b'{"error":"request timeout: received %s' % came)
    assert b"--timeout_receive" in body


@pytest.mark.parametrize(
    ("begun", "drop", "came"),
    [
        (HEAD, b" ", b""),
        (CHUNKED, b"1\r\n \r\n", b""),
        (CHUNKED, b"1;a=b", b"0 bytes of its body after"),
        (HEAD[:20], b"x", b"a part of its head after"),
        (HEAD[:-2], b"x-header: 1\r\n", b"a part of its head after"),
    ],
    ids=["body", "chunks", "chunk's head", "path", "headers"],
)
def test_a_client_that_drips_its_request_is_told_to_hurry(served, begun, drop, came):
    """Bytes that come one by one hold a connection for a while only; then it is 408."""
    with connect(served) as connection:
        connection.sendall(begun)
        said = drip(connection, drop)

    assert_too_slow(said, came)


@pytest.mark.parametrize(
    ("sent", "came"),
    [
        (HEAD, f"0 of the {len(BODY)} bytes of its body after "),
        (CHUNKED, "0 bytes of its body after "),
        (HEAD + BODY[:20], f"20 of the {len(BODY)} bytes of its body after "),
        (CHUNKED + b"3\r\n{} \r\n", "3 bytes of its body after "),
        (b"G", "a part of its head after 0.3 s; expected it within 0.3 s"),
        (HEAD[:-1], "a part of its head after 0.3 s"),
    ],
    ids=["no body", "no chunk", "a part of a body", "one chunk", "one byte", "no end of head"],
)
def test_a_client_that_stops_halfway_is_told_what_came(served, sent, came):
    """Half a request is 408, whichever half; the others never notice."""
    with ExitStack() as held:
        stuck = [held.enter_context(connect(served)) for _ in range(20)]
        for connection in stuck:
            connection.sendall(sent)

        while_they_wait = ask(served)
        said = [said_at_last(connection) for connection in stuck]

    assert ANSWER == while_they_wait
    for one in said:
        assert_too_slow(one, came.encode())


def test_a_large_part_of_a_body_buys_no_long_pause(served, caplog):
    """A body that came quickly at first and then not at all is 408, and nothing of it is left."""
    size = 2 * 2**20
    with connect(served) as connection:
        connection.sendall(HEAD.replace(b": %d" % len(BODY), b": %d" % size))
        connection.sendall(b" " * (size // 2))
        said = said_at_last(connection)

    gc.collect()
    assert_too_slow(said, b"1048576 of the 2097152 bytes of its body after")
    assert [] == [record.message for record in caplog.records if record.name == "asyncio"]


def test_the_connection_of_a_client_that_sends_nothing_is_closed(served):
    """There is no request that could be answered."""
    with connect(served) as connection:
        said = said_at_last(connection)

    assert b"" == said


@pytest.mark.parametrize(
    ("begun", "drop", "came"),
    [(HEAD[:20], b"x", b"a part of its head"), (HEAD, b" ", b""), (b"", b"\r\n", None)],
    ids=["head", "body", "blank lines"],
)
def test_a_further_request_has_the_same_time(served, begun, drop, came):
    """On a connection that was answered before, 408, or nothing where no request has begun."""
    with connect(served) as connection:
        connection.sendall(HEAD + BODY)
        answered = read_answer(connection)
        connection.sendall(begun)
        said = drip(connection, drop)

    assert OK == answered
    if came is None:
        # To h11 a blank line is an invalid request.
        assert said.split()[1:2] in ([], [b"400"])
    else:
        assert_too_slow(said, came)


def test_a_body_that_nobody_reads_is_not_dripped_for_ever(served):
    """What is answered by its head alone is closed when the rest goes on and on."""
    with connect(served) as connection:
        connection.sendall(UNKNOWN.replace(b": %d" % len(BODY), b": 1000000"))
        status, _ = read_answer(connection)
        said = drip(connection, b" ")

    assert "HTTP/1.1 404 Not Found" == status
    assert b"" == said


def test_a_slow_and_steady_client_is_answered():
    """A body may take longer than its seconds as long as it comes at a decent pace."""
    with (
        serving(FakeManager(FakeModel("sums")), ServerOptions(timeout_receive=1.0)) as server,
        connect(server) as connection,
    ):
        connection.sendall(CHUNKED)
        ends = time.monotonic() + 1.5
        while time.monotonic() < ends:
            connection.sendall(b"4000\r\n" + b" " * 0x4000 + b"\r\n")
            assert is_quiet(connection, 0.02)
        connection.sendall(b"%x\r\n" % len(BODY) + BODY + b"\r\n0\r\n\r\n")
        answer = read_answer(connection)

    assert OK == answer


def test_an_answered_connection_is_kept(served):
    """Between two requests the client may wait as long as --timeout-keep-alive says."""
    with connect(served) as connection:
        connection.sendall(HEAD + BODY)
        first = read_answer(connection)
        quiet = is_quiet(connection, 4 * SECONDS)
        connection.sendall(HEAD + BODY)
        second = read_answer(connection)

    assert quiet
    assert [OK, OK] == [first, second]


def test_a_connection_with_an_unread_body_is_kept_as_long_as_others():
    """Where the answer came before the body, the keep-alive timeout closes, and nothing sooner."""
    options = ServerOptions(timeout_receive=0.2, timeout_keep_alive=1)
    with (
        serving(FakeManager(FakeModel("sums")), options) as server,
        connect(server) as connection,
    ):
        connection.sendall(UNKNOWN)
        status, _ = read_answer(connection)
        connection.sendall(BODY)
        since = time.monotonic()
        said = said_at_last(connection)
        kept_seconds = time.monotonic() - since

    assert ("HTTP/1.1 404 Not Found", b"") == (status, said)
    assert kept_seconds > 0.95


def test_a_head_after_a_long_rest_has_its_whole_time():
    """What was awaited before a rest is forgotten, when a further head begins after it."""
    options = ServerOptions(timeout_receive=0.5)
    with (
        serving(FakeManager(FakeModel("sums")), options) as server,
        connect(server) as connection,
    ):
        begun = time.monotonic()
        connection.sendall(UNKNOWN)
        status, _ = read_answer(connection)
        # At 0.5 s the first look finds an unread body, at 1.0 s the second a rest.
        connection.sendall(BODY)
        rested = is_quiet(connection, begun + 1.35 - time.monotonic())
        connection.sendall(HEAD[:20])
        quiet = is_quiet(connection, begun + 1.65 - time.monotonic())
        connection.sendall(HEAD[20:] + BODY)
        answer = read_answer(connection)

    assert "HTTP/1.1 404 Not Found" == status
    assert rested
    assert quiet
    assert OK == answer


def test_a_long_prediction_is_no_slow_client():
    """The time of a request ends with its last byte, not with its answer."""
    gate = Gate()
    manager = FakeManager(FakeModel("sums", (FakeVersion("1", gate),)))
    with serving(manager, OPTIONS) as server, connect(server) as connection:
        connection.sendall(HEAD + BODY)
        assert gate.entered.acquire(timeout=DEADLINE_SECONDS)
        quiet = is_quiet(connection, 4 * SECONDS)
        gate.opened.set()
        answer = read_answer(connection)

    assert quiet
    assert OK == answer


@pytest.mark.parametrize("cut", [30, len(HEAD), len(HEAD) + 20])
def test_without_a_deadline_every_client_is_waited_for(cut):
    """With 0 a request may take as long as it likes."""
    request = HEAD + BODY
    with (
        serving(FakeManager(FakeModel("sums")), ServerOptions(timeout_receive=0)) as server,
        connect(server) as connection,
    ):
        connection.sendall(request[:cut])
        quiet = is_quiet(connection, 2 * SECONDS)
        connection.sendall(request[cut:])
        answer = read_answer(connection)

    assert quiet
    assert OK == answer


def test_a_client_that_drips_does_not_hold_up_the_end():
    """A server that stops waits for half a request as long as for any, and ends."""
    with ExitStack() as held:
        with serving(FakeManager(FakeModel("sums")), OPTIONS) as server:
            connection = held.enter_context(connect(server))
            connection.sendall(EXPECT)
            assert connection.recv(65536).startswith(b"HTTP/1.1 100 Continue")
            connection.sendall(BODY[:20])
        said = said_at_last(connection)

    assert_too_slow(said, b"20 of the")


@pytest.mark.parametrize("is_plain", [False, True], ids=["eager", "plain"])
def test_a_connection_that_is_gone_is_not_checked(is_plain):
    """Nothing keeps a connection after its end, its timer neither."""

    async def app(scope, receive, send):
        raise AssertionError("nobody asked")

    made = []

    async def come_and_go():
        loop = asyncio.get_running_loop()
        state, config = ServerState(), uvicorn.Config(app, log_config=None)
        config.load()
        if is_plain:
            kind = plain_protocol(3600.0, config.http_protocol_class)
        else:
            kind = eager_protocol(3600.0, lambda method, path: None)

        def make():
            protocol = kind(config=config, server_state=state, app_state={})
            made.append(weakref.ref(protocol))
            return protocol

        server = await loop.create_server(make, "127.0.0.1", 0)
        with socket.create_connection(server.sockets[0].getsockname()):
            while not state.connections:
                await asyncio.sleep(0)
        while state.connections:
            await asyncio.sleep(0)
        server.close()
        await asyncio.sleep(0)
        gc.collect()
        return [protocol() for protocol in made]

    assert [None] == asyncio.run(asyncio.wait_for(come_and_go(), DEADLINE_SECONDS))


@pytest.mark.parametrize("parser", ["httptools", "h11"])
def test_each_parser_of_http_is_watched(free_ports, tmp_path, monkeypatch, parser):
    """The laws hold on uvloop, and also where httptools is not installed."""
    tried = tmp_path / "tried"
    if parser == "h11":
        lines = f"import pathlib\npathlib.Path({str(tried)!r}).touch()\nraise ImportError\n"
        (tmp_path / "httptools.py").write_text(lines)
        path = os.environ.get("PYTHONPATH", "")
        monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{path}")
    options = {"timeout_receive": SECONDS}
    with process(free_ports(2), tmp_path / "none", options) as server, ExitStack() as held:
        assert server.listening.wait(DEADLINE_SECONDS), server.log
        address = ("127.0.0.1", server.http_port)
        kept, nothing, head, body, unread = (
            held.enter_context(socket.create_connection(address, DEADLINE_SECONDS))
            for _ in range(5)
        )
        head.sendall(HEAD[:20])
        body.sendall(HEAD)
        kept.sendall(HEAD + BODY)
        unread.sendall(UNKNOWN)
        answers = [read_answer(one)[0] for one in (kept, unread)]
        said = [said_at_last(nothing), drip(unread, b" ")]
        assert_too_slow(said_at_last(head), b"a part of its head")
        assert_too_slow(said_at_last(body), b"0 of the")
        quiet = is_quiet(kept, 3 * SECONDS)
        kept.sendall(HEAD[:20])
        assert_too_slow(drip(kept, b"x"), b"a part of its head")

    assert ["HTTP/1.1 200 OK", "HTTP/1.1 404 Not Found"] == answers
    assert [b"", b""] == said
    assert quiet
    assert (parser == "h11") == tried.exists()
