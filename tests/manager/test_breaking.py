"""A version that breaks clients of the one that serves is told, or refused, at its load."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

from bundleserver import BundleStore
from bundleserver.manager import Manager
from bundleserver.sources.directory import DirectorySource
from bundleserver.versions import VersionPolicy
from bundleserver.versions.lifecycle import State, SwapPolicy

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


def copied(store, label, width):
    """Copy a version of another width beside the others."""
    elsewhere = BundleStore(store.root.parent / f"width-{width}-{label}")
    elsewhere.save("toll", LinearRegression().fit(X[:, :width], X[:, 0]), version=label)
    shutil.copytree(elsewhere.path("toll", label), store.path("toll", label))


def started(store, **more):
    """Serve what is there."""
    manager = Manager(DirectorySource(store.path("toll"), "toll"), model_name="toll", **more)
    manager.reconcile()
    return manager


def test_what_was_unloaded_for_its_successor_is_compared_and_comes_back(store):
    """With the swap policy resource nothing serves meanwhile; a break brings the old one back."""
    how = {"breaking_signature": "refuse", "swap": SwapPolicy.RESOURCE}
    manager = started(store, **how)
    copied(store, "v2", 1)

    manager.reconcile()
    manager.reconcile()

    assert ("v1", State.READY) == (manager.status("toll").default, found(manager, "v1").state)
    assert "is [-1, 3] in version v1, and [-1, 1] in version v2" in found(manager, "v2").reason
    manager.close()


def test_what_cannot_come_back_refuses_nothing(store):
    """Files that were exchanged in place, or are gone, are only told of, so the model answers."""
    manager = started(store, breaking_signature="refuse", swap=SwapPolicy.RESOURCE)
    shutil.rmtree(store.path("toll", "v1"))
    copied(store, "v1", 2)

    manager.reconcile()
    manager.reconcile()

    said = "READY although it breaks clients of the previous version v1"
    assert said in found(manager, "v1").reason
    manager.close()


def test_a_label_that_moves_is_compared_with_what_answered_under_it(store, caplog):
    """Clients that ask for the label are told of, by the label, though the default is another."""
    copied(store, "v2", 1)
    store.promote("toll", "v1", "stable")
    store.promote("toll", "v1")
    manager = started(store, policy=VersionPolicy.parse("all"), breaking_signature="refuse")
    assert "" == found(manager, "v2").breaks

    store.promote("toll", "v2", "stable")
    manager.reconcile()

    why = (
        "it breaks clients of version v1, which was 'stable': input 'input-0' is [-1, 3] in "
        "version v1, and [-1, 1] in version v2"
    )
    assert ("v1", why) == (manager.status("toll").default, found(manager, "v2").breaks)
    assert f"toll v2: {why}" in caplog.text
    manager.close()


def test_nobody_is_told_of_breaks_while_the_server_ends(store, caplog):
    """The versions end one after another, and none takes another's place."""
    copied(store, "v2", 1)
    manager = started(store, policy=VersionPolicy.parse("all"))

    manager.close()

    assert "breaks clients" not in caplog.text
