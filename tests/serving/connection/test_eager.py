"""Requests that are answered where they are parsed: as others are, and only where that is safe."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import time
from contextlib import ExitStack

import numpy as np
import pytest
import uvicorn
from uvicorn.server import ServerState

from bundleserver.serving.connection.begun import Begun
from bundleserver.serving.connection.protocols import eager_protocol
from bundleserver.serving.options import ServerOptions
from bundleserver.serving.rest.http import Answer
from bundleserver.tensors import TensorSpec
from bundleserver.tensors.call_traits import CallTraits
from bundleserver.tensors.signature import Signature
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

PREDICTABLE = CallTraits(predictable=True)
V1 = b'{"instances": [[1.0, 2.0], [3.0, 4.0]]}'
V2 = b'{"id": "7", "inputs": [{"name": "x", "datatype": "FP64", "shape": [2], "data": [1.5, 2]}]}'
FORECAST = json.dumps(
    {
        "model": "sums",
        "options": {"horizon": 2},
        "inputs": [
            {"type": "univariate_time_series", "name": "x", "series": [1], "frequency": "D"}
        ],
    }
).encode()
SOME = b'{"instances": [%b]}' % b", ".join([b"[1.0, 2.0]"] * 40_000)
LARGE = b'{"instances": [%b]}' % b", ".join([b"[1.0, 2.0]"] * 200_000)

WARM_CALLS = 1


def request(method, path, body=None, *headers, version="1.1"):
    """Print a request; a body has its length with it."""
    lines = [f"{method} {path} HTTP/{version}", "Host: x", *headers]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + (body or b"")


PREDICT = request("POST", "/v1/models/sums:predict", V1)
INFER = request("POST", "/v2/models/echo/infer", V2)


def models():
    """Serve a quick model, one that repeats what it is sent, and one that fails."""

    def fail(inputs, parameters):
        raise RuntimeError("no such luck")

    return FakeManager(
        FakeModel("sums", (FakeVersion("1", call_traits=PREDICTABLE),)),
        FakeModel("echo", (FakeVersion("1", echo, ECHO, call_traits=PREDICTABLE),)),
        FakeModel("fails", (FakeVersion("1", fail, call_traits=PREDICTABLE),)),
    )


@pytest.fixture
def said(monkeypatch):
    """Collect the answers that were written where their requests were parsed."""
    collected = []
    head = Answer.head

    def listen(self, defaults):
        collected.append(self)
        return head(self, defaults)

    monkeypatch.setattr(Answer, "head", listen)
    return collected


@pytest.fixture(scope="module")
def usual():
    """Serve them in uvicorn's own way, as with a version that is not tested."""
    with ExitStack() as held:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(uvicorn, "__version__", "99.0")
            server = held.enter_context(serving(models()))
        yield server


@pytest.fixture(scope="module")
def served():
    """Serve models whose calls were measured already."""
    with serving(models()) as server:
        with connect(server) as connection:
            for _ in range(WARM_CALLS + 1):
                assert answer_to(connection, PREDICT)[0] == answer_to(connection, INFER)[0]
        yield server


def connect(server):
    """Open a connection without asking anything."""
    address = ("127.0.0.1", server.server.http_port)
    return socket.create_connection(address, timeout=DEADLINE_SECONDS)


