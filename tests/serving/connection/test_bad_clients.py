"""Clients that are slow, gone, large or many: each gets its answer, and the others never notice."""

from __future__ import annotations

import asyncio
import json
import resource
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import grpc
import httpx
import pytest

from bundleserver.serving.options import ServerOptions
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
from tests.serving.grpc_client import connected, tensor

PATH = "/v1/models/sums:predict"
BODY = json.dumps({"instances": [[1.0, 2.0], [3.0, 4.0]]}).encode()
ANSWER = [{"sum": 3.0, "label": "low"}, {"sum": 7.0, "label": "high"}]
HEAD = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(BODY)}\r\n\r\n".encode()
FEATURES = tensor("features", "FP64", [1, 2], fp64_contents=[1.0, 2.0])


@pytest.fixture
def served():
    """Serve a quick model, and one that repeats what it is sent."""
    quick, repeats = FakeModel("sums"), FakeModel("echo", (FakeVersion("1", echo, ECHO),))
    # What is repeated has many times the values of a usual answer.
    with serving(FakeManager(quick, repeats), ServerOptions(max_answer_values=0)) as server:
        yield server


def ask(server):
    """Ask what everybody asks, and return the predictions."""
    answer = httpx.post(f"{server.rest}{PATH}", content=BODY, timeout=DEADLINE_SECONDS)
    assert 200 == answer.status_code, answer.text
    return answer.json()["predictions"]


def connect(server):
    """Open a connection without asking anything."""
    address = ("127.0.0.1", server.server.http_port)
    return socket.create_connection(address, timeout=DEADLINE_SECONDS)


def read_answer(connection):
    """Read one whole answer: its status line and its body."""
    received = b""
    while b"\r\n\r\n" not in received:
        received += _more(connection)
    head, _, body = received.partition(b"\r\n\r\n")
    lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")]
    while len(body) < int(lengths[0].partition(b":")[2]):
        body += _more(connection)
    return head.split(b"\r\n")[0].decode(), json.loads(body)


def _more(connection):
    chunk = connection.recv(65536)
    assert chunk, "the server hung up"
    return chunk


def test_clients_that_drip_their_bodies_keep_nobody_waiting(served):
    """Slow bodies are read as they come; others are answered, and so are the slow ones at last."""
    with ExitStack() as held:
        slow = [held.enter_context(connect(served)) for _ in range(50)]
        for connection in slow:
            connection.sendall(HEAD)
        for byte in BODY[:20]:
            for connection in slow:
                connection.sendall(bytes([byte]))

        while_they_drip = ask(served)
        for connection in slow:
            connection.sendall(BODY[20:])
        answers = [read_answer(connection) for connection in slow]

    assert ANSWER == while_they_drip
    assert [("HTTP/1.1 200 OK", {"predictions": ANSWER})] * 50 == answers


def test_a_client_that_hangs_up_while_it_sends_leaves_nothing(served):
    """Half a request is no request: nothing is asked of a model, and no error is made of it."""
    for sent in (HEAD[:30], HEAD, HEAD + BODY[:10]):
        with connect(served) as connection:
            connection.sendall(sent)

    assert ANSWER == ask(served)
    requests = served.registry.get_sample_value(
        "bundleserver_requests_total",
        {"model": "sums", "version": "1", "protocol": "v1", "outcome": "ok"},
    )
    assert 1 == requests
    # The second and the third had a whole head.
    wait_until(lambda: unread(served) == {("v1", "cancelled"): 2})


def unread(served):
    """Return how many requests were refused before they were decoded, by protocol and reason."""
    (family,) = (
        one for one in served.registry.collect() if one.name == "bundleserver_refused_requests"
    )
    return {
        (one.labels["protocol"], one.labels["reason"]): one.value
        for one in family.samples
        if one.value
    }


