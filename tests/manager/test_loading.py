"""Loads that go on beside everything else, as a server has them."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from bundleserver.errors import NotReady
from bundleserver.manager import Manager
from bundleserver.manager.loading import WAIT_FOR_MEMBERS_SECONDS
from bundleserver.manager.watcher import Watcher
from bundleserver.versions import VersionPolicy
from bundleserver.versions.lifecycle import State, SwapPolicy
from tests.fakes import DEADLINE_SECONDS, Clock, FakeSource, Gate


class Waker(Clock):
    """A clock that tells a manager when it was moved."""

    def __init__(self) -> None:
        super().__init__()
        self.manager: Manager | None = None

    def move(self, seconds: float) -> None:
        self.now += seconds
        assert self.manager is not None
        self.manager.wake()


@pytest.fixture
def source():
    """Lend a source with nothing in it."""
    return FakeSource()


@pytest.fixture
def clock():
    """Lend a clock that stands still."""
    return Waker()


@pytest.fixture
def serve(source, clock):
    """Lend a starter of managers that load in threads of their own, watched until the end."""
    with ExitStack() as started:

        def start(policy: str = "latest", threads: int = 4, **settings: object) -> Manager:
            settings = {"retry_pauses_seconds": ()} | settings
            manager = Manager(
                source,
                policy=VersionPolicy.parse(policy),
                open_bundle=settings.pop("open_bundle", source.open),
                clock=clock,
                load_threads=threads,
                **settings,
            )
            clock.manager = manager
            watcher = Watcher(manager, poll_interval_seconds=0.01)
            watcher.start()
            started.callback(watcher.stop, DEADLINE_SECONDS)
            return manager

        yield start


def ask(manager: Manager, model: str = "fraud", version: str | None = None) -> str:
    """Ask a model for an answer, and return the version that gave it."""
    with manager.acquire(model, version) as bundle:
        (answer,) = bundle.predict({}, {})["version"]
        return answer


def reason(manager: Manager, version: str, model: str = "fraud") -> str:
    """Return the reason of a version, or the word of its state."""
    found = {it.version: it.reason or it.state.value for it in manager.status(model).versions}
    return found[version]


def wait_until(manager: Manager, condition) -> None:
    """Wait for what the manager's own lock announces."""
    changed = manager._shared.changed
    for _ in range(int(DEADLINE_SECONDS / 0.01)):
        if condition():
            return
        with changed:
            changed.wait(0.01)
    raise AssertionError("it has not come to that in time")


def test_a_hanging_load_keeps_nobody_waiting(serve, source):
    """Other models' versions come, roll-backs take effect and unloads end while one load hangs."""
    gate = Gate()
    for version in ("v1", "v2"):
        source.publish(version, "a")
    source.publish("v1", "b")
    manager = serve("all")
    manager.load("a", timeout_seconds=DEADLINE_SECONDS)
    manager.load("b", timeout_seconds=DEADLINE_SECONDS)
    source.publish("v3", "a", gate=gate)
    gate.wait_until_reached()
    source.configure('{"default": "v1"}', "a")
    source.publish("v2", "b")
    wait_until(manager, lambda: (ask(manager, "a"), ask(manager, "b")) == ("v1", "v2"))
    manager.unload("b", "v1", timeout_seconds=DEADLINE_SECONDS)
    during = reason(manager, "v3", "a")
    gate.open()

    assert "LOADING" == during
    assert "UNLOADED: manually" in reason(manager, "v1", "b")


def test_a_newer_version_does_not_wait_for_one_that_hangs(serve, source):
    """The version that mends one whose load hangs takes over."""
    gate = Gate()
    source.publish("v1")
    manager = serve()
    manager.load("fraud", timeout_seconds=DEADLINE_SECONDS)
    source.publish("v2", gate=gate)
    gate.wait_until_reached()
    source.publish("v3")
    wait_until(manager, lambda: ask(manager) == "v3")
    gate.open()
    wait_until(manager, lambda: source.open_labels() == ["v3"])

    assert "v3" == ask(manager)


