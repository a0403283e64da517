from __future__ import annotations

import gc
import logging
import sys
import threading
import weakref

from bundleserver.manager import Manager, collect_rarely
from bundleserver.manager.leases import Loaded, give_memory_back, settle_memory
from bundleserver.versions import Version
from tests.fakes import FakeBundle, FakeSource


def load(bundle: FakeBundle, on_drained=lambda: None) -> Loaded:
    """Count the leases of a bundle."""
    lock = threading.Lock()
    return Loaded(bundle, Version("v1"), "fingerprint", 0.1, 0.0, lock, on_drained)


def test_only_the_last_lease_of_a_withdrawn_version_tells_of_it():
    """A lease that ends while others go on, or while new ones may come, wakes nobody."""
    told = []
    loaded = load(FakeBundle("fraud", "v1"), lambda: told.append(loaded.in_flight))
    loaded.in_flight = 3
    with loaded as bundle:
        assert "v1" == bundle.version
    loaded.is_withdrawn = True
    for _ in range(2):
        with loaded:
            assert [] == told

    assert [0] == told


def test_only_one_may_close_a_bundle_and_nobody_while_it_is_held():
    """Closing is claimed once, and refused while a request holds the bundle."""
    loaded = load(FakeBundle("fraud", "v1"))
    loaded.in_flight += 1
    held = loaded.claim_to_close()
    loaded.in_flight -= 1
    claims = [loaded.claim_to_close(), loaded.claim_to_close()]

    assert not held
    assert [True, False] == claims


def test_a_bundle_that_cannot_be_closed_is_logged(caplog):
    """An error while closing ends in the log and not in the loop that closes."""

    class Stubborn(FakeBundle):
        def close(self):
            raise RuntimeError("not now")

    load(Stubborn("fraud", "v1")).close()

    assert "fraud v1: unexpected error while closing" in caplog.text
    assert logging.ERROR == caplog.records[-1].levelno


def test_memory_is_given_back_more_than_once():
    """Giving memory back asks nothing of the platform and may be done after every unload."""
    give_memory_back()
    give_memory_back()


class Knot:
    """What only a collection can free: it holds itself."""

    def __init__(self):
        self.own = self


def test_what_was_settled_is_given_back_all_the_same():
    """Garbage that was settled with everything else is free once a bundle is closed."""
    knot = Knot()
    gone = weakref.ref(knot)
    settle_memory()
    del knot
    gc.collect()
    was_there = gone() is not None
    give_memory_back()

    assert was_there
    assert gone() is None
    assert gc.get_freeze_count() > 0


def test_collections_are_rare_until_the_first_load():
    """A start looks for garbage rarely, and what serves looks as often as Python does."""
    before = gc.get_threshold()
    collect_rarely()
    starting = gc.get_threshold()
    settle_memory()

    assert starting[0] > 100 * before[0]
    assert before == gc.get_threshold()


def test_a_request_of_the_default_version_makes_three_calls():
    """Acquiring and releasing the default version costs three Python calls in two modules."""
    source = FakeSource()
    source.publish("v3")
    manager = Manager(source, open_bundle=source.open)
    manager.reconcile()
    calls = []

    def note(frame, event, _):
        if event == "call":
            calls.append(frame.f_code.co_name)

    sys.setprofile(note)
    try:
        with manager.acquire("fraud") as bundle:
            calls.append(bundle.version)
    finally:
        sys.setprofile(None)
    manager.close()

    assert ["acquire", "__enter__", "v3", "__exit__"] == calls
