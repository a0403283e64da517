"""Ends: a stop loses no request, a process that hangs is replaced, resets harm nobody."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import grpc
import httpx
import pytest

from tests import http2
from tests.end_to_end.processes import DEADLINE_SECONDS, Threads, eventually, running
from tests.end_to_end.test_workers import pids, publish_first
from tests.serving.fakes import FakeManager, FakeModel, serving
from tests.serving.grpc_client import connected, tensor

pytestmark = pytest.mark.timeout(300)

_BODY = b'{"instances": [[3]]}'
_ASK = (
    b"POST /v1/models/sums:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 29\r\n\r\n"
    b'{"instances": [[1.0, 2.0]]}  '
)


class Clients(Threads):
    """Clients in closed loops over kept connections; what was sent and not answered is lost."""

    def __init__(self, port: int, count: int = 6) -> None:
        super().__init__(*[self._run] * count)
        self._port = port
        self.answers, self.lost, self.closed = Counter(), Counter(), Counter()

    def _run(self):
        while not self.ends.is_set():
            link = http.client.HTTPConnection("127.0.0.1", self._port, timeout=DEADLINE_SECONDS)
            try:
                link.connect()
            except OSError:
                # Nothing was sent; a refused port is asked again until the test is over.
                self.ends.wait(0.02)
                continue
            self._use(link)
            link.close()

    def _use(self, link):
        while not self.ends.is_set():
            try:
                link.request("POST", "/v1/models/numbers:predict", _BODY)
                answer = link.getresponse()
                answer.read()
            except (OSError, http.client.HTTPException) as error:
                self.lost[type(error).__name__] += 1
                return
            self.answers[answer.status] += 1
            if answer.getheader("connection") == "close":
                self.closed["told"] += 1
                return


@pytest.mark.parametrize("flags", [{}, {"workers": 2}, {"event-loop": "asyncio"}])
def test_a_stop_loses_no_request_that_was_sent(tmp_path, flags):
    """Under six clients over kept connections SIGTERM loses nothing, and the exit code is 0."""
    publish_first(tmp_path)
    with running(tmp_path, "numbers", lame_duck_seconds=0.5, **flags) as server:
        if "workers" in flags:
            server.wait_for_line("2 of 2")
        server.wait_until_ready("numbers")
        with Clients(server.http_port) as clients:
            eventually(lambda: clients.answers[200] > 50, "clients are answered")
            # One of two worker processes may have become ready a moment after the other.
            clients.answers.clear()
            eventually(lambda: clients.answers[200] > 50, "clients are answered by both")
            server.send(signal.SIGTERM)
            code = server.exit_code()

    assert ({}, {200}) == (dict(clients.lost), {*clients.answers})
    assert clients.closed["told"] >= 6
    assert 0 == code


def test_one_worker_process_that_is_told_to_stop_loses_nothing(tmp_path):
    """It takes no more connections, the other one does, and another one takes its place."""
    publish_first(tmp_path)
    with running(tmp_path, "numbers", workers=2, lame_duck_seconds=0.5) as server:
        server.wait_for_line("2 of 2")
        server.wait_until_ready("numbers")
        seen, ended = len(server.lines), pids(server)[1]
        with Clients(server.http_port) as clients:
            eventually(lambda: clients.answers[200] > 50, "clients are answered")
            os.kill(ended, signal.SIGTERM)
            server.wait_for_line("2 of 2", seen)
            before = clients.answers[200]
            eventually(lambda: clients.answers[200] > before + 50, "clients are answered again")

    assert ({}, {200}) == (dict(clients.lost), {*clients.answers})
    assert ended != pids(server)[1]


def receive(connection: socket.socket) -> bytes:
    """Read until the server closes."""
    connection.settimeout(DEADLINE_SECONDS)
    return b"".join(iter(lambda: connection.recv(65536), b""))


def connect(served) -> socket.socket:
    """Connect to a server in this process."""
    return socket.create_connection(("127.0.0.1", served.server.http_port), DEADLINE_SECONDS)


def test_while_a_server_ends_it_is_not_ready_and_takes_new_connections():
    """In the lame duck's time readiness is 503, a new connection is answered, and told to end."""
    manager = FakeManager(FakeModel("sums"))
    with serving(manager, lame_duck_seconds=3.0) as served, connect(served) as kept:
        kept.sendall(_ASK)
        kept.recv(65536)
        served.server.stop()
        ready = eventually(lambda: _refused(served), "the server is not ready")
        with httpx.Client(base_url=served.rest, timeout=DEADLINE_SECONDS) as client:
            fresh = client.get("/v2/health/live")
        kept.sendall(_ASK)
        told = receive(kept)

    assert 503 == ready.status_code
    assert (200, "close") == (fresh.status_code, fresh.headers["connection"])
    assert told.lower().startswith(b"http/1.1 200 ok")
    assert b"connection: close" in told.lower()


