"""A version that breaks clients of the one that serves is told, or refused, at its load."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

from bundleserver import BundleStore
from bundleserver.manager import Manager
from bundleserver.sources.directory import DirectorySource
from bundleserver.versions.lifecycle import State

X = np.random.default_rng(19).normal(size=(30, 3))
WHY = (
    "it breaks clients of version v1: input 'input-0' is [-1, 3] in version v1, and [-1, 2] in "
    "version v2"
)


@pytest.fixture
def store(tmp_path):
    """Save a version, and another elsewhere that takes fewer columns."""
    for place, width in (("here", 3), ("elsewhere", 2)):
        model = LinearRegression().fit(X[:, :width], X[:, 0])
        BundleStore(tmp_path / place).save("toll", model, version=f"v{4 - width}")
    return BundleStore(tmp_path / "here")


def serve(store, policy):
    """Serve the first version, then copy the other beside it."""
    source = DirectorySource(store.path("toll"), "toll")
    manager = Manager(source, model_name="toll", breaking_signature=policy)
    manager.reconcile()
    elsewhere = BundleStore(store.root.parent / "elsewhere").path("toll", "v2")
    shutil.copytree(elsewhere, store.path("toll", "v2"))
    manager.reconcile()
    return manager


def found(manager, label):
    """Return the status of a version."""
    return next(v for v in manager.status("toll").versions if v.version == label)


def test_a_version_that_breaks_clients_serves_and_says_so(store, caplog):
    """The index and the log have the sentence, and the version answers."""
    manager = serve(store, "warn")

    assert ("v2", f"READY although {WHY}") == (
        manager.status("toll").default,
        found(manager, "v2").reason,
    )
    assert f"toll v2: {WHY}" in caplog.text
    manager.close()


def test_a_version_that_breaks_clients_is_refused_and_the_way_back_is_not(store):
    """With refuse the version before goes on; an earlier version may always serve again."""
    manager = serve(store, "refuse")
    assert ("v1", State.FAILED) == (manager.status("toll").default, found(manager, "v2").state)
    assert f"FAILED while WARMING: {WHY}" in found(manager, "v2").reason
    manager.close()

    manager = Manager(
        DirectorySource(store.path("toll"), "toll"), model_name="toll", breaking_signature="refuse"
    )
    manager.reconcile()
    assert ("v2", "READY") == (manager.status("toll").default, found(manager, "v2").state.value)
    store.rollback("toll")
    manager.reconcile()

    assert "v1" == manager.status("toll").default
    manager.close()
