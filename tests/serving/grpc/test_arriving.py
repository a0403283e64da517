"""gRPC messages that have not come whole are few, and make way for others."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager

import grpc
import pytest

from bundleserver.errors import QueueFull
from bundleserver.serving.execution.answering import ServedModels
from bundleserver.serving.grpc.arriving import FEWEST, ArrivingMessages
from bundleserver.serving.grpc.server import GrpcServer
from bundleserver.serving.grpc.service import InferenceService
from tests import http2
from tests.serving.fakes import DEADLINE_SECONDS, FakeManager, FakeModel, FakeVersion
from tests.serving.grpc_client import connected, tensor

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


@asynccontextmanager
async def listening(arriving=None):
    """Serve a model over gRPC alone, on a free port."""
    manager = FakeManager(FakeModel("sums", (FakeVersion("1"),)))
    service = InferenceService(ServedModels(manager), manager, "test", "1")
    server = GrpcServer(service, manager, arriving=arriving)
    try:
        yield server, await server.start(0)
    finally:
        await server.stop(0.0, tells=False)


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


def test_who_waits_no_more_has_no_place_in_the_queue():
    """However many calls are cancelled while they wait, the next may wait too."""

    async def test():
        messages = ArrivingMessages(8 * 100, 100, 60.0, patience_seconds=60.0)
        reading = [FakeCall() for _ in range(FEWEST)]
        tasks = [asyncio.create_task(messages.receive(call)) for call in reading]
        gone = [asyncio.create_task(messages.receive(FakeCall())) for _ in range(1024)]
        await asyncio.sleep(0)
        with pytest.raises(QueueFull, match=r"is full \(1024 waiting\)"):
            await messages.receive(FakeCall())
        for task in gone:
            task.cancel()
        await asyncio.wait(gone)
        new = FakeCall()
        new.message.set_result(b"new")
        waiting = asyncio.create_task(messages.receive(new))
        await asyncio.sleep(0)
        for call in reading:
            call.message.set_result(b"x")
        assert b"new" == await waiting
        await asyncio.gather(*tasks)

    run(test)


def infer_over(port):
    """Ask for a sum."""
    with connected(f"127.0.0.1:{port}") as client:
        return list(client.infer(FEATURES, model="sums").outputs[0].contents.fp64_contents)


def test_calls_that_stop_in_their_message_hold_up_no_others():
    """However many they are, a whole message is read within the patience that they have."""

    async def test():
        arriving = ArrivingMessages(FEWEST * 2**20, 2**20, patience_seconds=0.3)
        async with listening(arriving) as (_, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            for stream in range(1, 6 * FEWEST, 2):
                writer.write(http2.OPENING if stream == 1 else b"")
                writer.write(http2.infer_head(stream) + http2.part_of_message(stream, 2**20))
            await reader.readuntil(b"and other calls wait")
            assert [3.0] == await asyncio.to_thread(infer_over, port)
            writer.close()

    run(test)


def test_a_stop_takes_no_longer_than_its_grace():
    """Clients that do not leave are waited for within the grace period, however short it is."""

    async def test():
        async with listening() as (server, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(http2.OPENING)
            await reader.read(9)
            began = time.monotonic()
            await server.stop(0.05)
            assert time.monotonic() - began < 0.4
            writer.close()

    run(test)
