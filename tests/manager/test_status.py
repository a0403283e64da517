"""What is said of a version while something goes on."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bundleserver.errors import LoadError, NotReady
from bundleserver.manager import Manager
from bundleserver.sources import Candidate
from bundleserver.versions import VersionPolicy
from bundleserver.versions.lifecycle import State
from tests.fakes import Clock, FakeBundle, FakeSource


class Loads:
    """Fails the first load, and notes what is said of the version during the later ones."""

    def __init__(self, source: FakeSource) -> None:
        self.clock = Clock()
        self.said: list[str] = []
        self._source = source
        self.manager = Manager(
            source,
            model_name="fraud",
            policy=VersionPolicy.parse("latest"),
            open_bundle=self._open,
            clock=self.clock,
            retry_pauses_seconds=(5.0, 15.0),
        )

    def _open(self, candidate: Candidate, enter: Callable[[State], None]) -> FakeBundle:
        enter(State.LOADING)
        (version,) = self.manager.status("fraud").versions
        self.said.append(version.reason)
        with pytest.raises(NotReady) as caught:
            self.manager.check_ready("fraud")
        self.said.append(str(caught.value))
        if len(self.said) == 2:
            raise LoadError("'model.pkl' ends too early")
        return self._source.open(candidate, enter)


def test_a_retry_shows_why_the_try_before_failed():
    """While a failed version is tried again, the reason of its failure stays to be read."""
    source = FakeSource()
    loads = Loads(source)
    source.publish("v1")
    loads.manager.reconcile()
    loads.clock.now += 5.0
    loads.manager.reconcile()

    failed = "LOADING again; FAILED while LOADING: 'model.pkl' ends too early"
    assert [failed, f"model 'fraud' is not ready: version v1 is {failed}"] == loads.said[2:]
    loads.manager.check_ready("fraud")


def test_other_files_are_not_blamed_for_the_failure_of_the_former():
    """Once its files have changed, a version's load says nothing of those that failed."""
    source = FakeSource()
    loads = Loads(source)
    source.publish("v1")
    loads.manager.reconcile()
    source.publish("v1")
    loads.manager.reconcile()

    assert ["", "model 'fraud' is not ready: version v1 is LOADING"] == loads.said[2:]
