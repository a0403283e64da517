"""Ends of gRPC: a stop loses no call, whatever connection it is sent on."""

from __future__ import annotations

import signal
import socket
from collections import Counter
from functools import partial

import grpc
import psutil
import pytest

from bundleserver.serving.grpc.limits import GrpcLimits
from tests import http2
from tests.end_to_end.processes import DEADLINE_SECONDS, Threads, eventually, running
from tests.end_to_end.test_workers import publish_first
from tests.serving.fakes import FakeManager, FakeModel, serving
from tests.serving.grpc_client import Client, tensor

pytestmark = pytest.mark.timeout(300)

_GOAWAY = http2.frame(http2.GOAWAY, 0, 0, b"\x7f\xff\xff\xff\0\0\0\0")


class Clients(Threads):
    """Clients in closed loops; what was neither answered nor refused by the port is lost.

    Kinds: calls over one channel, with and without a pause, over a new one each, and long answers.
    """

    def __init__(self, address: str) -> None:
        kinds = ({}, {}, {"pause": 0.05}, {"is_fresh": True}, {"is_fresh": True}, {"rows": 30_000})
        super().__init__(*(partial(self._run, **kind) for kind in kinds))
        self._address = address
        self.answered, self.lost = Counter(), Counter()

    def _run(self, pause=0.0, is_fresh=False, rows=1):
        kind = f"{pause} {is_fresh} {rows}"
        channel = self._connect()
        while not self.ends.wait(pause):
            sent = tensor("x", "FP64", [rows, 1], fp64_contents=[3.0] * rows)
            try:
                answer = Client(channel).infer(sent, model="numbers")
                assert answer.outputs[0].shape[0] == rows
                self.answered[kind] += 1
            except grpc.RpcError as error:
                if "refused" in error.details():
                    break
                self.lost[kind, error.code().name, error.details()] += 1
            if is_fresh:
                channel.close()
                channel = self._connect()
        channel.close()

    def _connect(self):
        return grpc.insecure_channel(self._address, [("grpc.use_local_subchannel_pool", 1)])


@pytest.mark.parametrize("flags", [{}, {"workers": 2}])
def test_a_stop_loses_no_call_that_was_sent(tmp_path, flags):
    """Under six clients over kept and new connections each call is answered, or its port closed."""
    publish_first(tmp_path)
    lost = Counter()
    for _ in range(2):
        with running(tmp_path, "numbers", lame_duck_seconds=0.5, **flags) as server:
            if "workers" in flags:
                server.wait_for_line("2 of 2")
            server.wait_until_ready("numbers")
            with Clients(server.grpc) as clients:
                eventually(lambda seen=clients: len(seen.answered) == 4, "clients are answered")
                server.send(signal.SIGTERM)
                code = server.exit_code()
        lost += clients.lost
        assert 0 == code

    assert {} == dict(lost)


def test_connections_are_renewed_without_a_lost_call(tmp_path):
    """Each client connects again and again, and each call of the old connection is answered."""
    publish_first(tmp_path)
    flags = {"grpc_max_connection_age_seconds": 0.2}
    with running(tmp_path, "numbers", **flags) as server:
        server.wait_until_ready("numbers")
        places = set()

        def has_renewed():
            connections = psutil.Process(server.popen.pid).connections("tcp")
            places.update(it.raddr for it in connections if it.laddr.port == server.grpc_port)
            return len(places) > 40

        with Clients(server.grpc) as clients:
            # Those that connect anew for each call are many; it is the others that count here.
            eventually(lambda: len(clients.answered) == 4 and has_renewed(), "they are renewed")

    assert {} == dict(clients.lost)


def test_a_connection_that_is_not_renewed_is_never_told_to_leave():
    """With 0 nobody is asked to connect again."""
    limits = GrpcLimits(max_connection_age_seconds=0.0).channel_arguments()
    renewed = dict(GrpcLimits(max_connection_age_seconds=300.0).channel_arguments())

    assert "grpc.max_connection_age_ms" not in dict(limits)
    assert 300_000 == renewed["grpc.max_connection_age_ms"]
    # Calls in flight are finished, however long they take.
    assert "grpc.max_connection_age_grace_ms" not in renewed


def test_a_client_is_told_once_between_two_frames_and_served_until_it_leaves():
    """It allows every call so far; a connection that stays open holds nothing up."""
    manager = FakeManager(FakeModel("sums"))
    with serving(manager, lame_duck_seconds=0.1) as served:
        address = ("127.0.0.1", served.server.grpc_port)
        with socket.create_connection(address, DEADLINE_SECONDS) as link:
            link.sendall(http2.OPENING)
            first = link.recv(65536)
            served.server.stop()
            rest = b"".join(iter(lambda: link.recv(65536), b""))

    frames = list(_frames(first + rest))
    kinds = [kind for kind, _ in frames]
    assert 4 == kinds[0]
    assert _GOAWAY[9:] == next(payload for kind, payload in frames if kind == 7)


def _frames(received):
    while received:
        size = int.from_bytes(received[:3], "big")
        assert 9 + size <= len(received)
        yield received[3], received[9 : 9 + size]
        received = received[9 + size :]
