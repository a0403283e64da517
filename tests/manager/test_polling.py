"""How often the source is asked: once, then everything that follows is done."""

from __future__ import annotations

import threading

import pytest

from bundleserver.manager import Manager
from bundleserver.manager.watcher import Watcher
from bundleserver.manifest import MANIFEST_NAME
from bundleserver.sources import Listing
from bundleserver.sources.directory import DirectorySource
from bundleserver.versions import Version, VersionPolicy
from bundleserver.versions.lifecycle import State
from tests.end_to_end.processes import eventually
from tests.fakes import DEADLINE_SECONDS, FakeSource


def managed(source, policy="all", **settings):
    """Make a manager of that source."""
    parsed = VersionPolicy.parse(policy)
    return Manager(source, policy=parsed, open_bundle=source.open, **settings)


@pytest.mark.parametrize("count", [3, 40])
def test_every_version_is_loaded_after_one_poll(count):
    """Under 'all' the source is polled once, however many versions are loaded."""
    source = FakeSource()
    for number in range(count):
        source.publish(f"v{number}")
    managed(source).reconcile()

    assert (1, count) == (source.polls, len(source.open_labels()))


def test_loads_that_end_in_threads_poll_no_more():
    """What a watcher is woken for is done without another poll."""
    source = FakeSource()
    for number in range(12):
        source.publish(f"v{number}")
    manager = managed(source, load_threads=2)
    watcher = Watcher(manager, poll_interval_seconds=1000.0)
    watcher.start()
    eventually(lambda: 12 == len(manager.traffic("fraud").ready), "all are ready")
    watcher.stop(DEADLINE_SECONDS)
    manager.close()

    assert 1 == source.polls


class Deep(FakeSource):
    """Versions below the demand are known by name only, as in a directory."""

    def discover(self, demand_of=None):
        (listing,) = super().discover(demand_of)
        demand = demand_of(listing.model)
        reach = (demand.policy.count or 0) + demand.further
        seen = [c for at, c in enumerate(listing.candidates) if at < reach]
        seen += [c for c in listing.candidates if c not in seen and c.version in demand.versions]
        unseen = tuple(c.version for c in listing.candidates if c not in seen)
        return (Listing(listing.model, tuple(seen), unseen=unseen),)


def test_each_failure_demands_one_more_poll():
    """Two broken newest versions cost two more polls, and the third newest serves."""
    source = Deep()
    for number in range(6):
        source.publish(f"v{number}", fails_at=State.LOADING if number > 3 else None)
    manager = managed(source, "latest")
    manager.reconcile()

    assert 3 == source.polls
    assert "v3" == manager.status("fraud").default


def test_an_order_for_a_version_below_the_demand_polls_for_it():
    """One poll for what has come meanwhile, and one for the files of the old version."""
    source = Deep()
    for number in range(4):
        source.publish(f"v{number}")
    manager = managed(source, "latest")
    manager.reconcile()
    watcher = Watcher(manager, poll_interval_seconds=1000.0)
    watcher.start()
    manager.load("fraud", "v1", timeout_seconds=DEADLINE_SECONDS)
    watcher.stop(DEADLINE_SECONDS)

    assert manager.is_ready("fraud", "v1")
    assert source.polls <= 4


def test_a_directory_is_looked_at_once_per_version(tmp_path):
    """A start of twenty versions in a real directory opens each of them after a single poll."""
    opened = FakeSource()
    for number in range(20):
        version = tmp_path / "fraud" / f"v{number}"
        version.mkdir(parents=True)
        (version / MANIFEST_NAME).write_text('{"format": "bundle/v1", "components": {}}')
        opened.publish(f"v{number}")
    source = Counting(tmp_path)
    policy = VersionPolicy.parse("all")
    manager = Manager(source, policy=policy, open_bundle=opened.open)
    manager.reconcile()
    ready = {Version(label) for label in manager.traffic("fraud").ready}

    assert (1, 20) == (source.polls, len(ready))


class Counting(DirectorySource):
    """A directory that counts how often it is polled."""

    polls = 0

    def discover(self, demand_of=None):
        self.polls += 1
        return super().discover(demand_of)


def test_a_thread_that_cannot_start_gives_its_place_back(monkeypatch, caplog):
    """With one place for loads, a version whose thread did not start comes up a little later."""
    source = FakeSource()
    manager = managed(source, "latest", load_threads=1)
    source.publish("v7")
    start = threading.Thread.start
    refused = []

    def refuse(thread):
        if thread.name.startswith("load ") and len(refused) < 2:
            refused.append(thread.name)
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    watcher = Watcher(manager, poll_interval_seconds=0.05)
    watcher.start()
    eventually(lambda: manager.is_ready("fraud", "v7"), "v7 is loaded")
    source.publish("v8")
    eventually(lambda: manager.is_ready("fraud", "v8"), "v8 is loaded")
    watcher.stop(DEADLINE_SECONDS)

    assert ["load fraud v7", "load fraud v7"] == refused
    assert 1 == caplog.text.count("no thread could be started")