def read_answers(connection, count=1, *, with_bodies=True):
    """Read whole answers: of each the status line, the headers but for the date, and the body."""
    answers, received = [], b""
    while len(answers) < count:
        head, end, body = received.partition(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")
        lengths = [int(line[15:]) for line in lines if line.startswith(b"content-length:")]
        size = lengths[0] if lengths and with_bodies else 0
        if end and len(body) >= size:
            headers = {line for line in lines[1:] if not line.startswith(b"date:")}
            answers.append((lines[0], headers, body[:size]))
            received = body[size:]
            continue
        piece = connection.recv(65536)
        assert piece, f"the connection was closed after {received!r}"
        received += piece
    assert not received
    return answers


def answer_to(connection, sent):
    """Send a request and read its answer."""
    connection.sendall(sent)
    return read_answers(connection, with_bodies=not sent.startswith(b"HEAD"))[0]


WHOLE = {
    "V1": PREDICT,
    "V2": INFER,
    "a version": request("POST", "/v1/models/sums/versions/1:predict", V1),
    "a failing model": request("POST", "/v1/models/fails:predict", V1),
    "compressed": request(
        "POST", "/v1/models/sums:predict", gzip.compress(V1), "Content-Encoding: gzip"
    ),
    "no JSON": request("POST", "/v1/models/sums:predict", b"[1"),
    "no body": request("POST", "/v1/models/sums:predict", b""),
    "no length": request("POST", "/v1/models/sums:predict"),
    "an unknown model": request("POST", "/v2/models/none/infer", V2),
    "an unknown version": request("POST", "/v2/models/echo/versions/9/infer", V2),
    "a forecast": request("POST", "/v1/timeseries/forecast", FORECAST),
    "a long routing key": request(
        "POST", "/v2/models/echo/infer", V2, "X-Routing-Key: " + "k" * 2000
    ),
    "a quoted path": request("POST", "/v2/models/%65cho/infer", V2),
    "an offer of another protocol": request(
        "POST", "/v2/models/echo/infer", V2, "Connection: upgrade", "Upgrade: websocket"
    ),
    "live": request("GET", "/v2/health/live"),
    "ready": request("GET", "/v2/health/ready"),
    "models": request("GET", "/v1/models"),
    "metadata": request("GET", "/v2/models/echo"),
    "server": request("GET", "/v2"),
    "a body to GET": request("GET", "/v2/health/live", V1),
}
OTHERS = {
    "a body of some size": request("POST", "/v1/models/sums:predict", SOME),
    "a large body": request("POST", "/v1/models/sums:predict", LARGE),
    "a query": request("POST", "/v1/models/sums:predict?a=b", V1),
    "chunks": request("POST", "/v1/models/sums:predict", None, "Transfer-Encoding: chunked")
    + b"%x\r\n%b\r\n0\r\n\r\n" % (len(V1), V1),
    "HEAD": request("HEAD", "/v2/health/live"),
    "an old client": request("GET", "/v2/health/live", version="1.0"),
    "the last request": request("GET", "/v2/health/live", None, "Connection: close"),
    "an unknown route": request("POST", "/v2/nothing", V2),
    "a wrong method": request("PUT", "/v2/models/echo/infer", V2),
    "somebody else's route": request("GET", "/"),
    "two slashes": request("GET", "//v2/health/live"),
    "another host": request("GET", "http://x/v2/health/live"),
    "the index": request("POST", "/v2/repository/index", b""),
}


@pytest.mark.parametrize("name", [*WHOLE, *OTHERS])
def test_an_answer_is_what_uvicorn_would_have_sent(usual, served, said, name):
    """However a request is answered, its answer is the same, to the header."""
    sent = {**WHOLE, **OTHERS}[name]
    with connect(usual) as connection:
        expected = answer_to(connection, sent)
        assert not said
    with connect(served) as connection:
        answer = answer_to(connection, sent)

    # Each failure has a number of its own.
    if name == "a failing model":
        assert b"incident" in answer[2]
        expected, answer = expected[:1], answer[:1]
    assert expected == answer
    if name in OTHERS:
        assert not said


IN_THREADS = {"compressed", "a failing model", "an unknown version"}


@pytest.mark.parametrize("name", [name for name in WHOLE if name not in IN_THREADS])
def test_a_request_that_comes_whole_needs_no_task(served, said, name):
    """It is answered before the server looks at anything else; again and again."""
    with connect(served) as connection:
        for _ in range(3 + WARM_CALLS):
            answer_to(connection, WHOLE[name])

    # The first calls of a model are measured in threads.
    assert 3 <= len(said)


@pytest.mark.parametrize(
    ("pieces", "is_at_once"),
    [
        ([PREDICT[: -len(V1)], V1], True),
        ([PREDICT[:20], PREDICT[20:]], True),
        ([PREDICT[:-10], PREDICT[-10:-5], PREDICT[-5:]], False),
        ([PREDICT[:30], PREDICT[30 : -len(V1)], V1[:3], V1[3:]], False),
    ],
    ids=["head and body", "within the head", "three", "four"],
)
def test_pieces_make_a_request(served, said, pieces, is_at_once):
    """Many clients send head and body apart; who takes longer is waited for as usual."""
    with connect(served) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces:
            connection.sendall(piece)
            # Until the server has taken the piece in: it answers another connection after it.
            with connect(served) as other:
                answer_to(other, request("GET", "/v1/models"))
        answer = read_answers(connection)[0]

    assert b"http/1.1 200 ok" == answer[0]
    assert is_at_once == any(b"predictions" in one.body for one in said)


def test_requests_in_one_piece_are_answered_in_their_order(served, said):
    """The first is answered at once, and the others have turns of their own."""
    live, bad = request("GET", "/v2/health/live"), request("POST", "/v2/models/no/infer", V2)
    with connect(served) as connection:
        connection.sendall(INFER + live + bad + PREDICT + live)
        bodies = [body for _, _, body in read_answers(connection, 5)]

    assert [True, False, False, False, False] == [b'"outputs"' in body for body in bodies]
    assert b'{"live":true}' == bodies[1] == bodies[4]
    assert b"'no'" in bodies[2]
    assert b"predictions" in bodies[3]
    assert 1 == len(said)


def test_a_slow_model_is_waited_for_and_the_next_request_waits():
    """A call in a thread keeps its connection's order, and nobody else."""
    gate = Gate()
    manager = FakeManager(FakeModel("sums", (FakeVersion("1", gate),)))
    with serving(manager) as server, connect(server) as slow, connect(server) as other:
        slow.sendall(PREDICT)
        assert gate.entered.acquire(timeout=DEADLINE_SECONDS)
        slow.sendall(request("GET", "/v2/health/live"))
        while_it_waits = answer_to(other, request("GET", "/v2/health/live"))
        gate.opened.set()
        answers = read_answers(slow, 2)

    assert b'{"live":true}' == while_it_waits[2] == answers[1][2]
    assert b"predictions" in answers[0][2]


def test_a_server_that_stops_answers_what_has_begun():
    """A request whose body is still to come, and one that runs, are both answered at the end."""
    gate = Gate()
    manager = FakeManager(
        FakeModel("sums", (FakeVersion("1", gate),)), FakeModel("quick", (FakeVersion("1"),))
    )
    quick = request("POST", "/v1/models/quick:predict", V1)
    with serving(manager) as server, connect(server) as runs, connect(server) as comes:
        runs.sendall(PREDICT)
        assert gate.entered.acquire(timeout=DEADLINE_SECONDS)
        comes.sendall(quick[:-5])
        with connect(server) as idle:
            answer_to(idle, request("GET", "/v2/health/live"))
            server.server.stop()
            assert b"" == idle.recv(1), "a connection that waits for nothing is closed"
        comes.sendall(quick[-5:])
        late = read_answers(comes)[0]
        gate.opened.set()
        ran = read_answers(runs)[0]

    for answer in (late, ran):
        assert b"http/1.1 200 ok" == answer[0]
        assert b"connection: close" in answer[1]


def test_a_client_that_hangs_up_meanwhile_is_forgotten():
    """Nobody is told; the model's call ends, and the next client is answered."""
    gate = Gate()
    manager = FakeManager(FakeModel("sums", (FakeVersion("1", gate),)))
    with serving(manager) as server:
        with connect(server) as gone:
            gone.sendall(PREDICT)
            assert gate.entered.acquire(timeout=DEADLINE_SECONDS)
        gate.opened.set()
        with connect(server) as connection:
            assert b"http/1.1 200 ok" == answer_to(connection, PREDICT)[0]


def test_a_connection_that_is_asked_again_and_again_is_no_slow_client(said):
    """Every answer begins the wait for a head anew."""
    options = ServerOptions(timeout_receive=0.4)
    with serving(models(), options) as server, connect(server) as connection:
        ends = time.monotonic() + 1.5
        while time.monotonic() < ends:
            # A look may fall between the two pieces.
            connection.sendall(INFER[:-3])
            assert b"http/1.1 200 ok" == answer_to(connection, INFER[-3:])[0]
        connection.sendall(INFER[:-3])
        answer = read_answers(connection)[0]
    assert b"http/1.1 408 request timeout" == answer[0]
    assert b"%d of the %d bytes of its body" % (len(V2) - 3, len(V2)) in answer[2]
    assert said


def test_an_idle_connection_is_closed_after_its_time(said):
    """The wait for a next request begins with an answer."""
    options = ServerOptions(timeout_keep_alive=1)
    with serving(models(), options) as server, connect(server) as connection:
        answer_to(connection, request("GET", "/v2/health/live"))
        assert b"" == connection.recv(1)
    assert said


def test_an_answer_that_ends_like_a_head_is_sent():
    """Raw bytes may look like anything; none are held back, however large the answer is."""
    for count in (1, 20_000):
        end = np.frombuffer(b"\r\n\r\n\r\n\r\n", np.int64)[0]

        def answer(inputs, parameters, end=end, count=count):
            return {"y": np.full(count, end)}

        signature = Signature((TensorSpec("x", "FP64", (-1,)),), (TensorSpec("y", "INT64", (-1,)),))
        version = FakeVersion("1", answer, signature, call_traits=PREDICTABLE)
        document = {**json.loads(V2), "parameters": {"binary_data_output": True}}
        asked = request("POST", "/v2/models/ends/infer", json.dumps(document).encode())
        manager = FakeManager(FakeModel("ends", (version,)))
        with serving(manager) as server, connect(server) as connection:
            for _ in range(WARM_CALLS + 2):
                body = answer_to(connection, asked)[2]
        assert body.endswith(b"\r\n\r\n\r\n\r\n" * count)


def test_a_header_that_would_end_its_line_is_never_sent(monkeypatch, caplog):
    """Whatever a header holds, it makes no second one: the answer is 500, and logged."""
    odd = {"x-version": "1\r\nset-cookie: a=b"}
    head = Answer.head
    monkeypatch.setattr(
        Answer,
        "head",
        lambda one, own: head(one if one.status == 500 else one._replace(headers=odd), own),
    )
    with serving(models()) as server, connect(server) as connection:
        status, headers, _ = answer_to(connection, request("GET", "/v2/health/live"))

    assert b"http/1.1 500 internal server error" == status
    assert not any(b"cookie" in line for line in headers)
    assert 1 == len([one for one in caplog.records if one.exc_info])


@pytest.mark.parametrize("pauses", [False, True], ids=["in the callback", "in its task"])
@pytest.mark.parametrize(
    "error", [SystemExit(3), KeyboardInterrupt(), RuntimeError("no")], ids=repr
)
def test_whatever_a_request_raises_is_a_500_and_one_log_line(caplog, error, pauses):
    """No exception of a begun coroutine ends the connection or the event loop."""

    async def fail(headers, body):
        if pauses:
            await asyncio.sleep(0)
        raise error

    def find(method, path):
        return fail if path == b"/fail" else None

    async def app(scope, receive, send):
        await Answer(b"alive").send(send)

    async def ask(port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        answers = []
        for path in ("/fail", "/fail", "/live"):
            writer.write(request("GET", path))
            head = await reader.readuntil(b"\r\n\r\n")
            size = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
            answers.append((int(head.split()[1]), await reader.readexactly(size)))
        writer.close()
        return answers

    async def main():
        config = uvicorn.Config(app, log_config=None, http=eager_protocol(0.0, find))
        state = ServerState()

        def make():
            return config.http_protocol_class(config=config, server_state=state, app_state={})

        config.load()
        server = await asyncio.get_running_loop().create_server(make, "127.0.0.1", 0)
        try:
            port = server.sockets[0].getsockname()[1]
            return await asyncio.wait_for(ask(port), DEADLINE_SECONDS)
        finally:
            server.close()

    (first, body), (second, _), last = asyncio.run(main())

    assert [500, 500] == [first, second]
    assert b"incident" in body
    assert (200, b"alive") == last
    assert [error, error] == [one.exc_info[1] for one in caplog.records if one.exc_info]


def test_a_server_that_writes_an_access_log_answers_in_uvicorns_way(said):
    """Uvicorn logs what it sees, so it sees everything."""
    with (
        serving(models(), ServerOptions(access_log=True)) as server,
        connect(server) as connection,
    ):
        answer = answer_to(connection, request("GET", "/v2/health/live"))

    assert b"http/1.1 200 ok" == answer[0]
    assert not said


def test_what_has_begun_goes_on_with_values_and_errors():
    """A coroutine that paused outside a task is resumed, told of errors, and ends in the task."""
    heard = []

    async def work(first, second):
        heard.append(await first)
        try:
            await second
        except ValueError as error:
            heard.append(str(error))
        await asyncio.sleep(0)
        return Answer(b"done")

    async def main():
        loop = asyncio.get_running_loop()
        first, second = loop.create_future(), loop.create_future()
        coroutine = work(first, second)
        begun = Begun(coroutine, coroutine.send(None))
        task = asyncio.ensure_future(_wait_for(begun))
        loop.call_soon(first.set_result, 1)
        loop.call_soon(second.set_exception, ValueError("no"))
        return await task

    assert b"done" == asyncio.run(main()).body
    assert [1, "no"] == heard


def test_what_has_begun_is_cancelled_with_its_task():
    """The coroutine cleans up, as it would have in a task of its own."""
    heard = []

    async def work(never):
        try:
            await never
        except asyncio.CancelledError:
            heard.append("cancelled")
            raise
        return Answer(b"")

    async def main():
        loop = asyncio.get_running_loop()
        coroutine = work(loop.create_future())
        task = asyncio.ensure_future(_wait_for(Begun(coroutine, coroutine.send(None))))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert ["cancelled"] == heard


async def _wait_for(begun):
    return await begun