def test_a_request_that_is_refused_before_it_is_decoded_is_counted():
    """By size, by what is in flight, by time, for an unknown model: no model counts those."""
    options = ServerOptions(
        max_inflight_bytes=2_000_000, max_request_bytes=1_500_000, timeout_receive=2.0
    )
    large, v2 = b" " * 1_400_000, "/v2/models/sums/infer"
    head = f"POST {v2} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(large)}\r\n\r\n".encode()
    with serving(FakeManager(FakeModel("sums")), options) as server:

        def ask(path, body, **headers):
            return httpx.post(f"{server.rest}{path}", content=body, headers=headers).status_code

        with connect(server) as slow:
            slow.sendall(head + b" ")
            wait_until(lambda: server.server._edge.bodies.held)
            assert 503 == ask(PATH, large)
            assert "HTTP/1.1 408 Request Timeout" == read_answer(slow)[0]
        with connect(server) as no_request:
            no_request.sendall(b"hello\r\n\r\n")
            assert "HTTP/1.1 400 Bad Request" == read_answer(no_request)[0]
        assert 413 == ask(PATH, b" " * 1_600_000)
        assert 404 == ask("/v2/models/nobody/infer", BODY)
        assert 400 == ask(v2, BODY, **{"x-request-timeout-seconds": "soon"})
        assert 400 == ask("/v1/timeseries/forecast", b"not JSON")
        with connected(server.grpc) as client, pytest.raises(grpc.RpcError):
            client.infer(FEATURES, model="nobody")
        found, of_models = unread(server), [refusals(server, one) for one in ("v1", "v2")]

    assert [None, None] == of_models
    assert {
        ("v1", "bytes_in_flight"): 1,
        ("v2", "too_slow"): 1,
        ("http", "invalid_input"): 1,
        ("v1", "too_large"): 1,
        ("v2", "not_found"): 1,
        ("v2", "invalid_input"): 1,
        ("v1", "invalid_input"): 1,
        ("grpc", "not_found"): 1,
    } == found


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (PATH, b"not JSON"),
        (PATH, b'{"instances": 3}'),
        ("/v2/models/sums/infer", b"not JSON"),
        ("/v2/models/sums/infer", b'{"inputs": [{"name": "x"}]}'),
        (
            "/v1/timeseries/forecast",
            b'{"model": "sums", "options": {"horizon": 2}, "inputs": [{"type": '
            b'"univariate_time_series", "name": "x", "series": [1], "frequency": "D"}]}',
        ),
    ],
)
def test_a_request_that_cannot_be_decoded_is_counted(served, path, body):
    """What a known model is asked wrongly counts as the caller's fault, whichever step found it."""
    answer = httpx.post(f"{served.rest}{path}", content=body)

    assert 400 == answer.status_code
    assert 1 == refusals(served, path[1:3])


def test_a_request_that_cannot_be_decoded_is_counted_over_grpc(served):
    """What REST counts, gRPC counts, too."""
    short = tensor("features", "FP64", [1, 2], fp64_contents=[1.0])
    with connected(served.grpc) as client, pytest.raises(grpc.RpcError) as caught:
        client.infer(short, model="sums")

    assert grpc.StatusCode.INVALID_ARGUMENT == caught.value.code()
    assert 1 == refusals(served, "grpc")


def test_unknown_models_make_no_series_of_their_own(served):
    """A client that makes up names does not fill the metrics with them."""
    series = {"type": "univariate_time_series", "name": "n", "series": [1], "frequency": "D"}
    forecast = {"model": "x", "options": {"horizon": 1}, "inputs": [series]}
    for path in ("/v1/models/x:predict", "/v2/models/x/infer", "/v1/timeseries/forecast"):
        httpx.post(f"{served.rest}{path}", json=forecast)

    names = {
        sample.labels.get("model")
        for family in served.registry.collect()
        for sample in family.samples
    }
    assert "x" not in names


def refusals(served, protocol):
    """Read how many requests of a protocol were refused before a version was chosen."""
    labels = {"model": "sums", "version": "", "protocol": protocol, "outcome": "invalid_input"}
    return served.registry.get_sample_value("bundleserver_requests_total", labels)


def test_a_client_that_hangs_up_during_a_prediction_keeps_its_lease_until_that_is_over():
    """The thread goes on with what it borrowed; then everything is free for the others."""
    gate = Gate()
    manager = FakeManager(FakeModel("sums", (FakeVersion("1", gate),)))
    with serving(manager, ServerOptions(max_asyncio_workers=1)) as server:
        with connect(server) as connection:
            connection.sendall(HEAD + BODY)
            assert gate.entered.acquire(timeout=DEADLINE_SECONDS)
        held = manager.leased
        gate.opened.set()
        after = ask(server)

    assert 1 == held
    assert ANSWER == after
    assert 0 == manager.leased


