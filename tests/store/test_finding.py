"""The store counts the versions that a server finds, and says which ones it finds no more."""

from __future__ import annotations

import logging

import joblib
import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

from bundleserver import BundleStore
from bundleserver.errors import StoreError
from bundleserver.sources.directory import DirectorySource
from tests.end_to_end.processes import command

X = np.random.default_rng(77).normal(size=(25, 5))


def bare(directory, width):
    """Write a notebook's file into a directory."""
    directory.mkdir(parents=True)
    joblib.dump(LinearRegression().fit(X[:, :width], X[:, 0]), directory / "model.joblib")
    return directory


def found_by_a_server(root):
    """Return the versions that may be loaded."""
    (listing,) = DirectorySource(root, "tide", settle_seconds=0.0).discover()
    return {c.version.label for c in listing.candidates if c.problem is None}


@pytest.fixture
def store(tmp_path):
    """Return a store with a model that lies in its directory itself."""
    bare(tmp_path / "store" / "tide", 5)
    return BundleStore(tmp_path / "store")


NO_VERSIONS = {
    "an empty directory": ("v9", None),
    "notes": ("20260101", "notes.csv"),
    "half an upload": ("v4", "model.joblib.part"),
    "a hidden file": ("7", ".gitkeep"),
}


@pytest.mark.parametrize("case", NO_VERSIONS)
def test_a_directory_without_a_model_is_no_version(store, tmp_path, case):
    """It is not compared with, not counted on from, and nothing rolls back to it."""
    name, file = NO_VERSIONS[case]
    (store.path("tide") / name).mkdir()
    if file is not None:
        (store.path("tide") / name / file).write_text("x")

    assert ["1"] == [*map(str, store.versions("tide"))]
    assert {"1"} == found_by_a_server(store.path("tide"))
    with pytest.raises(StoreError, match="clients of 'tide' version 1"):
        store.publish(bare(tmp_path / "narrow", 4), "tide")
    assert "v2" == str(store.publish(bare(tmp_path / "wide", 5), "tide"))
    assert "1" == store.rollback("tide").default


def test_what_servers_find_no_more_is_told_with_a_command_that_mends_it(tmp_path, caplog):
    """Versions without a manifest are not served beside one that has it."""
    store = BundleStore(tmp_path / "my models")
    for label in ("v1", "v2"):
        bare(tmp_path / "my models" / "surge" / label, 5)

    with caplog.at_level(logging.WARNING):
        assert "v3" == str(store.publish(bare(tmp_path / "new", 5), "surge"))

    assert "do not find 'v1', 'v2' any more, which have no 'manifest.json'" in caplog.text
    assert ["v3"] == [*map(str, store.versions("surge"))]
    path = store.path("surge", "v1")
    assert f"bundleserver init '{path}'" in caplog.text
    assert 0 == command("init", path).code
    assert ["v1", "v3"] == [*map(str, store.versions("surge"))]
    caplog.clear()
    store.publish(bare(tmp_path / "newer", 5), "surge")
    assert "do not find" not in caplog.text


def test_a_models_own_directory_is_not_published_to_itself(store):
    """The sentence says what its files are already, and how to make them a version too."""
    with pytest.raises(StoreError, match=r"already, version '1'; .* copy them elsewhere first"):
        store.publish(store.path("tide"), "tide")

    assert ["1"] == [*map(str, store.versions("tide"))]
