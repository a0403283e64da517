"""What a client sends, or does not take, costs bounded memory, in both ways of serving."""

from __future__ import annotations

import gzip
import http.client
import json
import socket
from contextlib import ExitStack, contextmanager

import grpc
import pytest
import uvicorn

from bundleserver.errors import TooManyBytes
from bundleserver.serving.grpc.limits import GrpcLimits
from bundleserver.serving.grpc.open_inference import ModelInferRequest
from bundleserver.serving.options import ServerOptions
from bundleserver.serving.unsent import RefusedAnswers
from bundleserver.settings import Settings
from tests import http2
from tests.end_to_end.processes import eventually
from tests.serving.fakes import DEADLINE_SECONDS, FakeManager, FakeModel, FakeVersion, Gate, serving
from tests.serving.grpc_client import tensor

PREDICT = "/v1/models/sums:predict"
ROW = b'{"instances": [[1.0, 2.0]]}'
LARGE = b'{"instances": [[1.0, 2.0]], "parameters": {"note": "%b"}}' % (b"x" * 100_000)
SMALL_HEAD = b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\n"
PREDICT_HEAD = b"POST /v1/models/sums:predict HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n"
CHUNKED = b"POST /v1/models/sums:predict HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
MOST_BYTES = 64 * 2**20
"""More than both kernels' buffers have room for."""


@pytest.fixture(params=["eager", "plain"])
def way(request, monkeypatch):
    """Serve in our own way and in uvicorn's."""
    if request.param == "plain":
        monkeypatch.setattr(uvicorn, "__version__", "99.0")
    return request.param


@contextmanager
def served(*versions, **options):
    """Serve one model of these versions under these limits."""
    with serving(
        FakeManager(FakeModel("sums", versions or (FakeVersion("1"),))), ServerOptions(**options)
    ) as server:
        yield server


def connect(server):
    """Open a connection without asking anything."""
    address = ("127.0.0.1", server.server.http_port)
    return socket.create_connection(address, timeout=DEADLINE_SECONDS)


def flood(connection, piece, most=MOST_BYTES):
    """Send a piece until it is enough or the connection ends; return how much was sent."""
    sent = 0
    try:
        while sent < most:
            connection.sendall(piece)
            sent += len(piece)
    except OSError:
        pass
    return sent


def answer(connection):
    """Read one answer: its status and its document."""
    response = http.client.HTTPResponse(connection)
    response.begin()
    return response.status, json.loads(response.read())


def ask(server, body, **headers):
    """Ask for a prediction over a connection of its own."""
    client = http.client.HTTPConnection("127.0.0.1", server.server.http_port, timeout=20)
    try:
        client.request("POST", PREDICT, body, headers, encode_chunked=isinstance(body, list))
        response = client.getresponse()
        return response.status, response.read().decode(), response.headers
    finally:
        client.close()


def read_all(connection, enough=MOST_BYTES):
    """Read until the server closes a connection, or until it is enough."""
    came = b""
    try:
        while len(came) < enough and (piece := connection.recv(2**16)):
            came += piece
    except ConnectionResetError:
        pass
    return came


def is_closed(connection):
    """Wait until the server closes a connection, reading what comes."""
    try:
        while connection.recv(2**16):
            pass
    except ConnectionResetError:
        pass
    return True


