"""The queue: it takes what fits, drops and counts the rest, and never waits for the disk."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from bundleserver.serving.payload_log import log as log_module
from bundleserver.serving.payload_log.entries import QUEUE_BYTES
from bundleserver.serving.payload_log.log import MOST_QUEUED, PayloadLog
from bundleserver.serving.payload_log.log_options import LogOptions
from bundleserver.serving.payload_log.metrics import LogMetrics
from bundleserver.serving.requests import PredictRequest
from tests.serving.fakes import DEADLINE_SECONDS
from tests.serving.payload_log.entries import answered, failed, one, tensors
from tests.serving.payload_log.test_writing import dropped


class SlowDisk:
    """A writer that waits until it is let through."""

    directory = Path("slow")

    def __init__(self) -> None:
        self.entered, self.opened = threading.Event(), threading.Event()
        self.entries: list[object] = []
        self.ended = False

    def begin(self) -> None:
        pass

    def add(self, entries) -> None:
        self.entered.set()
        assert self.opened.wait(DEADLINE_SECONDS)
        self.entries += entries

    def rotate(self, *, everything: bool = False) -> None:
        self.ended = everything

    def waiting(self) -> int:
        return 1


@pytest.fixture
def disk():
    """Make a disk, which hangs for now."""
    return SlowDisk()


@pytest.fixture
def log(disk):
    """Make a log whose thread does not run yet."""
    options = LogOptions(Path("slow"), columns=("all",))
    return PayloadLog(options, disk, LogMetrics(CollectorRegistry()))


def test_requests_that_do_not_fit_are_dropped_and_counted(log):
    """By their number."""
    for _ in range(MOST_QUEUED + 3):
        log.offer(failed())

    assert 3 == dropped(log.metrics, "queue_full")


def test_memory_is_bounded_whatever_is_in_the_requests(log):
    """By the bytes that they hold."""
    many = answered(PredictRequest("m", tensors=tensors(x=np.ones((1_000_000, 2)))))
    for _ in range(10):
        log.offer(many)

    assert 10 - QUEUE_BYTES // 16_000_000 == dropped(log.metrics, "queue_full")
    assert 0 <= log.free_bytes < QUEUE_BYTES


def test_a_failed_request_holds_no_payload(log):
    """What is not logged is not kept."""
    request = PredictRequest("m", rows=[["x" * 10_000_000]])
    log.offer(failed()._replace(request=request))

    assert log.free_bytes > QUEUE_BYTES - 10_000
    assert log._queue[0][0].request.rows is None


def test_a_disk_that_hangs_delays_nobody(log, disk):
    """Offers return at once, and what fits is written when it goes on."""
    log.start()
    log.offer(one())
    assert disk.entered.wait(DEADLINE_SECONDS)
    for _ in range(5):
        log.offer(one())
    disk.opened.set()
    log.stop(DEADLINE_SECONDS)

    assert (6, True) == (len(disk.entries), disk.ended)
    log.offer(one())
    assert 1 == dropped(log.metrics, "stopping")


def test_a_disk_that_hangs_does_not_keep_the_server_from_ending(log, disk, caplog):
    """It is told that requests are lost."""
    log.start()
    log.offer(one())
    assert disk.entered.wait(DEADLINE_SECONDS)
    log.offer(one())
    log.offer(one())
    log.stop(0.01)

    assert "'slow' takes more than the 0.0 s that are left" in caplog.text
    # One that is being written, one that is in a table, and two that wait.
    assert "the last 4 requests are lost" in caplog.text
    disk.opened.set()


def test_a_log_that_never_started_stops(log):
    """A server that could not listen ends."""
    log.stop(0.01)


def test_the_thread_outlives_any_error(log, disk, caplog, monkeypatch):
    """Otherwise the log would be empty from there on, and nobody would know."""
    monkeypatch.setattr(log_module, "PAUSE_SECONDS", 0.01)
    told = threading.Event()

    def breaks(*, everything: bool = False) -> None:
        disk.ended = everything
        told.set()
        raise RuntimeError("a surprise")

    disk.opened.set()
    disk.rotate = breaks
    log.start()
    assert told.wait(DEADLINE_SECONDS)
    log.offer(one())
    log.stop(DEADLINE_SECONDS)

    assert 1 == len(disk.entries)
    assert "payload log: unexpected error" in caplog.text
