from __future__ import annotations

import threading

import pytest

from bundleserver.manager import Manager
from bundleserver.manager.watcher import SETTLING_SECONDS, Watcher
from tests.fakes import DEADLINE_SECONDS, FakeSource, Gate


@pytest.fixture
def source():
    """Lend a source with nothing in it."""
    return FakeSource()


@pytest.fixture
def manager(source):
    """Lend a manager of that source."""
    return Manager(source, model_name="fraud", open_bundle=source.open)


class Signalling(FakeSource):
    """A source that lets a test wait for its polls, and may break its promise."""

    def __init__(self):
        super().__init__()
        self.polled = threading.Semaphore(0)
        self.bug: BaseException | None = None

    def discover(self, demand_of=None):
        self.polled.release()
        if self.bug is not None:
            bug, self.bug = self.bug, None
            raise bug
        return super().discover(demand_of)

    def wait_for_poll(self):
        assert self.polled.acquire(timeout=DEADLINE_SECONDS), "nobody polled"


def test_the_watcher_looks_at_once_and_when_it_is_woken(manager, source):
    """The first look does not wait for the interval, nor does one that is ordered."""
    source.publish("v1")
    watcher = Watcher(manager, poll_interval_seconds=1000.0)
    watcher.start()
    manager.load("fraud", timeout_seconds=DEADLINE_SECONDS)
    source.publish("v2")
    manager.load("fraud", "v2", timeout_seconds=DEADLINE_SECONDS)
    stopped = watcher.stop()

    assert stopped
    assert manager.is_ready("fraud", "v2")


def test_the_watcher_polls_again_and_again():
    """What appears later is found without anybody's order."""
    source = Signalling()
    manager = Manager(source, model_name="fraud", open_bundle=source.open)
    watcher = Watcher(manager, poll_interval_seconds=0.001)
    watcher.start()
    for _ in range(5):
        source.wait_for_poll()
    stopped = watcher.stop()

    assert stopped


@pytest.mark.parametrize("bug", [RuntimeError("a bug"), SystemExit(1)])
def test_the_watcher_survives_any_error(bug, caplog):
    """An error that nobody foresaw is logged with its traceback, and the next look follows."""
    source = Signalling()
    source.bug = bug
    source.publish("v1")
    manager = Manager(source, model_name="fraud", open_bundle=source.open)
    watcher = Watcher(manager, poll_interval_seconds=0.001)
    watcher.start()
    manager.load("fraud", timeout_seconds=DEADLINE_SECONDS)
    watcher.stop()

    assert manager.is_ready("fraud")
    assert "polling the model source failed" in caplog.text
    assert "Traceback" in caplog.text


def test_stop_returns_in_time_when_a_load_hangs(manager, source, caplog):
    """A load that does not end does not keep the process from stopping, and the log says so."""
    gate = Gate()
    source.publish("v1", gate=gate)
    watcher = Watcher(manager)
    watcher.start()
    gate.wait_until_reached()
    in_time = watcher.stop(timeout_seconds=0.01)
    gate.open()
    later = watcher.stop(DEADLINE_SECONDS)

    assert not in_time
    assert later
    assert "still in progress" in caplog.text


def test_stop_before_start_is_no_error(manager):
    """A watcher that was never started stops at once."""
    assert Watcher(manager).stop()


def test_the_watcher_looks_again_soon_while_files_settle(manager, source):
    """At the start files without a manifest wait for a second look, not for the next poll."""
    watcher = Watcher(manager, poll_interval_seconds=1000.0)
    idle = watcher._pause_seconds()
    source.publish("v1", settled=False)
    manager.reconcile()

    assert 1000.0 == idle
    assert SETTLING_SECONDS == watcher._pause_seconds()
