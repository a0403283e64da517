"""VersionRecord: what it notes by itself."""

from __future__ import annotations

import time

from bundleserver.manager.records import VersionRecord
from bundleserver.versions import Version
from bundleserver.versions.lifecycle import State


def test_a_version_knows_since_when_it_is_in_its_state():
    """The time is of the last change of the state; entering it once more is none."""
    record = VersionRecord(Version.parse("v1"))
    record.entered_at = 0.0
    record.enter(State.DISCOVERED)
    assert 0.0 == record.entered_at

    before = time.time()
    record.enter(State.LOADING)

    assert before <= record.entered_at <= time.time()
