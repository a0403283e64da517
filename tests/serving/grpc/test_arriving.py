"""gRPC messages that have not come whole are few, and make way for others."""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import contextmanager

import grpc
import pytest

from bundleserver.errors import QueueFull
from bundleserver.serving.grpc import arriving
from bundleserver.serving.grpc.arriving import FEWEST, ArrivingMessages
from bundleserver.serving.options import ServerOptions
from tests.end_to_end.processes import eventually
from tests.serving.fakes import DEADLINE_SECONDS, FakeManager, FakeModel, FakeVersion, serving
from tests.serving.grpc_client import connected, tensor

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
FEATURES = tensor("features", "FP64", [1, 2], fp64_contents=[1.0, 2.0])


class FakeCall:
    """A call whose message comes when the test says so."""

    def __init__(self):
        self.message = asyncio.get_running_loop().create_future()
        self.told = None

    async def read(self):
        return await self.message

    async def abort(self, code, details):
        self.told = code, details
        self.message.set_exception(grpc.aio.AbortError())
        raise grpc.aio.AbortError


def frame(kind, flags, stream, payload=b""):
    """Write one frame of HTTP/2."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def begin_call(stream, size):
    """Write a call whose message of so many bytes never comes whole."""
    pairs = {
        ":method": "POST",
        ":scheme": "http",
        ":path": "/inference.GRPCInferenceService/ModelInfer",
        ":authority": "x",
        "content-type": "application/grpc",
        "te": "trailers",
    }
    head = b"".join(
        b"\0%c%b%c%b" % (len(name), name.encode(), len(value), value.encode())
        for name, value in pairs.items()
    )
    return frame(1, 4, stream, head) + frame(0, 0, stream, struct.pack(">BI", 0, size) + bytes(100))


@contextmanager
def stalled(server, calls):
    """Keep so many calls open that have not sent their messages."""
    address = ("127.0.0.1", server.server.grpc_port)
    with socket.create_connection(address, DEADLINE_SECONDS) as connection:
        begun = b"".join(begin_call(2 * n + 1, 2**20) for n in range(calls))
        connection.sendall(PREFACE + frame(4, 0, 0) + begun)
        yield connection


def run(test):
    """Run a test's coroutine within its deadline."""
    asyncio.run(asyncio.wait_for(test(), DEADLINE_SECONDS))


def test_a_message_waits_for_a_place_and_gets_it():
    """So many are read from at a time; the next begins when one has come."""

    async def test():
        messages = ArrivingMessages(8 * 100, 100, 60.0, patience_seconds=60.0)
        calls = [FakeCall() for _ in range(FEWEST + 2)]
        tasks = [asyncio.create_task(messages.receive(call)) for call in calls]
        calls[-1].message.set_result(b"last")
        await asyncio.sleep(0)
        assert not tasks[-1].done()
        calls[1].message.set_result(b"one")
        assert b"one" == await tasks[1]
        calls[2].message.set_result(b"two")
        assert b"last" == await tasks[-1]
        for call, task in zip(calls, tasks, strict=True):
            if not call.message.done():
                call.message.set_result(b"x")
            await task

    run(test)


def test_the_oldest_makes_way():
    """Only a call that has had its time is ended, and is told how many may arrive."""

    async def test():
        messages = ArrivingMessages(8 * 100, 100, 60.0, patience_seconds=0.05)
        calls = [FakeCall() for _ in range(FEWEST)]
        tasks = [asyncio.create_task(messages.receive(call)) for call in calls]
        await asyncio.sleep(0)
        new = FakeCall()
        new.message.set_result(b"new")
        assert b"new" == await messages.receive(new)
        with pytest.raises(grpc.aio.AbortError):
            await tasks[0]
        code, details = calls[0].told
        assert grpc.StatusCode.DEADLINE_EXCEEDED == code
        assert f"of the {FEWEST} that may arrive" in details
        assert [None] * (FEWEST - 1) == [call.told for call in calls[1:]]
        for call, task in list(zip(calls, tasks, strict=True))[1:]:
            call.message.set_result(b"x")
            await task

    run(test)


def test_who_gets_no_place_in_time_is_told():
    """A call waits for a place no longer than for its message."""

    async def test():
        messages = ArrivingMessages(8 * 10**6, 10**6, 0.05, patience_seconds=60.0)
        calls = [FakeCall() for _ in range(FEWEST)]
        tasks = [asyncio.create_task(messages.receive(call)) for call in calls]
        await asyncio.sleep(0)
        with pytest.raises(QueueFull):
            await messages.receive(FakeCall())
        for call, task in zip(calls, tasks, strict=True):
            call.message.set_result(b"x")
            await task

    run(test)


def test_a_message_that_never_comes_ends():
    """It has the timeout, and the time of the largest message at the slowest rate."""

    async def test():
        call, messages = FakeCall(), ArrivingMessages(0, 1000, 0.02)
        with pytest.raises(grpc.aio.AbortError):
            await messages.receive(call)
        assert "--timeout_receive" in call.told[1]

    run(test)


def test_a_call_without_a_message_is_over():
    """As gRPC itself ends it."""

    async def test():
        call = FakeCall()
        call.message.set_result(grpc.aio.EOF)
        with pytest.raises(asyncio.CancelledError):
            await ArrivingMessages().receive(call)

    run(test)


def test_calls_that_stop_in_their_message_hold_up_no_others(monkeypatch):
    """However many they are, a whole message is read within the patience that they have."""
    monkeypatch.setattr(arriving, "PATIENCE_SECONDS", 0.3)
    options = ServerOptions(max_inflight_bytes=2**20)
    with (
        serving(FakeManager(FakeModel("sums", (FakeVersion("1"),))), options) as server,
        stalled(server, 3 * FEWEST) as connection,
        connected(server.grpc) as client,
    ):
        eventually(lambda: b"and other calls wait" in connection.recv(2**16), "one is ended")
        assert [3.0] == list(client.infer(FEATURES, model="sums").outputs[0].contents.fp64_contents)
