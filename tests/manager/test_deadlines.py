"""Loads that do not end in time."""

from __future__ import annotations

import time
from contextlib import ExitStack

import pytest

from bundleserver.errors import NotReady
from bundleserver.frameworks.giving_up import go_on
from bundleserver.manager import Manager
from bundleserver.manager.loading.attempts import MOST_HUNG
from bundleserver.manager.watcher import Watcher
from bundleserver.versions import VersionPolicy
from bundleserver.versions.lifecycle import State
from tests.fakes import DEADLINE_SECONDS, Clock, FakeSource, Gate

LIMIT_SECONDS = 30.0


class Stage:
    """A watched manager of a source, whose clock goes when it is told to."""

    def __init__(self, started: ExitStack) -> None:
        self.source, self.clock, self._started = FakeSource(), Clock(), started

    def serve(self, policy: str = "latest", threads: int = 1, **settings: object) -> Manager:
        settings = {"retry_pauses_seconds": (5.0,), "clock": self.clock} | settings
        interval = settings.pop("poll_interval_seconds", 0.01)
        self.manager = Manager(
            self.source,
            policy=VersionPolicy.parse(policy),
            open_bundle=settings.pop("open_bundle", self.source.open),
            load_threads=threads,
            **{"load_timeout_seconds": LIMIT_SECONDS} | settings,
        )
        self.watcher = Watcher(self.manager, poll_interval_seconds=interval)
        self.watcher.start()
        self._started.callback(self.watcher.stop, DEADLINE_SECONDS)
        return self.manager

    def move(self, seconds: float) -> None:
        self.clock.now += seconds
        self.manager.wake()

    def reason(self, version: str, model: str = "fraud") -> str:
        status = {it.version: it for it in self.manager.status(model).versions}[version]
        return status.reason or status.state.value

    def until(self, condition) -> None:
        """Wait for what the manager's own lock announces."""
        changed = self.manager._shared.changed
        end = time.monotonic() + DEADLINE_SECONDS
        while not condition():
            assert time.monotonic() < end, "it has not come to that in time"
            with changed:
                changed.wait(0.01)

    def hang(self, version: str = "v1", model: str = "fraud") -> Gate:
        """Publish a version whose load hangs, and wait until it does."""
        gate = Gate()
        self._started.callback(gate.open)
        self.source.publish(version, model, gate=gate)
        gate.wait_until_reached()
        return gate


@pytest.fixture
def stage():
    """Lend a stage; what hangs on it ends with the test."""
    with ExitStack() as started:
        yield Stage(started)


def test_a_hung_load_fails_and_gives_its_place_back(stage):
    """Past the limit a version is FAILED with the state it hung in, and another one loads."""
    manager = stage.serve()
    stage.hang("v1", "bad")
    stage.source.publish("v1", "good")
    stage.move(LIMIT_SECONDS)
    stage.until(lambda: manager.is_ready("good"))

    assert "FAILED while LOADING: not finished within 30 s (--load_timeout_seconds)" in (
        stage.reason("v1", "bad")
    )
    assert {("bad", State.LOADING): 1} == manager.failures()


def test_long_work_of_a_load_that_was_given_up_ends(stage):
    """What looks at a large file past the deadline stops there, and not at the file's end."""
    reached, ended = Gate(), Gate()

    def slow(candidate, enter):
        reached.wait_here()
        try:
            go_on()
        finally:
            ended.open()
        raise AssertionError("it went on")

    manager = stage.serve(open_bundle=slow)
    stage.source.publish("v1")
    reached.wait_until_reached()
    stage.move(LIMIT_SECONDS)
    stage.until(manager.failures)
    reached.open()
    ended.wait_here()

    assert "not finished within 30 s" in stage.reason("v1")
    assert "it went on" not in stage.reason("v1")


def test_a_load_below_the_limit_goes_on(stage):
    """Nothing is given up before its time, and 0 is no limit."""
    manager = stage.serve(load_timeout_seconds=0.0)
    gate = stage.hang()
    stage.move(1e9)
    gate.open()
    stage.until(lambda: manager.is_ready("fraud"))

    assert {} == manager.failures()


