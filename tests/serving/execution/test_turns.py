"""Models take turns in the thread pool, and none takes it for itself."""

import gc
import queue
import threading
import weakref
from functools import partial

import numpy as np
import pytest

from bundleserver.errors import QueueFull
from bundleserver.serving.execution.thread_pool import ThreadPool
from bundleserver.serving.execution.turns import Turns

DEADLINE_SECONDS = 20.0


@pytest.mark.parametrize("threads", [1, 2])
def test_a_model_leaves_a_thread_to_the_others(threads):
    """While one model's calls hang in all of its threads, another model's call is run."""
    pool, gate = ThreadPool(threads, max_queue=8), threading.Event()
    hung = [pool.submit(lambda: gate.wait(DEADLINE_SECONDS), "hog") for _ in range(threads + 8)]
    try:
        assert 3 == pool.submit(lambda: 3, "small").result(DEADLINE_SECONDS)
        with pytest.raises(QueueFull, match=r"model 'hog' is full \(8 waiting\)"):
            pool.submit(lambda: None, "hog")
    finally:
        gate.set()

    assert all(future.result(DEADLINE_SECONDS) for future in hung)
    pool.shutdown()


def test_models_take_turns():
    """A model that comes later waits for one call of another, not for its whole queue."""
    pool, gate = ThreadPool(1, max_queue=64), threading.Event()
    ran = []
    blocked = [pool.submit(lambda: gate.wait(DEADLINE_SECONDS), name) for name in ("x", "y")]
    waiting = [pool.submit(lambda: ran.append("hog"), "hog") for _ in range(20)]
    waiting.append(pool.submit(lambda: ran.append("late"), "late"))
    gate.set()
    for future in [*blocked, *waiting]:
        future.result(DEADLINE_SECONDS)

    assert "late" in ran[:4]
    pool.shutdown()


def test_every_call_is_run_once_whoever_submits():
    """Calls of many models from many threads are all run."""
    pool, lock, ran = ThreadPool(2, max_queue=10_000), threading.Lock(), []

    def note(number):
        with lock:
            ran.append(number)

    def submit(first):
        for number in range(first, 1000, 4):
            pool.submit(lambda number=number: note(number), f"model {number % 7}")

    submitting = [threading.Thread(target=submit, args=(first,)) for first in range(4)]
    for thread in submitting:
        thread.start()
    for thread in submitting:
        thread.join()
    pool.shutdown()

    assert list(range(1000)) == sorted(ran)


@pytest.mark.parametrize("threads", [1, 2])
def test_however_many_models_flood_one_that_asks_for_little_is_next(threads):
    """Its call is run as soon as one of the running ones ends, each time that it asks."""
    pool, running = ThreadPool(threads, max_queue=64), queue.SimpleQueue()

    def hang():
        gate = threading.Event()
        running.put(gate)
        assert gate.wait(DEADLINE_SECONDS)

    flood = [pool.submit(hang, name) for _ in range(8) for name in "abcd"]
    for _ in range(4):
        small = pool.submit(lambda: 1, "small")
        running.get(timeout=DEADLINE_SECONDS).set()
        assert 1 == small.result(DEADLINE_SECONDS)
    # Four have been let go.
    for _ in flood[4:]:
        running.get(timeout=DEADLINE_SECONDS).set()
    for future in flood:
        future.result(DEADLINE_SECONDS)
    pool.shutdown()


def test_a_model_gets_its_share_of_time_not_of_calls():
    """A model of long calls waits until one of short calls has had as much time."""
    now, ran = [0.0], []
    turns = Turns(1, clock=lambda: now[0])

    def call(name, seconds):
        ran.append(name)
        now[0] += seconds

    assert turns.add("long", partial(call, "long", 5.0))
    for _ in range(2):
        turns.add("long", partial(call, "long", 5.0))
    for _ in range(8):
        turns.add("short", partial(call, "short", 1.0))
    turns.work()

    assert ["long", *["short"] * 5, "long", *["short"] * 3, "long"] == ran


def test_cancelled_calls_leave_nothing_behind():
    """However many calls come and go while the threads hang, no more is kept than may wait."""
    pool, gate = ThreadPool(1, max_queue=4), threading.Event()
    hung = [pool.submit(lambda: gate.wait(DEADLINE_SECONDS), name) for name in ("x", "y")]
    request = np.zeros(10)
    held = weakref.ref(request)
    gc.disable()
    try:
        for _ in range(50):
            assert pool.submit(partial(np.sum, request), "x").cancel()
        del request

        assert held() is None
    finally:
        gc.enable()
    gate.set()
    assert all(future.result(DEADLINE_SECONDS) for future in hung)
    pool.shutdown()
