"""Models that called each other are tried again once one of them calls the other no more."""

from __future__ import annotations

import json
import shutil
from contextlib import contextmanager

import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler

from bundleserver.manager import Manager
from bundleserver.manager.watcher import Watcher
from bundleserver.sources.directory import DirectorySource
from bundleserver.store import BundleStore
from tests.end_to_end.processes import eventually
from tests.fakes import DEADLINE_SECONDS
from tests.hostile.test_work import calling


@contextmanager
def _watched(root):
    # Without retries: nothing but a change brings back what has failed.
    manager = Manager(DirectorySource(root), load_threads=4, retry_pauses_seconds=())
    watcher = Watcher(manager, poll_interval_seconds=0.05)
    watcher.start()
    try:
        yield manager
    finally:
        watcher.stop(DEADLINE_SECONDS)
        manager.close()


def _reason(manager, model):
    found = (
        [it.reason for it in manager.status(model).versions] if model in manager.models() else []
    )
    return found[0] if found else ""


@pytest.fixture
def root(tmp_path):
    """Publish three models in a circle, and one that calls nobody."""
    rows = np.random.default_rng(0).random((20, 2))
    BundleStore(tmp_path).save("base", {"model": StandardScaler().fit(rows)}, examples=rows[:1])
    calling(tmp_path, "a", "b")
    calling(tmp_path, "b", "c")
    calling(tmp_path, "c", "a")
    return tmp_path


def _in_place(root):
    manifest = root / "a" / "1" / "manifest.json"
    document = json.loads(manifest.read_text())
    document["components"]["c0"]["model"] = "base"
    manifest.write_text(json.dumps(document))


def _as_a_new_version(root):
    shutil.copytree(root / "a" / "1", root / "new")
    shutil.move(root / "new", root / "a" / "2")
    document = json.loads((root / "a" / "1" / "manifest.json").read_text())
    document["components"]["c0"]["model"] = "base"
    (root / "a" / "2" / "manifest.json").write_text(json.dumps(document))


@pytest.mark.parametrize("mend", [_in_place, _as_a_new_version])
def test_a_circle_that_is_broken_keeps_nobody_back(root, mend):
    """All come up once one is mended, though the files of the others have not changed."""
    with _watched(root) as manager:
        for model in "abc":
            eventually(lambda m=model: "in a cycle" in _reason(manager, m), f"{model} failed")
        mend(root)
        for model in "abc":
            eventually(lambda m=model: manager.is_ready(m), f"{model} is ready")


def test_a_circle_that_lost_a_model_waits_for_it(root):
    """The reason is then that there is no such model, and no circle that was."""
    with _watched(root) as manager:
        for model in "abc":
            eventually(lambda m=model: "in a cycle" in _reason(manager, m), f"{model} failed")
        shutil.rmtree(root / "a")
        eventually(
            lambda: "waits: " in _reason(manager, "c"), "it waits for the model that is gone"
        )
        eventually(lambda: "waits: " in _reason(manager, "b"), "it waits for that one")


def test_a_circle_that_stays_is_found_again(root):
    """A change that mends nothing ends in the same reasons, and not in a wait for each other."""
    with _watched(root) as manager:
        for model in "abc":
            eventually(lambda m=model: "in a cycle" in _reason(manager, m), f"{model} failed")
        before = sum(manager.failures().values())
        manifest = root / "a" / "1" / "manifest.json"
        manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "metadata": {"n": 1}}))
        eventually(lambda: sum(manager.failures().values()) == before + 3, "all failed again")
        reasons = [_reason(manager, model) for model in "abc"]
        polled = manager.last_poll_at
        eventually(lambda: manager.last_poll_at > polled + 0.2, "some polls passed")
        after = sum(manager.failures().values())

    assert all("in a cycle" in reason for reason in reasons)
    assert before + 3 == after
