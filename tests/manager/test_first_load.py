"""When the first load of a server has failed for good, and what is never taken for that."""

from __future__ import annotations

import errno
import logging

import pytest

from bundleserver.errors import LoadError, NotReady, SourceError
from bundleserver.manager import Manager
from bundleserver.manager.first_load import PAUSES_SECONDS
from bundleserver.manager.watcher import Watcher
from bundleserver.sources import Listing
from bundleserver.sources.passing import may_pass
from bundleserver.versions import Version, VersionPolicy
from bundleserver.versions.lifecycle import State
from tests.fakes import DEADLINE_SECONDS, Clock, FakeSource, Gate

TRIES = len(PAUSES_SECONDS) + 1


class Stage:
    """A manager whose time goes when it is told to, with the retries of a server that exits."""

    def __init__(self) -> None:
        self.source, self.clock = FakeSource(), Clock()

    def serve(self, policy="latest", **settings):
        given = {"model_name": "fraud", "retry_pauses_seconds": (*PAUSES_SECONDS, 60.0)} | settings
        given = {"open_bundle": self.source.open, "clock": self.clock} | given
        self.manager = Manager(self.source, policy=VersionPolicy.parse(policy), **given)
        return self.manager

    def why(self, tries=TRIES):
        """Let so many tries of each version pass, and return what is said then."""
        for _ in range(tries):
            self.manager.reconcile()
            self.clock.now += max(PAUSES_SECONDS) + 1
        return self.manager.first_load.why_failed()


@pytest.fixture
def stage():
    """Lend a stage."""
    return Stage()


def test_it_is_said_once_the_first_retries_are_used_up(stage):
    """The reason is the ready path's own sentence; a passing failure would have ended before."""
    stage.source.publish("v1", fails_at=State.LOADING)
    manager = stage.serve()
    before = stage.why(tries=len(PAUSES_SECONDS))
    after = stage.why(tries=1)

    assert "" == before
    with pytest.raises(NotReady) as refused:
        manager.check_ready("fraud")
    assert after == str(refused.value)


def test_every_version_that_failed_is_named_newest_first(stage):
    """Under 'all' each candidate has used up its retries."""
    for label in ("v1", "v2"):
        stage.source.publish(label, fails_at=State.WARMING)
    stage.serve("all")

    said = stage.why(9)

    assert said.startswith("model 'fraud' is not ready: version v2 is FAILED while WARMING")
    assert "; version v1 is FAILED while WARMING" in said


def _sound_beside(source):
    source.publish("v1")
    source.publish("v2", fails_at=State.LOADING)


def _unsettled_beside(source):
    source.publish("v1", settled=False)
    source.publish("v2", fails_at=State.LOADING)


def _outage(source):
    source.publish("v1", fails_at=State.LOADING)
    source.error = "'/mnt/models' cannot be read: Stale file handle"


def _empty_beside(source):
    source.publish("v1", "churn", fails_at=State.LOADING)
    source.list_as(Listing("fraud", reason="waiting for model files"))


def _unreadable(source):
    source.publish("v1", problem="'/mnt/models/v1' cannot be read: Permission denied")


def _nothing(source):
    """Publish _nothing."""


def _empty_directory_beside(source):
    source.publish("v1", "churn", fails_at=State.LOADING)
    source.publish("v1", fails_at=State.LOADING)
    source.list_as(Listing("later", reason="waiting for model files", is_model=False))


def _incomplete_beside(source):
    source.publish("v1", fails_at=State.LOADING)
    source.list_as(Listing("fraud", incomplete=(Version("v2"),)))


def _unseen_beside(source):
    source.publish("v2", fails_at=State.LOADING)
    source.list_as(Listing("fraud", unseen=(Version("v1"),)))


def _vanished_while_read(source):
    source.publish("v1", problem="'/mnt/models/v1' cannot be read: No such file or directory")


@pytest.mark.parametrize(
    "publish",
    [
        *(_sound_beside, _unsettled_beside, _outage, _empty_beside, _unreadable, _nothing),
        *(_empty_directory_beside, _incomplete_beside, _unseen_beside, _vanished_while_read),
    ],
)
@pytest.mark.parametrize("name", ["fraud", None])
def test_what_may_still_come_is_waited_for(publish, name, stage):
    """Versions that answer, files that are written, outages, and what is not there yet."""
    publish(stage.source)
    stage.serve("all", model_name=name)

    assert "" == stage.why(9)


def test_a_reading_that_failed_decides_nothing_and_forgets_nothing(stage):
    """While the directory cannot be read nothing is said; then the tries before it still count."""
    stage.source.publish("v3", fails_at=State.LOADING)
    manager = stage.serve()
    said = stage.why()
    stage.source.list_as(Listing("fraud", reason="'/mnt/models' hangs", is_read=False))
    meanwhile = stage.why(2)
    reason = manager.status("fraud").reason
    stage.source.list_as(Listing("fraud"))
    opened = len(stage.source.opened)
    again = stage.why(1)

    assert ("", "'/mnt/models' hangs") == (meanwhile, reason)
    assert said == again
    assert opened == len(stage.source.opened)