def test_what_opens_too_late_is_closed_and_tried_again_after_a_pause(stage):
    """The bundle of a load that was given up never answers; its files have their next try."""
    gates = [Gate(), Gate()]
    gates[1].open()

    def slow(candidate, enter):
        bundle = stage.source.open(candidate, enter)
        gates[0 if len(stage.source.bundles) == 1 else 1].wait_here()
        return bundle

    manager = stage.serve(open_bundle=slow)
    stage.source.publish("v1")
    gates[0].wait_until_reached()
    stage.move(LIMIT_SECONDS)
    stage.until(lambda: "FAILED while WARMING" in stage.reason("v1"))
    stage.move(1000.0)
    gates[0].open()
    stage.until(lambda: stage.source.bundles[0].is_closed)
    stage.until(lambda: not manager._loader._attempts.hung)
    was_ready = manager.is_ready("fraud")
    stage.move(5.0)
    stage.until(lambda: manager.is_ready("fraud"))

    assert not was_ready
    assert [False] == [bundle.is_closed for bundle in stage.source.bundles[1:]]


def test_files_that_hang_are_not_tried_again_while_they_do(stage):
    """Neither time nor an order hangs another thread in the same files; other files are loaded."""
    manager = stage.serve()
    gate = stage.hang()
    stage.move(LIMIT_SECONDS)
    stage.until(lambda: "FAILED" in stage.reason("v1"))
    stage.move(1000.0)
    with pytest.raises(NotReady, match="has not ended yet"):
        manager.load("fraud", "v1", timeout_seconds=DEADLINE_SECONDS)
    opened = len(stage.source.opened)
    stage.source.publish("v1")
    stage.until(lambda: manager.is_ready("fraud"))
    gate.open()
    stage.until(lambda: not manager._loader._attempts.hung)

    assert 1 == opened
    assert manager.is_ready("fraud")


def test_an_end_lets_the_same_files_be_loaded(stage):
    """A version that waits for a load that was given up goes on when that ends."""
    manager = stage.serve()
    gate = stage.hang()
    stage.move(LIMIT_SECONDS)
    stage.until(lambda: "FAILED" in stage.reason("v1"))
    with pytest.raises(NotReady):
        manager.load("fraud", "v1", timeout_seconds=DEADLINE_SECONDS)
    gate.open()
    stage.until(lambda: manager.is_ready("fraud"))

    assert "READY" == stage.reason("v1")


def test_the_hung_threads_of_a_model_are_bounded(stage):
    """However many files of a model hang, further ones wait; other models go on."""
    manager = stage.serve("latest:100", threads=4)
    gates = []
    for number in range(1, MOST_HUNG + 1):
        gates.append(stage.hang(f"v{number}"))
        stage.move(LIMIT_SECONDS)
        stage.until(lambda: len(manager._loader._attempts.hung) == len(gates))
    stage.source.publish("v99")
    stage.source.publish("v1", "other")
    stage.until(lambda: manager.is_ready("other") and "waits" in stage.reason("v99"))
    why = stage.reason("v99")
    gates[0].open()
    stage.until(lambda: manager.is_ready("fraud", "v99"))

    assert f"{MOST_HUNG} loads of this model were given up" in why


def test_the_version_before_a_hung_one_goes_on_answering(stage):
    """New files that hang under the name of a READY version leave its old files in service."""
    manager = stage.serve()
    stage.source.publish("v1")
    manager.load("fraud", timeout_seconds=DEADLINE_SECONDS)
    stage.hang("v1")
    stage.move(LIMIT_SECONDS)
    stage.until(lambda: "not finished within" in stage.reason("v1"))

    assert manager.is_ready("fraud")
    assert not stage.source.bundles[0].is_closed


def test_a_deadline_does_not_wait_for_the_next_poll(stage):
    """A load is given up at its time, however rarely the source is polled."""
    stage.serve(poll_interval_seconds=1000.0, load_timeout_seconds=0.2, clock=time.monotonic)
    gate = Gate()
    stage.source.publish("v1", gate=gate)
    with pytest.raises(NotReady, match=r"not finished within 0\.2 s"):
        stage.manager.load("fraud", timeout_seconds=DEADLINE_SECONDS)
    gate.open()


def test_a_stop_does_not_wait_for_hung_loads(stage):
    """A watcher stops at once where only loads that were given up go on, and says that they do."""
    stage.serve()
    stage.hang()
    stage.move(LIMIT_SECONDS)
    stage.until(lambda: "FAILED" in stage.reason("v1"))
    began = time.monotonic()
    is_idle = stage.watcher.stop(DEADLINE_SECONDS)

    assert not is_idle
    assert time.monotonic() - began < DEADLINE_SECONDS / 2