def test_a_rollback_to_an_unloaded_version_overtakes_a_load_that_hangs(serve, source):
    """The version that serving.json asks for is loaded beside the one that hangs."""
    gate = Gate()
    source.publish("v1")
    source.publish("v2")
    manager = serve()
    manager.load("fraud", timeout_seconds=DEADLINE_SECONDS)
    source.publish("v3", gate=gate)
    gate.wait_until_reached()
    source.configure('{"default": "v1"}')
    wait_until(manager, lambda: ask(manager) == "v1")
    gate.open()

    assert "v1" == ask(manager)


def test_at_a_start_the_newest_version_answers_first(serve, source, clock):
    """Older versions wait for the newest one, but not for ever."""
    gate = Gate()
    source.publish("v1")
    source.publish("v2", gate=gate)
    manager = serve("all")
    gate.wait_until_reached()
    polls = source.polls
    wait_until(manager, lambda: source.polls > polls + 3)
    early = list(source.opened)
    clock.move(31.0)
    wait_until(manager, lambda: manager.is_ready("fraud", "v1"))
    gate.open()
    wait_until(manager, lambda: manager.is_ready("fraud", "v2"))

    assert ["fraud v2"] == early
    assert "v2" == ask(manager)


def test_only_so_many_loads_go_on_at_a_time(serve, source):
    """With two threads a third model waits until one of the first two is up."""
    gates = [Gate() for _ in range(3)]
    for number, gate in enumerate(gates):
        source.publish("v1", f"m{number}", gate=gate)
    manager = serve(threads=2)
    for gate in gates[:2]:
        gate.wait_until_reached()
    polls = source.polls
    wait_until(manager, lambda: source.polls > polls + 3)
    early = sorted(source.opened)
    gates[0].open()
    gates[2].wait_until_reached()
    for gate in gates[1:]:
        gate.open()
    wait_until(manager, lambda: all(manager.is_ready(f"m{number}") for number in range(3)))

    assert ["m0 v1", "m1 v1"] == early


def test_an_unload_goes_on_while_no_thread_is_free(serve, source):
    """That every thread loads keeps nobody from unloading by hand."""
    gate = Gate()
    source.publish("v1")
    manager = serve(threads=1)
    manager.load("fraud", timeout_seconds=DEADLINE_SECONDS)
    source.publish("v1", "slow", gate=gate)
    gate.wait_until_reached()
    source.publish("v2")
    manager.unload("fraud", "v1", timeout_seconds=DEADLINE_SECONDS)
    gate.open()
    wait_until(manager, lambda: manager.is_ready("fraud", "v2"))

    assert ["v1", "v2"] == source.open_labels()


def test_what_memory_holds_once_is_loaded_alone(serve, source):
    """Under the policy 'resource' a second load of a model waits for the first."""
    gate = Gate()
    source.publish("v1", gate=gate)
    manager = serve(swap=SwapPolicy.RESOURCE)
    gate.wait_until_reached()
    source.publish("v2")
    polls = source.polls
    wait_until(manager, lambda: source.polls > polls + 3)
    early = list(source.opened)
    gate.open()
    wait_until(manager, lambda: manager.is_ready("fraud", "v2"))
    wait_until(manager, lambda: source.open_labels() == ["v2"])

    assert ["fraud v1"] == early


def test_a_version_that_is_unloaded_by_hand_while_it_loads_never_answers(serve, source):
    """The order ends when the load has ended, and what it opened is closed."""
    gate = Gate()
    source.publish("v1", gate=gate)
    manager = serve()
    gate.wait_until_reached()
    with ThreadPoolExecutor(1) as pool:
        unload = pool.submit(manager.unload, "fraud", "v1", DEADLINE_SECONDS)
        wait_until(manager, lambda: "fraud" in manager.models() and _is_unloaded(manager))
        early = unload.done()
        gate.open()
        unload.result(DEADLINE_SECONDS)

    assert not early
    assert [] == source.open_labels()
    assert "UNLOADED: manually" in reason(manager, "v1")


