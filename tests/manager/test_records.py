"""VersionRecord: what it notes by itself."""

from __future__ import annotations

import time

from bundleserver.manager.records import VersionRecord
from bundleserver.versions import Version
from bundleserver.versions.lifecycle import State


def fail(record: VersionRecord, why: str) -> None:
    """Try its files once, in vain."""
    record.enter(State.LOADING)
    record.fail("files", State.LOADING, why, now=0.0, pauses_seconds=(1.0,))


def test_a_version_knows_since_when_it_is_in_its_state():
    """The time is of the last change of the state; entering it once more is none."""
    record = VersionRecord(Version.parse("v1"))
    record.entered_at = 0.0
    record.enter(State.DISCOVERED)
    assert 0.0 == record.entered_at

    before = time.time()
    record.enter(State.LOADING)

    assert before <= record.entered_at <= time.time()


def test_a_version_knows_since_when_it_fails():
    """Retries that fail for the same move it not, another failure does, and success ends it."""
    record = VersionRecord(Version.parse("v1"))
    assert record.failing_since is None
    fail(record, "no memory")
    assert record.failing_since is not None
    record.failing_since = 1.0
    fail(record, "no memory")
    assert 1.0 == record.failing_since
    assert record.entered_at > 1.0

    fail(record, "no file")
    assert record.failing_since > 1.0

    record.forget_failure()
    assert record.failing_since is None