@pytest.mark.parametrize("count", [1, 70])
def test_a_head_over_its_limit_is_431(way, count):
    """One long header or many are answered 431 with both numbers and the flag; then it is over."""
    lines = b"".join(b"x-%d: %b\r\n" % (n, b"y" * (70_000 // count)) for n in range(count))
    with served() as server, connect(server) as connection:
        connection.sendall(SMALL_HEAD + lines + b"\r\n")
        status, document = answer(connection)

        assert 431 == status
        assert "at most 65536" in document["error"]
        assert "--max_head_bytes" in document["error"]
        assert is_closed(connection)


def test_a_head_within_its_limit_is_answered(way):
    """60 KiB of headers are few enough, also before a body, and 0 allows any."""
    lines = b"".join(b"x-%d: %b\r\n" % (n, b"y" * 1000) for n in range(60))
    with served() as server, connect(server) as connection:
        for _ in range(3):
            connection.sendall(SMALL_HEAD + lines + b"\r\n")
            assert 200 == answer(connection)[0]
    with served(max_head_bytes=0) as server, connect(server) as connection:
        connection.sendall(SMALL_HEAD + lines * 3 + b"\r\n")
        assert 200 == answer(connection)[0]


@pytest.mark.parametrize(
    ("begin", "piece"),
    [
        (SMALL_HEAD, b"x: " + b"y" * 1000 + b"\r\n"),
        (SMALL_HEAD + b"x: ", b"y" * 1000),
        (SMALL_HEAD + b"x", b"y" * 1000),
        (b"GET /", b"y" * 1000),
        (CHUNKED + b"1\r\n{\r\n0\r\n", b"x: " + b"y" * 1000 + b"\r\n"),
        (CHUNKED + b"1\r\n{\r\n0\r\nx: ", b"y" * 1000),
        (CHUNKED + b"1;", b"y" * 1000),
    ],
    ids=["headers", "value", "name", "target", "trailers", "trailer", "extension"],
)
def test_what_never_ends_is_cut_off(way, begin, piece):
    """Whatever a client sends that is no body, its connection ends after little of it."""
    with served() as server, connect(server) as connection:
        connection.sendall(begin)

        assert flood(connection, piece * 64) < MOST_BYTES
        assert 200 == ask(server, ROW)[0]


def test_requests_ahead_of_their_answers_are_not_read(way):
    """A client that only sends is read no further, and is closed once its answers are late."""
    piece = b"GET /v2/models/sums HTTP/1.1\r\nhost: x\r\n\r\n" * 1000
    with served(timeout_send=0.5) as server, connect(server) as connection:
        assert flood(connection, piece) < MOST_BYTES
        assert 200 == ask(server, ROW)[0]


def test_requests_ahead_of_a_slow_one_are_all_answered(way):
    """Many requests behind one that waits are read as their turn comes, none is lost."""
    gate = Gate()
    behind = 700
    with served(FakeVersion("1", gate)) as server, connect(server) as connection:
        connection.sendall(PREDICT_HEAD % len(ROW) + ROW)
        assert gate.entered.acquire(timeout=DEADLINE_SECONDS)
        connection.sendall((SMALL_HEAD + b"\r\n") * behind)
        gate.opened.set()
        response = connection.makefile("rb")

        seen = []
        while len(seen) <= behind:
            line = response.readline()
            assert line, f"closed after {len(seen)} answers"
            if line.startswith(b"HTTP/1.1") or b"HTTP/1.1 " in line:
                seen.append(line)
        assert behind + 1 == sum(b" 200 " in line for line in seen)


def test_pipelined_bodies_are_answered_in_their_order(way):
    """Requests with bodies among others are framed alike when they are read in pieces."""
    bodies = [b'{"instances": [[%d.0, 0.0]]}' % n for n in range(300)]
    with served() as server, connect(server) as connection:
        connection.sendall(b"".join(PREDICT_HEAD % len(body) + body for body in bodies))
        connection.shutdown(socket.SHUT_WR)
        said = b"".join(iter(lambda: connection.recv(2**16), b""))

    sums = [part.partition(b',"label')[0] for part in said.split(b'"sum":')[1:]]
    assert [float(n) for n in range(300)] == [float(text) for text in sums]


def test_an_answer_that_is_not_taken_closes_its_connection(way):
    """A client that reads nothing of a long answer is closed; one that reads gets all of it."""
    body = b'{"instances": [%b]}' % b",".join([b"[1.0, 2.0]"] * 40_000)
    head = PREDICT_HEAD % len(body)
    with served(timeout_send=0.4) as server:
        assert 200 == ask(server, body)[0]
        with socket.socket() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.settimeout(DEADLINE_SECONDS)
            connection.connect(("127.0.0.1", server.server.http_port))

            # The server reads no more once its answers wait, and then closes.
            assert flood(connection, head + body) < MOST_BYTES


def test_an_answer_that_is_not_taken_leaves_nothing_counted(way):
    """Once its connection is closed neither its body nor those behind it nor its answer is held."""
    body = b'{"instances": [%b]}' % b",".join([b"[1.0, 2.0]"] * 40_000)
    with served(timeout_send=0.4) as server:
        held = server.server._edge.bodies
        with socket.socket() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.settimeout(DEADLINE_SECONDS)
            connection.connect(("127.0.0.1", server.server.http_port))
            assert flood(connection, PREDICT_HEAD % len(body) + body) < MOST_BYTES
            eventually(lambda: not held.held, "no body is held")
            assert 0 == held._held_small
        assert 200 == ask(server, body)[0]
        eventually(lambda: not held.held, "nothing is held")


def test_bodies_in_flight_have_a_limit_together(way):
    """More are 503 with Retry-After, also compressed or in chunks; small ones pass; none leaks."""
    head = PREDICT_HEAD % len(LARGE)
    chunks = [LARGE[n : n + 50_000] for n in range(0, len(LARGE), 50_000)]
    with served(max_inflight_bytes=150_000) as server:
        held = server.server._edge.bodies
        for _ in range(3):
            with connect(server) as connection:
                connection.sendall(head + LARGE[:50_000])
                eventually(lambda: held.held, "the body is counted")
                for body, headers in (
                    (LARGE, {}),
                    (chunks, {"transfer-encoding": "chunked"}),
                    (gzip.compress(LARGE), {"content-encoding": "gzip"}),
                ):
                    status, text, came = ask(server, body, **headers)
                    assert (503, "1") == (status, came["retry-after"])
                    assert "at most 150000" in text
                    assert "--max_inflight_bytes" in text
                assert 200 == ask(server, ROW)[0]
                connection.sendall(LARGE[50_000:])
                assert 200 == answer(connection)[0]
            assert 200 == ask(server, LARGE)[0]
            with connect(server) as connection:
                connection.sendall(head + LARGE[:50_000])
                eventually(lambda: held.held, "the body is counted")
            eventually(lambda: not held.held, "nothing is held")


def test_a_body_that_can_never_be_in_flight_is_413(way):
    """Nobody is told to come again with more than may be in flight at all, however it is sent."""
    chunks = [LARGE[n : n + 30_000] for n in range(0, len(LARGE), 30_000)]
    with served(max_inflight_bytes=80_000) as server:
        for body, headers in (
            (LARGE, {}),
            (chunks, {"transfer-encoding": "chunked"}),
            (gzip.compress(LARGE), {"content-encoding": "gzip"}),
        ):
            status, text, came = ask(server, body, **headers)
            assert 413 == status
            assert "retry-after" not in came
            assert "the limit of 80000 bytes" in text
            assert "--max_inflight_bytes" in text
        assert 200 == ask(server, ROW)[0]


def test_answers_that_are_not_taken_have_a_limit_together(way):
    """The connections that take them slowest are closed; who reads gets all of his."""
    body = b'{"instances": [%b]}' % b",".join([b"[1.0, 2.0]"] * 150_000)
    request = PREDICT_HEAD % len(body) + body
    with served(max_inflight_bytes=12 * 2**20) as server, ExitStack() as opened:
        whole = ask(server, body)
        assert 200 == whole[0]
        silent = []
        for _ in range(8):
            connection = opened.enter_context(socket.socket())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.settimeout(DEADLINE_SECONDS)
            connection.connect(("127.0.0.1", server.server.http_port))
            connection.sendall(request)
            assert connection.recv(12)
            silent.append(connection)
            assert whole[:2] == ask(server, body)[:2]
        # What was left of the first one's answer is not sent any more.
        assert len(read_all(silent[0])) < len(whole[1])
        assert len(read_all(silent[-1], len(whole[1]))) >= len(whole[1])


def test_pings_of_good_clients_are_no_flood():
    """A few pings without calls are answered; a flood of them ends the connection."""
    ping = http2.frame(http2.PING, 0, 0, bytes(8))
    with served() as server:
        address = ("127.0.0.1", server.server.grpc_port)
        with socket.create_connection(address, DEADLINE_SECONDS) as connection:
            connection.sendall(http2.OPENING + ping * 20)
            assert b"too_many_pings" in read_all(connection)
    limits = dict(GrpcLimits().channel_arguments())
    # Clients of Go and Java ping every 10 seconds at most, those of Java also without calls.
    assert limits["grpc.http2.min_ping_interval_without_data_ms"] < 10_000
    assert 1 == limits["grpc.keepalive_permit_without_calls"]


def test_zero_turns_the_limits_off(way):
    """0 is no limit for the flags that say so, also where a library has another word for it."""
    off = dict.fromkeys(
        [
            "max_request_bytes",
            "max_queue",
            "max_head_bytes",
            "max_body_values",
            "max_inflight_bytes",
            "max_answer_values",
            "request_timeout_seconds",
            "grpc_max_send_message_length",
            "grpc_max_receive_message_length",
            "grpc_max_concurrent_streams",
            "grpc_max_connection_idle_seconds",
            "timeout_keep_alive",
            "timeout_receive",
            "timeout_send",
        ],
        0,
    )
    Settings(**off)
    body = b'{"instances": [%b]}' % b",".join([b"[1.0, 2.0]"] * 20_000)
    message = ModelInferRequest(model_name="sums")
    message.inputs.append(tensor("features", "FP64", [700_000, 2]))
    message.raw_input_contents.append(bytes(700_000 * 16))
    no_limit = [("grpc.max_receive_message_length", -1)]
    with served(**off) as server:
        client = http.client.HTTPConnection("127.0.0.1", server.server.http_port, timeout=20)
        for _ in range(2):
            client.request("POST", PREDICT, body)
            response = client.getresponse()
            assert 200 == response.status
            assert response.read()
        client.close()
        target = f"127.0.0.1:{server.server.grpc_port}"
        with grpc.insecure_channel(target, no_limit) as channel:
            infer = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
            assert 8 * 2**20 < len(infer(message.SerializeToString(), timeout=DEADLINE_SECONDS))


def test_grpc_answers_that_are_not_taken_are_refused_beyond_their_limit():
    """One may have any size; more than fit together are TooManyBytes until some are taken."""
    answers = RefusedAnswers(100)
    answers.take(1000)
    with pytest.raises(TooManyBytes, match=r"the answer has 10 bytes, and those .* have 1000"):
        answers.take(10)
    answers.give_back(1000)
    answers.take(60)
    answers.take(40)


def test_an_idle_grpc_connection_ends():
    """A channel that is not used is closed by the server, and connects again when it is."""
    states = []
    with served(grpc_max_connection_idle_seconds=0.3) as server:
        target = f"127.0.0.1:{server.server.grpc_port}"
        with grpc.insecure_channel(target) as channel:
            live = channel.unary_unary("/inference.GRPCInferenceService/ServerLive")
            assert b"\x08\x01" == live(b"", timeout=DEADLINE_SECONDS)
            channel.subscribe(states.append)
            eventually(lambda: grpc.ChannelConnectivity.IDLE in states, "the channel is idle")
            assert b"\x08\x01" == live(b"", timeout=DEADLINE_SECONDS)


def test_grpc_bodies_are_counted_too():
    """A message over what is left of the limit is RESOURCE_EXHAUSTED."""
    with served(max_inflight_bytes=150_000) as server:
        channel = grpc.insecure_channel(f"127.0.0.1:{server.server.grpc_port}")
        infer = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        with channel, pytest.raises(grpc.RpcError) as refused:
            infer(b"x" * 200_000, timeout=DEADLINE_SECONDS)

    assert grpc.StatusCode.RESOURCE_EXHAUSTED == refused.value.code()
    assert "--max_inflight_bytes" in refused.value.details()


@pytest.mark.parametrize("most", [20, 100])
@pytest.mark.parametrize("name", ["v1", "v2", "v2 with raw bytes"])
def test_small_bodies_have_their_limit_of_values_too(way, name, most):
    """However small a body is, and whatever the protocol, more values than the flag are 413."""
    rows = [[float(n), 1.0] for n in range(most // 2)]
    flat = [value for row in rows for value in row]
    tensor = {"name": "features", "datatype": "FP64", "shape": [len(rows), 2], "data": flat}
    path, document = "/v2/models/sums/infer", {"inputs": [tensor]}
    if name == "v1":
        path, document = PREDICT, {"instances": rows}
    body, headers = json.dumps(document).encode(), {}
    if name == "v2 with raw bytes":
        headers = {"inference-header-content-length": str(len(body))}
    with served(max_body_values=most) as server:
        client = http.client.HTTPConnection("127.0.0.1", server.server.http_port, timeout=20)
        client.request("POST", path, body, headers)
        response = client.getresponse()
        said = response.read().decode()
        client.close()

    assert 413 == response.status
    assert f"at most {most}" in said
    assert "--max_body_values" in said
