from __future__ import annotations

import gc
import logging
import weakref

from bundleserver.manager import collect_rarely
from bundleserver.manager.leases import Loaded, give_memory_back, settle_memory
from bundleserver.versions import Version
from tests.fakes import FakeBundle


def load(bundle: FakeBundle) -> Loaded:
    """Count the leases of a bundle."""
    return Loaded(bundle, Version("v1"), "fingerprint", 0.1, 0.0)


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

    assert "fraud v1: closing it failed" in caplog.text
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