def test_a_full_queue_says_when_to_come_again_over_rest_and_grpc():
    """503 with Retry-After over REST, RESOURCE_EXHAUSTED over gRPC; health goes on meanwhile."""
    gate = Gate()
    manager = FakeManager(FakeModel("sums", (FakeVersion("1", gate),)))
    with (
        serving(manager, ServerOptions(max_asyncio_workers=1, max_queue=1)) as server,
        ThreadPoolExecutor(2) as clients,
        connected(server.grpc) as client,
    ):
        first = clients.submit(ask, server)
        assert gate.entered.acquire(timeout=DEADLINE_SECONDS)
        second = clients.submit(ask, server)
        wait_until(lambda: 2 == server.server.pool._pending)

        refused = httpx.post(f"{server.rest}{PATH}", content=BODY)
        with pytest.raises(grpc.RpcError) as over_grpc:
            client.infer(FEATURES, model="sums")
        health = httpx.get(f"{server.rest}/v2/health/live").status_code
        gate.opened.set()
        answers = [first.result(DEADLINE_SECONDS), second.result(DEADLINE_SECONDS)]

    assert (503, True) == (refused.status_code, int(refused.headers["retry-after"]) > 0)
    assert grpc.StatusCode.RESOURCE_EXHAUSTED == over_grpc.value.code()
    assert 200 == health
    assert [ANSWER, ANSWER] == answers


def wait_until(holds):
    """Wait until something holds."""
    ends = time.monotonic() + DEADLINE_SECONDS
    pause = threading.Event()
    while not holds():
        assert time.monotonic() < ends, "it never came to hold"
        pause.wait(0.005)


def test_sixty_four_mebibytes_of_numbers_are_answered(served):
    """The largest body that is taken is answered whole; others are answered beside it."""
    count = 16 * 2**20
    head = b'{"inputs":[{"name":"a","datatype":"UINT8","shape":[%d],"data":[' % count
    # Two characters a number, and room for the rest of the document.
    numbers = b",".join([b"127"] * ((count * 4 - 4096) // 4))
    values = numbers.count(b",") + 1
    head = head.replace(b"[%d]" % count, b"[%d]" % values)
    parameters = b'],"parameters":{}}],"parameters":{"binary_data_output":true}}'
    body = head + numbers + parameters
    assert 63 * 2**20 < len(body) <= 64 * 2**20
    with ThreadPoolExecutor(1) as clients:
        large = clients.submit(
            httpx.post, f"{served.rest}/v2/models/echo/infer", content=body, timeout=120
        )
        small = [ask(served) for _ in range(5)]
        answer = large.result(120)

    assert 200 == answer.status_code
    length = int(answer.headers["inference-header-content-length"])
    assert b"\x7f" * values == answer.content[length:]
    assert [ANSWER] * 5 == small


def test_many_rows_of_numbers_are_answered(served):
    """V1 rows of more than what is read at once are each answered, and in their order."""
    row = b"[1.00000000000000000000,2.0000000000000000000000000000000],[3,4.0]"
    body = b'{"instances":[' + b",".join([row] * 40_000) + b"]}"
    assert 2 * 2**20 < len(body)

    answer = httpx.post(f"{served.rest}{PATH}", content=body, timeout=120)

    assert 200 == answer.status_code
    assert ANSWER * 40_000 == answer.json()["predictions"]


def test_one_byte_more_than_is_taken_is_refused_before_it_is_read(served):
    """413 by the declared length alone."""
    with connect(served) as connection:
        size = 64 * 2**20 + 1
        connection.sendall(HEAD.replace(str(len(BODY)).encode(), str(size).encode()))
        status, document = read_answer(connection)

    assert status.startswith("HTTP/1.1 413")
    assert "error" in document


def test_as_many_connections_as_there_are_files_are_answered(served):
    """With 10 000 connections open, or as many as files allow, 500 requests are answered each.

    An answer, or the word that the queue is full.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Client and server are one process here, so that a connection takes two.
    count = min(10_000, (soft - 200) // 2)

    async def all_of_them():
        port = served.server.http_port
        opened = [await asyncio.open_connection("127.0.0.1", port) for _ in range(count)]
        for _, writer in opened[:: max(1, count // 500)]:
            writer.write(HEAD + BODY)
        lines = [
            await asyncio.wait_for(reader.readline(), 60)
            for reader, _ in opened[:: max(1, count // 500)]
        ]
        for _, writer in opened:
            writer.close()
        return lines

    loads = asyncio.run(all_of_them())

    assert {b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 503 Service Unavailable\r\n"} >= set(loads)
    assert b"HTTP/1.1 200 OK\r\n" in loads
    assert ANSWER == ask(served)
