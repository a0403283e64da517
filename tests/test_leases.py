from __future__ import annotations

import logging

from bundleserver.manager.leases import Loaded, give_memory_back
from bundleserver.versions import Version
from tests.fakes import FakeBundle


def load(bundle: FakeBundle) -> Loaded:
    """Count the leases of a bundle."""
    return Loaded(bundle, Version("v1"), "fingerprint", 0.1, 0.0)


def test_only_one_may_close_a_bundle_and_nobody_while_it_is_held():
    """Closing is claimed once, and refused while a request holds the bundle."""
    loaded = load(FakeBundle("fraud", "v1"))
    loaded.lend()
    held = loaded.claim_to_close()
    loaded.take_back()
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
