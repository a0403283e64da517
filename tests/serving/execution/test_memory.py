"""A request that is over is forgotten at once, without a garbage collection."""

from __future__ import annotations

import asyncio
import gc
import time
import weakref
from contextlib import contextmanager, suppress
from functools import partial

import numpy as np
import pytest

from bundleserver.errors import BundleServerError, InvalidInput
from bundleserver.serving.execution.answering import ServedModels
from bundleserver.serving.execution.small_first import SmallFirst
from bundleserver.serving.execution.thread_pool import ThreadPool
from bundleserver.serving.requests import PredictRequest, PredictResponse
from bundleserver.serving.rest.heavy_work import SMALL_BYTES
from bundleserver.tensors import NamedTensor
from bundleserver.tensors.budget import Budget
from bundleserver.tensors.call_traits import CallTraits
from tests.serving.fakes import DEADLINE_SECONDS, FakeManager, FakeModel, FakeVersion, Gate, sums

BATCHABLE = CallTraits(batchable=True)
PLACES = {
    "inline": {"call_traits": CallTraits(predictable=True)},
    "in a batch": {"call_traits": BATCHABLE, "cost": None},
    "in the thread pool": {"cost": None},
}


class RefusedError(InvalidInput):
    """An error that can be followed."""


@contextmanager
def no_collector():
    """Leave it to reference counts what is freed."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def asking(rows=1):
    """Make a request, and a weak reference to its values."""
    values = np.ones((rows, 2))
    request = PredictRequest("sums", tensors=(NamedTensor("features", values),))
    return request, weakref.ref(values)


def raising(make):
    """Make a call that raises an error of its own for each request."""

    def call(inputs, parameters):
        raise make()

    return call


def wait_until_gone(*held):
    """Wait until the threads have left what they did."""
    until = time.monotonic() + DEADLINE_SECONDS
    while any(ref() is not None for ref in held) and time.monotonic() < until:
        time.sleep(0.001)
    assert not [ref for ref in held if ref() is not None]


@pytest.mark.parametrize("call", [sums, raising(partial(RefusedError, "no"))], ids=["ok", "error"])
@pytest.mark.parametrize("place", PLACES)
def test_answered_requests_are_forgotten(place, call):
    """Wherever its call runs, and whatever it is answered, nothing of a request is kept."""
    served = ServedModels(
        FakeManager(FakeModel("sums", (FakeVersion("1", call, **PLACES[place]),)))
    )

    async def ask(request):
        with suppress(BundleServerError):
            await served.answer(request)

    async def ask_all():
        held = []
        for _ in range(3):
            request, ref = asking()
            await ask(request)
            held.append(ref)
        invalid = np.ones((1, 3))
        await ask(PredictRequest("sums", tensors=(NamedTensor("features", invalid),)))
        return [*held, weakref.ref(invalid)]

    with no_collector():
        wait_until_gone(*asyncio.run(ask_all()))


@pytest.mark.parametrize("place", ["in a batch", "in the thread pool"])
@pytest.mark.parametrize("how", ["cancelled", "timed out"])
def test_given_up_requests_are_forgotten(place, how):
    """Those that wait are forgotten while the version is busy; the one that runs, when it ends."""
    gate = Gate()
    manager = FakeManager(FakeModel("sums", (FakeVersion("1", gate, **PLACES[place]),)))
    served = ServedModels(manager, ThreadPool(1))

    async def ask_all():
        first, running = asking()
        if how == "timed out":
            # Long enough to begin on a busy machine: what has not begun by then never runs.
            first = first._replace(deadline=time.monotonic() + 2)
        tasks = [asyncio.create_task(served.answer(first))]
        del first
        assert await asyncio.to_thread(gate.entered.acquire, timeout=DEADLINE_SECONDS)
        waiting = []
        for _ in range(3):
            request, ref = asking()
            if how == "timed out":
                request = request._replace(deadline=time.monotonic() + 0.05)
            tasks.append(asyncio.create_task(served.answer(request)))
            del request
            waiting.append(ref)
        await asyncio.wait(tasks, timeout=0)
        if how == "cancelled":
            for task in tasks:
                task.cancel()
        await asyncio.wait(tasks, timeout=DEADLINE_SECONDS)
        for task in tasks:
            with suppress(BundleServerError, asyncio.CancelledError):
                task.result()
        del tasks, task
        return running, waiting

    with no_collector():
        running, waiting = asyncio.run(ask_all())
        try:
            wait_until_gone(*waiting)
        finally:
            gate.opened.set()
        wait_until_gone(running)


@pytest.mark.parametrize("fails", [False, True])
def test_large_work_is_forgotten(fails):
    """Nothing is kept of a body that was decoded, or refused, in a thread."""
    work = SmallFirst(1, "test")

    def decode(body):
        if fails:
            raise RefusedError("no")
        return len(body)

    async def run():
        body = np.ones(10)
        with suppress(RefusedError):
            await work.run(10, partial(decode, body), Budget(0, time.monotonic() + 100))
        return weakref.ref(body)

    with no_collector():
        wait_until_gone(asyncio.run(run()))


def test_the_size_of_forecasts_is_that_of_all():
    """Instances may have horizons of their own; each counts as what it is."""
    short, long = {"mean": [0.0], "lower": [0.0]}, {"mean": [0.0] * 1000, "lower": [0.0] * 1000}
    answers = [short, *[long] * 2, *[short] * 7]

    assert 8 * (2 * 2000 + 8 * 2) == PredictResponse("m", "1", answers=answers).size_bytes
    scalars = [{"mean": 0.0}] * 100
    assert 8 * 100 == PredictResponse("m", "1", answers=scalars).size_bytes
    assert SMALL_BYTES < PredictResponse("m", "1", answers=scalars * 1000).size_bytes
    assert 0 == PredictResponse("m", "1", answers=[]).size_bytes
