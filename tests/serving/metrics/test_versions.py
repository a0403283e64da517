"""The text of a model that has not changed is kept between scrapes, and never of one that has."""

from __future__ import annotations

from dataclasses import fields, replace
from types import SimpleNamespace

import pytest

from bundleserver.bundle.libraries import Mismatch
from bundleserver.bundle.trust.verification import SignatureStatus
from bundleserver.manager.status import ModelStatus, VersionStatus
from bundleserver.serving.metrics.exposition import write
from bundleserver.serving.metrics.versions import ManagerCollector
from bundleserver.versions.lifecycle import State

VERSION = VersionStatus("v1", State.READY, "", True, 0, 0.5, {"digest": "a"}, None, 1.0)
MODEL = ModelStatus("fraud", "v1", {}, (VERSION,), "", None, "latest")
(MISMATCH,) = (Mismatch(*("x" for _ in fields(Mismatch))),)


def collector_of(*statuses):
    """Collect from a manager that tells these."""
    manager = SimpleNamespace(
        known={one.name: one for one in statuses},
        failures=dict,
        last_poll_at=None,
        last_poll_error=None,
    )
    manager.models = lambda: tuple(manager.known)
    manager.status = lambda name: manager.known[name]
    return manager, ManagerCollector(manager)


@pytest.mark.parametrize(
    "changed",
    [
        replace(MODEL, default=None),
        replace(MODEL, config_problem="no"),
        replace(MODEL, versions=()),
        replace(MODEL, versions=(VERSION, replace(VERSION, version="v0"))),
        *(
            replace(MODEL, versions=(replace(VERSION, **change),))
            for change in (
                {"state": State.DRAINING},
                {"state": State.FAILED, "reason": "FAILED while LOADING: no"},
                {"load_seconds": 0.75},
                {"metadata": {"digest": "b"}},
                {"metadata": {"digest": "a", "probed": False}},
                {"probe_problem": "no"},
                {"breaks": "no"},
                {"mismatches": (MISMATCH,)},
                {"refused_signature": SignatureStatus.INVALID},
            )
        ),
    ],
)
def test_what_has_changed_is_written_anew(changed):
    """A scrape after others is that of a server which was never scraped, in either format."""
    other = replace(MODEL, name="other")
    manager, collector = collector_of(MODEL, other)
    before = write(collector, open_metrics=True)
    manager.known["fraud"] = changed
    _, fresh = collector_of(changed, other)

    for open_metrics in (True, False):
        expected = write(fresh, open_metrics=open_metrics)
        assert expected == write(collector, open_metrics=open_metrics)
        assert expected != before


def test_a_model_that_is_gone_is_forgotten():
    """Nothing of it is in the next page."""
    manager, collector = collector_of(MODEL, replace(MODEL, name="other"))
    write(collector, open_metrics=True)
    del manager.known["fraud"]

    assert "fraud" not in write(collector, open_metrics=True)
