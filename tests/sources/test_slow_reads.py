"""Reads that hang cost whoever asks a moment, and are not begun again while they hang."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from bundleserver.sources.slow_reads import SlowReads

WHERE = Path("/volume/model")


@pytest.fixture
def gate():
    """Return an event that ends hanging reads, at the latest with the test."""
    event = threading.Event()
    yield event
    event.set()


def _reading_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "reads"]


def test_a_read_returns_or_raises_as_if_it_were_called():
    """Results and errors pass, a TimeoutError of the read itself among them."""

    def fails():
        raise TimeoutError("of the read itself")

    reads = SlowReads()
    with reads.poll():
        found = reads.of("names", WHERE, lambda: ["a"])
        with pytest.raises(TimeoutError, match="of the read itself"):
            reads.of("names", WHERE, fails)
        again = reads.of("names", WHERE, lambda: ["b"])

    assert ["a"] == found
    assert ["b"] == again


def test_a_hanging_read_holds_up_no_other(gate):
    """The next read is done by another thread, and the hanging one is not begun again."""
    begun = []

    def hangs():
        begun.append(1)
        gate.wait()

    reads = SlowReads(patience_seconds=0.05)
    for _ in range(3):
        with reads.poll():
            with pytest.raises(TimeoutError, match="the volume may hang"):
                reads.of("model", WHERE, hangs)
            assert "here" == reads.of("model", WHERE.with_name("other"), lambda: "here")

    assert [1] == begun


def test_a_late_result_is_taken_by_the_next_poll_after_it(gate):
    """A volume that is only slow is read in the end: its result is not lost."""
    reads = SlowReads(patience_seconds=0.05)

    def slow():
        gate.wait()
        return "late"

    with reads.poll(), pytest.raises(TimeoutError):
        reads.of("model", WHERE, slow)
    gate.set()
    for thread in _reading_threads():
        thread.join(10)
    with reads.poll():
        assert "late" == reads.of("model", WHERE, lambda: "not asked")
        assert "fresh" == reads.of("model", WHERE, lambda: "fresh")


def test_a_poll_leaves_no_thread_behind():
    """The thread that reads ends with the poll."""
    reads = SlowReads()
    with reads.poll():
        reads.of("names", WHERE, list)
        (thread,) = _reading_threads()
    thread.join(10)

    assert not thread.is_alive()
