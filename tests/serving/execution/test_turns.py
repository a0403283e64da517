"""Models take turns in the thread pool, and none takes it for itself."""

import threading

import pytest

from bundleserver.errors import QueueFull
from bundleserver.serving.execution.thread_pool import ThreadPool

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