def test_a_sound_version_is_remembered_while_its_directory_cannot_be_read(stage):
    """A poll fails during the last try of a newer, broken version; the older one then serves."""
    gate = Gate()
    stage.source.publish("v1")
    stage.source.publish("v2", fails_at=State.LOADING, gate=gate)
    manager = stage.serve(load_threads=1, retry_pauses_seconds=())
    manager.reconcile()
    gate.wait_until_reached()
    stage.source.list_as(Listing("fraud", reason="'/mnt/models' hangs", is_read=False))
    manager.reconcile()
    gate.open()
    assert manager.wait_for_loads(DEADLINE_SECONDS)
    meanwhile = stage.why(1)
    stage.source.list_as(Listing("fraud"))
    manager.reconcile()
    assert manager.wait_for_loads(DEADLINE_SECONDS)

    assert "" == meanwhile
    assert manager.is_ready("fraud", "v1")


@pytest.mark.parametrize("name", ["fraud", None])
def test_what_vanished_during_its_try_is_waited_for(name, stage):
    """Its failure says nothing of what takes its place; nor does one that was never tried."""
    gate = Gate()
    stage.source.publish("v5", "churn", fails_at=State.LOADING)
    stage.source.publish("v1", fails_at=State.LOADING, gate=gate)
    stage.source.publish("v0", settled=False)
    manager = stage.serve("all", model_name=name, load_threads=2, retry_pauses_seconds=())
    manager.reconcile()
    gate.wait_until_reached()
    stage.source.delete("v1")
    stage.source.delete("v0")
    stage.source.publish("v2", fails_at=State.LOADING)
    manager.reconcile()
    gate.open()
    assert manager.wait_for_loads(DEADLINE_SECONDS)
    during = manager.first_load.why_failed()
    for _ in range(3):
        manager.reconcile()
        assert manager.wait_for_loads(DEADLINE_SECONDS)
    after = manager.first_load.why_failed()
    if name is None:
        stage.source.delete_model("fraud")
        manager.reconcile()
    gone = manager.first_load.why_failed()
    stage.source.publish("v0", fails_at=State.LOADING)
    stage.source.publish("v2", fails_at=State.LOADING)
    for _ in range(4):
        manager.reconcile()
        assert manager.wait_for_loads(DEADLINE_SECONDS)

    assert ("", "", "") == (during, after, gone)
    assert "version v0 is FAILED" in manager.first_load.why_failed()


def test_a_poll_that_began_before_the_last_try_ended_tells_nothing(stage):
    """Files may have been repaired between that poll and the end of the try."""
    told = []
    stage.source.publish("v1", fails_at=State.LOADING)
    manager = stage.serve(retry_pauses_seconds=())
    watcher = Watcher(manager, 1000.0, told.append)
    manager.reconcile()
    first, before = watcher._has_failed(has_polled=True), [*told]
    manager.reconcile()
    second = watcher._has_failed(has_polled=True)

    assert (True, False) == (first, second)
    assert ([], 1) == (before, len(told))


PASSING = [
    PermissionError(errno.EACCES, "Permission denied", "/mnt/models/v1/model.pkl"),
    OSError(errno.EIO, "Input/output error"),
    OSError(errno.ESTALE, "Stale file handle"),
    TimeoutError("the volume may hang"),
    ConnectionResetError("by peer"),
    SourceError("the registry cannot be reached"),
]


@pytest.mark.parametrize("cause", PASSING, ids=lambda it: type(it).__name__)
@pytest.mark.parametrize("depth", [0, 1, 2])
def test_what_a_volume_or_a_network_does_is_never_for_good(cause, depth, stage):
    """Whatever raised it, and whoever wrapped it."""
    error = cause
    for _ in range(depth):
        try:
            raise LoadError("'model.pkl' cannot be opened") from error
        except LoadError as wrapped:
            error = wrapped

    def open_bundle(candidate, enter):
        enter(State.LOADING)
        raise error

    stage.source.publish("v1")
    stage.serve(open_bundle=open_bundle)

    assert "" == stage.why(9)


@pytest.mark.parametrize(
    ("why", "passes"),
    [
        ("'/mnt/models/a.pt' cannot be opened: Permission denied", True),
        ("a.joblib: cannot be read: permission denied", True),
        ("PytorchStreamReader failed: Input/output error", True),
        ("reading it takes too long; the volume may hang", True),
        ("no space left on device", True),
        ("'model.pkl' is not a pickle or joblib file; it is probably text", False),
        ("components[0].framework is 'sklern'", False),
        ("FileNotFoundError: No such file or directory", False),
    ],
)
def test_the_systems_own_words_are_enough(why, passes):
    """Native libraries, and problems that are listed, have no exception of Python's."""
    assert passes == may_pass(why)


