"""Reads that hang cost whoever asks a moment, and are not begun again while they hang."""

from __future__ import annotations

import concurrent.futures
import os
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bundleserver.commands.validating import list_models
from bundleserver.errors import SourceError
from bundleserver.sources.directory import DirectorySource
from bundleserver.sources.one_version import find_version
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

    reads = SlowReads(timeout_seconds=2.0)
    for _ in range(3):
        with reads.poll():
            with pytest.raises(TimeoutError, match="the volume may hang"):
                reads.of("model", WHERE, hangs)
            assert "here" == reads.of("model", WHERE.with_name("other"), lambda: "here")

    assert [1] == begun


def test_a_late_result_is_taken_by_the_next_poll_after_it(gate):
    """A volume that is only slow is read in the end: its result is not lost."""
    reads = SlowReads(timeout_seconds=0.05)

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


def _no_threads(monkeypatch):
    """Let no thread start; returns what lets them start again."""

    def fail(_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", fail)
    return monkeypatch.undo


def test_a_thread_that_does_not_start_is_an_error_of_that_read_alone(monkeypatch):
    """The next read starts another, and waits for no queue that nobody serves."""
    reads = SlowReads()
    with reads.poll():
        again = _no_threads(monkeypatch)
        with pytest.raises(OSError, match="no thread could be started"):
            reads.of("names", WHERE, lambda: "a")
        again()
        assert "a" == reads.of("names", WHERE, lambda: "a")


def test_a_poll_without_a_thread_is_an_outage(tmp_path, monkeypatch):
    """The directory cannot be read, says the source, and can be at the next poll."""
    (tmp_path / "v1").mkdir()
    source = DirectorySource(tmp_path, "fraud")
    again = _no_threads(monkeypatch)
    with pytest.raises(SourceError, match="no thread could be started"):
        source.discover()
    again()

    assert ["fraud"] == [listing.model for listing in source.discover()]


def test_a_command_waits_for_a_slow_volume(tmp_path, gate, monkeypatch):
    """Where nobody else waits, a read takes as long as it takes, and no bundle is denied."""
    (tmp_path / "v1").mkdir()
    (tmp_path / "v1" / "model.pkl").write_bytes(b"any")
    begun, scandir = threading.Event(), os.scandir

    def slow(path):
        begun.set()
        gate.wait()
        return scandir(path)

    monkeypatch.setattr(os, "scandir", slow)
    with ThreadPoolExecutor() as background:
        found = background.submit(find_version, tmp_path, "v1")
        listed = background.submit(list_models, tmp_path)
        assert begun.wait(10)
        waited = concurrent.futures.wait([found, listed], timeout=1.5).not_done
        gate.set()
        results = found.result(10)[1].location, listed.result(10)[0].candidates[0].location

    assert {found, listed} == waited
    assert (tmp_path / "v1",) * 2 == results


def test_what_a_source_keeps_of_gone_models_is_forgotten(tmp_path, gate):
    """Neither late results nor contents and configurations of models that are gone stay."""
    for model in ("stays", "goes"):
        (tmp_path / model / "v1").mkdir(parents=True)
        (tmp_path / model / "v1" / "model.pkl").write_bytes(b"any")
        (tmp_path / model / "serving.json").write_text("{}")
    source = DirectorySource(tmp_path)
    source.discover()
    shutil.rmtree(tmp_path / "goes")
    source.discover()

    assert "goes" not in repr(vars(source))
    assert "stays" in repr(vars(source))

    reads = SlowReads(timeout_seconds=0.05)
    with reads.poll(), pytest.raises(TimeoutError):
        reads.of("model", WHERE, gate.wait)
    reads.forget(lambda path: path == WHERE)
    with reads.poll(), pytest.raises(TimeoutError):  # it has not ended, so it is known
        reads.of("model", WHERE, lambda: "begun again")
    gate.set()
    for thread in _reading_threads():
        thread.join(10)
    reads.forget(lambda path: path == WHERE)
    with reads.poll():
        assert "begun again" == reads.of("model", WHERE, lambda: "begun again")