def _is_unloaded(manager: Manager) -> bool:
    return bool(manager._shared.models["fraud"].manual.unloaded)


def test_a_version_that_vanishes_while_it_loads_gives_way(serve, source):
    """What is no longer there when it comes up does not stay beside the version before it."""
    gate = Gate()
    source.publish("v1")
    manager = serve()
    manager.load("fraud", timeout_seconds=DEADLINE_SECONDS)
    source.publish("v2", gate=gate)
    gate.wait_until_reached()
    source.delete("v2")
    polls = source.polls
    wait_until(manager, lambda: source.polls > polls + 1)
    gate.open()
    wait_until(manager, lambda: [it.version for it in manager.status("fraud").versions] == ["v1"])

    assert ["v1"] == source.open_labels()
    assert "v1" == ask(manager)


def test_files_that_change_while_they_load_are_loaded_again(serve, source):
    """The version that answers in the end is made of the files that are there in the end."""
    gate = Gate()
    source.publish("v1", gate=gate)
    manager = serve()
    gate.wait_until_reached()
    source.publish("v1")
    polls = source.polls
    wait_until(manager, lambda: source.polls > polls + 1)
    gate.open()
    wait_until(manager, lambda: len(source.bundles) == 2 and source.bundles[0].is_closed)

    assert "v1" == ask(manager)
    assert not source.bundles[1].is_closed


def test_a_failure_in_a_thread_is_kept_and_shown(serve, source):
    """A load that fails beside the others leaves its reason, and the version before goes on."""
    source.publish("v1")
    manager = serve()
    manager.load("fraud", timeout_seconds=DEADLINE_SECONDS)
    source.publish("v2", fails_at=State.LOADING, why="its file is broken")
    wait_until(manager, lambda: "FAILED" in str(manager.status("fraud").versions[0].reason))

    assert "FAILED while LOADING: its file is broken" == reason(manager, "v2")
    assert "v1" == ask(manager)


def test_what_calls_another_model_waits_for_it_without_a_failure(serve, source, clock, caplog):
    """A version whose member is not up yet is no failure, and comes as soon as the member does."""
    caplog.set_level(logging.INFO)
    gate = Gate()
    source.publish("v1", "member", gate=gate)
    source.publish("v1", "caller")
    managers: list[Manager] = []

    def open_bundle(candidate, enter):
        if candidate.model == "caller":
            enter(State.WARMING)
            with managers[0].acquire("member"):
                pass
        return source.open(candidate, enter)

    waiting = Manager(source, open_bundle=open_bundle, clock=clock, load_threads=4)
    managers.append(waiting)
    clock.manager = waiting
    watcher = Watcher(waiting, poll_interval_seconds=0.01)
    watcher.start()
    try:
        gate.wait_until_reached()
        wait_until(waiting, lambda: "waits" in reason(waiting, "v1", "caller"))
        during = (reason(waiting, "v1", "caller"), waiting.is_server_ready())
        gate.open()
        waiting.load("caller", timeout_seconds=DEADLINE_SECONDS)
    finally:
        watcher.stop(DEADLINE_SECONDS)

    assert during[0].startswith("DISCOVERED: waits: model 'member' is not ready: version v1 is")
    assert not during[1]
    assert {} == waiting.failures()
    assert [] == [record for record in caplog.records if record.levelno > logging.INFO]
    assert 1 == caplog.text.count("caller v1: waits:")


@pytest.mark.parametrize("members", [1, len(WAIT_FOR_MEMBERS_SECONDS) + 1])
def test_a_member_that_comes_while_its_caller_fails_to_find_it_ends_the_wait(
    serve, source, members
):
    """A member is up between the moment that its caller asks and the one that it begins to wait."""
    names = [f"member{number}" for number in range(members)]
    asked = {name: Gate() for name in names}
    seen: list[str] = []

    def open_bundle(candidate, enter):
        if candidate.model == "caller" and len(seen) < len(names):
            seen.append(names[len(seen)])
            asked[seen[-1]].wait_here()
            raise NotReady(f"model '{seen[-1]}'", "it was not when it was asked")
        return source.open(candidate, enter)

    source.publish("v1", "caller")
    manager = serve(open_bundle=open_bundle)
    for name in names:
        asked[name].wait_until_reached()
        source.publish("v1", name)
        manager.load(name, timeout_seconds=DEADLINE_SECONDS)
        asked[name].open()
    wait_until(manager, lambda: manager.is_ready("caller"))

    assert names == seen