def test_a_load_past_its_deadline_is_never_for_good(stage):
    """The volume may have been slow."""
    gate = Gate()
    stage.source.publish("v1", gate=gate)
    manager = stage.serve(load_threads=1, load_timeout_seconds=10.0)
    manager.reconcile()
    gate.wait_until_reached()
    stage.clock.now += 11
    try:
        said = stage.why()
    finally:
        gate.open()

    assert "" == said
    assert "not finished within 10 s" in manager.status("fraud").versions[0].reason


def test_files_that_changed_are_tried_first(stage):
    """What failed for good was other files."""
    stage.source.publish("v1", fails_at=State.LOADING)
    manager = stage.serve()
    said = stage.why()
    stage.source.publish("v1")
    manager.reconcile()

    assert said
    assert "" == manager.first_load.why_failed()
    assert manager.is_ready("fraud")


@pytest.mark.parametrize("unloads", [False, True])
def test_a_server_that_has_been_ready_never_says_it(unloads, stage):
    """Whatever fails afterwards."""
    stage.source.publish("v1")
    manager = stage.serve()
    manager.reconcile()
    stage.source.delete("v1")
    stage.source.publish("v2", fails_at=State.LOADING)
    if unloads:
        manager.close()

    assert "" == stage.why(9)


def test_models_that_wait_for_a_model_that_failed_are_lost_with_it(stage):
    """What calls another model of this server cannot become ready without it."""
    stage.source.publish("v1", "member", fails_at=State.LOADING)
    stage.source.publish("v1", "voters")
    calls = {"voters": frozenset({"member"})}

    def open_bundle(candidate, enter):
        if candidate.model in calls:
            record = manager._shared.models["voters"].versions[candidate.version]
            record.calls = calls["voters"]
            with manager.acquire("member"):
                pass
        return stage.source.open(candidate, enter)

    manager = stage.serve(model_name=None, open_bundle=open_bundle)
    said = stage.why(4)
    calls["voters"] |= {"one that may be uploaded yet"}
    manager._shared.models["voters"].end_waits()
    manager.reconcile()

    assert "model 'voters' is not ready: version v1 is DISCOVERED: waits: model 'member'" in said
    assert "model 'member' is not ready: version v1 is FAILED" in said
    assert "" == manager.first_load.why_failed()


def test_the_watcher_tells_it_once_after_a_poll_of_its_own(stage):
    """Whoever asked is told; the thread goes on until it is stopped."""
    told = []
    stage.source.publish("v1", fails_at=State.LOADING)
    stage.serve(retry_pauses_seconds=())
    watcher = Watcher(stage.manager, 1000.0, told.append)
    watcher.start()
    with pytest.raises(NotReady):
        stage.manager.load("fraud", timeout_seconds=DEADLINE_SECONDS)
    with stage.manager._shared.changed:
        stage.manager._shared.changed.wait_for(lambda: told, 0.1)
    stage.manager.wake()
    assert watcher.stop()

    assert 1 == len(told)


def reminded(stage, caplog, said: str) -> int:
    """Remind as often as there is time, and return how often it was said once that is three."""
    caplog.set_level(logging.INFO)
    watcher = Watcher(stage.manager, 0.001, reminder_seconds=0.0)
    watcher.start()
    with stage.manager._shared.changed:
        while caplog.messages.count(said) < 3:
            stage.manager._shared.changed.wait(0.01)
    watcher.stop()
    return caplog.messages.count(said)


def test_the_log_says_again_and_again_what_is_waited_for(stage, caplog):
    """A server without a ready model says why as often as it shall."""
    stage.source.list_as(Listing("fraud", reason="waiting for '/mnt/models'"))
    stage.serve()

    assert reminded(stage, caplog, "model 'fraud' is not ready: waiting for '/mnt/models'") >= 3


def test_a_model_that_waits_beside_a_ready_one_is_reminded_of(stage, caplog):
    """The ready one is not named, and the other one with what it waits for."""
    stage.source.publish("v1", "ready")
    stage.source.list_as(Listing("tides", reason="waiting for '/mnt/models/tides'"))
    stage.serve(model_name=None)

    assert reminded(stage, caplog, "model 'tides' is not ready: waiting for '/mnt/models/tides'")
    assert not [said for said in caplog.messages if said.startswith("model 'ready'")]


def test_a_source_without_models_is_reminded_of(stage, caplog):
    """Where nothing is there yet, the place is named again."""
    stage.serve(model_name=None)

    assert reminded(stage, caplog, f"there is no model in {stage.source.place} yet")