def _refused(served):
    answer = httpx.get(f"{served.rest}/v2/health/ready", timeout=DEADLINE_SECONDS)
    return answer if answer.status_code == 503 else None


def test_pipelined_requests_are_all_answered_while_a_server_ends():
    """Only the last answer of those that were sent together closes the connection."""
    manager = FakeManager(FakeModel("sums"))
    with serving(manager, lame_duck_seconds=3.0) as served, connect(served) as client:
        served.server.stop()
        eventually(lambda: _refused(served), "the server is not ready")
        client.sendall(_ASK * 3)
        answers = receive(client).lower()

    assert (3, 1) == (answers.count(b"http/1.1 200 ok"), answers.count(b"connection: close"))


def test_a_silent_connection_is_closed_and_holds_nothing_up():
    """A connection that asks nothing ends with the lame duck's time, without an answer."""
    manager = FakeManager(FakeModel("sums"))
    with serving(manager, lame_duck_seconds=0.3) as served, connect(served) as silent:
        began = time.monotonic()
        served.server.stop()

        assert b"" == receive(silent)
        assert time.monotonic() - began < DEADLINE_SECONDS / 2


def test_a_worker_process_that_hangs_is_replaced(tmp_path):
    """Stopped, it is killed after the missed heartbeats; the pages go on and say who is silent."""
    publish_first(tmp_path)
    with running(tmp_path, "numbers", workers=2, heartbeat_seconds=6) as server:
        server.wait_for_line("2 of 2")
        server.wait_until_ready("numbers")
        hung, seen = pids(server)[2], len(server.lines)
        with stopped(hung):
            with ThreadPoolExecutor(16) as asking:
                found = [*asking.map(lambda _: _get_fresh(server, "/metrics"), range(16))]
            pages = [page for page in found if page is not None]
            server.wait_for_line("worker process 2 hangs: no heartbeat for 6 s", seen)
        server.wait_for_line("2 of 2", seen)
        answers = Counter(_get_fresh(server, "/v2/models/numbers/ready") is None for _ in range(8))
        after = _get_fresh(server, "/metrics")

    assert pages
    assert all("bundleserver_workers_silent 1.0" in page for page in pages)
    assert "bundleserver_workers_silent 0.0" in after
    assert {False: 8} == answers
    assert hung != pids(server)[2]


@contextmanager
def stopped(pid: int):
    """Stop a process while the block runs."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def _get_fresh(server, path):
    """Ask over a new connection; None where it reaches a process that hangs."""
    try:
        answer = httpx.get(f"{server.rest}{path}", timeout=2.5)
    except httpx.TransportError:
        return None
    return answer.text if answer.status_code == 200 else None


def flood(port: int, ends: threading.Event, begun: threading.Event) -> None:
    """Open calls and reset them, as fast as the server reads; over a new connection when closed."""
    while not ends.is_set():
        with socket.create_connection(("127.0.0.1", port), DEADLINE_SECONDS) as link:
            try:
                link.sendall(http2.OPENING)
                for first in range(1, 2**30, 200):
                    if ends.is_set():
                        return
                    link.sendall(
                        b"".join(
                            http2.infer_head(stream)
                            + http2.frame(http2.RESET, 0, stream, http2.CANCEL)
                            for stream in range(first, first + 200, 2)
                        )
                    )
                    if first > 10_000:
                        begun.set()
                    link.setblocking(False)
                    with suppress(BlockingIOError):
                        link.recv(1 << 20)
                    link.settimeout(DEADLINE_SECONDS)
            except OSError:
                begun.set()


def test_calls_beside_a_flood_of_resets_are_all_answered(tmp_path):
    """Calls of twenty clients are OK while other connections open and reset calls."""
    publish_first(tmp_path)
    codes, ends, begun = Counter(), threading.Event(), threading.Event()

    def call(address):
        with connected(address) as client:
            for _ in range(5):
                try:
                    client.infer(tensor("x", "FP64", [1, 1], fp64_contents=[3.0]), model="numbers")
                    codes["OK"] += 1
                except grpc.RpcError as error:
                    codes[error.code().name] += 1

    with running(tmp_path, "numbers") as server:
        server.wait_until_ready("numbers")
        floods = [
            threading.Thread(target=flood, args=(server.grpc_port, ends, begun)) for _ in range(2)
        ]
        calls = [threading.Thread(target=call, args=(server.grpc,)) for _ in range(20)]
        try:
            for thread in floods:
                thread.start()
            assert begun.wait(DEADLINE_SECONDS)
            for thread in calls:
                thread.start()
            for thread in calls:
                thread.join(DEADLINE_SECONDS)
        finally:
            ends.set()
            for thread in floods:
                thread.join(DEADLINE_SECONDS)

    assert {"OK": 100} == dict(codes)