def test_what_waits_for_a_member_in_vain_asks_again_now_and_then(serve, source, clock):
    """A member that comes by another way than a load is found after a while."""
    source.publish("v1", "caller")
    tries = threading.Semaphore(0)

    def open_bundle(candidate, enter):
        tries.release()
        raise NotReady("model 'member'", "nobody knows")

    manager = serve(open_bundle=open_bundle)
    assert tries.acquire(timeout=DEADLINE_SECONDS)
    wait_until(manager, lambda: "waits" in reason(manager, "v1", "caller"))
    polls = source.polls
    wait_until(manager, lambda: source.polls > polls + 3)
    early = tries.acquire(blocking=False)
    clock.move(WAIT_FOR_MEMBERS_SECONDS[0])
    second = tries.acquire(timeout=DEADLINE_SECONDS)
    wait_until(manager, lambda: not _is_underway(manager, "caller"))
    clock.move(WAIT_FOR_MEMBERS_SECONDS[0])
    polls = source.polls
    wait_until(manager, lambda: source.polls > polls + 3)
    too_early = tries.acquire(blocking=False)
    clock.move(WAIT_FOR_MEMBERS_SECONDS[1])

    assert (False, True, False) == (early, second, too_early)
    assert tries.acquire(timeout=DEADLINE_SECONDS)


def test_what_has_failed_keeps_no_server_from_being_ready(serve, source, clock):
    """With one model that answers and one that failed, readiness stays, also during a retry."""
    gate = Gate()
    source.publish("v1", "good")
    source.publish("v1", "bad", fails_at=State.LOADING)
    manager = serve(retry_pauses_seconds=(5.0,))
    wait_until(
        manager, lambda: "FAILED" in reason(manager, "v1", "bad") and manager.is_ready("good")
    )
    wait_until(manager, manager.is_server_ready)
    source.hold("v1", "bad", gate)
    clock.move(5.0)
    gate.wait_until_reached()
    during = (reason(manager, "v1", "bad"), manager.is_server_ready())
    gate.open()

    assert ("LOADING again; FAILED while LOADING: its file is broken", True) == during


def _is_underway(manager: Manager, model: str) -> bool:
    with manager._shared.changed:
        return any(it.is_underway for it in manager._shared.models[model].versions.values())


def test_close_while_versions_load_keeps_nothing_open(serve, source):
    """A version that comes up after the end is closed at once."""
    gate = Gate()
    source.publish("v1", gate=gate)
    manager = serve()
    gate.wait_until_reached()
    manager.close(timeout_seconds=0.01)
    early = manager.wait_for_loads(0.01)
    gate.open()
    ended = manager.wait_for_loads(DEADLINE_SECONDS)

    assert (False, True) == (early, ended)
    assert [] == source.open_labels()


def test_a_version_that_is_unloaded_while_it_reloads_gets_no_new_lease(serve, source):
    """Manually unloaded while other files of it are opened, the default is closed, not acquired."""
    gate = Gate()
    source.publish("v1")
    manager = serve()
    manager.load("fraud", timeout_seconds=DEADLINE_SECONDS)
    source.publish("v1", gate=gate)
    gate.wait_until_reached()
    with ThreadPoolExecutor(1) as pool:
        unload = pool.submit(manager.unload, "fraud", "v1", DEADLINE_SECONDS)
        wait_until(manager, lambda: not manager.is_ready("fraud"))
        gate.open()
        unload.result(DEADLINE_SECONDS)

    assert manager._shared.models["fraud"].serving is None
    assert [] == source.open_labels()
    with pytest.raises(NotReady, match="UNLOADED: manually"):
        manager.acquire("fraud")
