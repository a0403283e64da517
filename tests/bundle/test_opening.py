from __future__ import annotations

import hashlib
import json
import logging
import pickle
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

from bundleserver.bundle.opening import open_bundle
from bundleserver.bundle.trust import Trust
from bundleserver.errors import BundleError, NotReady
from bundleserver.manager import Manager
from bundleserver.manager.watcher import Watcher
from bundleserver.sources.directory import DirectorySource
from bundleserver.tensors import NamedTensor
from tests.fakes import DEADLINE_SECONDS, Clock

INPUT = [[1.0, 2.0]]


@pytest.fixture
def clock():
    """Lend a clock that stands still."""
    return Clock()


@pytest.fixture
def root(tmp_path):
    """Lend an empty directory for models."""
    path = tmp_path / "models"
    path.mkdir()
    return path


@pytest.fixture
def make(root, clock):
    """Lend a maker of managers of that directory, for the one model 'fraud'."""

    def make_manager(**settings: object) -> Manager:
        source = DirectorySource(root, "fraud", clock=clock)
        return Manager(source, model_name="fraud", clock=clock, **settings)

    return make_manager


def fitted(answer: float) -> LinearRegression:
    """Fit a model that answers the same for every row."""
    return LinearRegression().fit(np.eye(2), np.full(2, answer))


def write_model(directory: Path, answer: float) -> bytes:
    """Write a fitted model, and return its bytes."""
    directory.mkdir(parents=True, exist_ok=True)
    data = pickle.dumps(fitted(answer))
    (directory / "model.pkl").write_bytes(data)
    return data


def write_bundle(directory: Path, answer: float, **facts: object) -> None:
    """Write a bundle of one model, its manifest last."""
    data = write_model(directory, answer)
    component = {
        "framework": "sklearn",
        "path": "model.pkl",
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    manifest = {"format": "bundle/v1", "components": {"model": component}, **facts}
    staged = directory / ".staging-manifest"
    staged.write_text(json.dumps(manifest))
    staged.rename(directory / "manifest.json")


def ask(manager: Manager, version: str | None = None) -> float:
    """Ask for one prediction."""
    with manager.acquire("fraud", version) as bundle:
        tensor = NamedTensor("input-0", np.array(INPUT))
        bound = bundle.signature.validate_tensors([tensor], bundle.identity)
        (values,) = bundle.predict(bound, {}).values()
        return round(float(values.ravel()[0]), 6)


def reason(manager: Manager, version: str) -> str:
    """Return why a version stands where it stands."""
    (found,) = [it for it in manager.status("fraud").versions if it.version == version]
    return found.reason


def test_a_bundle_is_opened_and_answers(root, make):
    """A written bundle goes all the way up, and its metadata is in the status."""
    write_bundle(root / "v1", 3.0, metadata={"trained_at": "2025-12-09T10:00:00Z"})
    manager = make()
    manager.reconcile()

    assert 3.0 == ask(manager)
    assert "2025-12-09T10:00:00Z" == manager.status("fraud").versions[0].metadata["trained_at"]


def test_a_file_that_differs_from_its_manifest_is_never_opened(root, make):
    """A digest that differs fails the version while it is verified, and the one before answers."""
    write_bundle(root / "v1", 1.0)
    write_bundle(root / "v2", 2.0)
    (root / "v2" / "model.pkl").write_bytes(b"c__builtin__\nexit\n(I7\ntR.")
    manager = make()
    manager.reconcile()

    assert 1.0 == ask(manager)
    assert reason(manager, "v2").startswith("FAILED while VERIFYING: ")
    assert "model.pkl" in reason(manager, "v2")


def test_an_example_that_differs_fails_while_warming(root, make):
    """A recorded answer that does not come again keeps a version from being served."""
    example = {"inputs": {"input": INPUT}, "outputs": {"answer": [7.0]}}
    write_bundle(
        root / "v1",
        1.0,
        inputs=[{"name": "input", "datatype": "FP64", "shape": [-1, 2]}],
        steps=[
            {"component": "model", "method": "predict", "inputs": ["input"], "outputs": ["answer"]}
        ],
        outputs=[{"name": "answer", "datatype": "FP64", "shape": [-1]}],
        examples=[example],
    )
    manager = make()
    manager.reconcile()

    with pytest.raises(NotReady, match=r"FAILED while WARMING: examples\[0\]"):
        ask(manager)


@pytest.mark.parametrize("mismatch", ["warn", "refuse"])
def test_other_libraries_than_the_bundles(root, make, caplog, mismatch):
    """Libraries that differ are logged and served, or refused, as it was asked for."""
    write_bundle(root / "v1", 1.0, requirements={"packages": {"scikit-learn": "0.1"}})
    manager = make(version_mismatch=mismatch)
    manager.reconcile()

    if mismatch == "warn":
        assert 1.0 == ask(manager)
        assert "saved with other libraries" in caplog.text
    else:
        assert "FAILED while VERIFYING" in reason(manager, "v1")
        assert "0.1" in reason(manager, "v1")


def test_files_without_a_manifest_are_served_when_they_rest(root, make, clock, caplog):
    """An inferred bundle is loaded at the second look, and its manifest is in the log."""
    caplog.set_level(logging.INFO)
    write_model(root / "v1", 4.0)
    manager = make()
    manager.reconcile()
    before = manager.is_ready("fraud")
    clock.now += 1.0
    manager.reconcile()

    assert not before
    assert 4.0 == ask(manager)
    assert any(
        message.startswith("fraud v1: inferred manifest {") and "\n" not in message
        for message in caplog.messages
    )


def test_a_slow_copy_is_never_served_half(root, make, clock):
    """Through a copy byte by byte the former version answers, and at its end the new one does."""
    write_bundle(root / "v1", 1.0)
    source = root.parent / "source"
    write_bundle(source, 2.0)
    manager = make()
    manager.reconcile()
    answers = []
    (root / "v2").mkdir()
    # The manifest first, which is the worst order, as 'cp -r' has it.
    for name in ("manifest.json", "model.pkl"):
        data = (source / name).read_bytes()
        for size in range(0, len(data), max(1, len(data) // 20)):
            (root / "v2" / name).write_bytes(data[:size])
            clock.now += 0.3
            manager.reconcile()
            answers.append(ask(manager))
        (root / "v2" / name).write_bytes(data)
    for _ in range(2):
        clock.now += 1.0
        manager.reconcile()

    assert {1.0} == set(answers)
    assert 2.0 == ask(manager)


def test_links_at_the_top_are_opened(root, make, tmp_path):
    """A single bundle whose files are links to elsewhere is served, as KServe links them."""
    write_bundle(tmp_path / "pvc", 5.0)
    for file in (tmp_path / "pvc").iterdir():
        (root / file.name).symlink_to(file)
    manager = make()
    manager.reconcile()

    assert 5.0 == ask(manager)


def test_a_directory_that_vanishes_and_comes_back(root, make, clock):
    """The version that is open answers through an outage, and is not loaded anew after it."""
    write_bundle(root / "v1", 1.0)
    manager = make()
    manager.reconcile()
    loaded_at = manager.status("fraud").versions[0].loaded_at
    root.rename(root.parent / "away")
    manager.reconcile()
    during = (ask(manager), manager.last_poll_error)
    (root.parent / "away").rename(root)
    clock.now += 5.0
    manager.reconcile()

    assert (1.0, f"'{root}' no longer exists") == during
    assert 1.0 == ask(manager)
    assert loaded_at == manager.status("fraud").versions[0].loaded_at


def test_a_bundle_replaced_in_place_answers_anew(root, make):
    """Other files and another manifest under the same name are a new load of that version."""
    write_bundle(root / "v1", 1.0)
    manager = make()
    manager.reconcile()
    write_bundle(root / "v1", 2.0)
    manager.reconcile()

    assert 2.0 == ask(manager)


def test_by_hand_among_many_versions(root, make, clock):
    """Versions that only their names are known of are loaded by hand, and what is new is found."""
    for number in range(1, 12):
        write_bundle(root / f"v{number}", float(number))
    manager = make()
    watcher = Watcher(manager, poll_interval_seconds=0.01)
    watcher.start()
    try:
        manager.load("fraud", "v3", DEADLINE_SECONDS)
        by_hand = (ask(manager, "v3"), ask(manager))
        manager.unload("fraud", None, DEADLINE_SECONDS)
        silent = manager.is_ready("fraud")
        write_bundle(root / ".staging-v12", 12.0)
        (root / ".staging-v12").rename(root / "v12")
        manager.load("fraud", "v12", DEADLINE_SECONDS)
        anew = ask(manager)
    finally:
        watcher.stop(DEADLINE_SECONDS)

    assert (3.0, 11.0) == by_hand
    assert not silent
    assert 12.0 == anew


def test_a_stopped_model_comes_back_with_a_new_version(root, make):
    """A model unloaded by hand among many versions serves the next one that is published."""
    for number in range(1, 6):
        write_bundle(root / f"v{number}", float(number))
    manager = make()
    watcher = Watcher(manager, poll_interval_seconds=1000.0)
    watcher.start()
    manager.unload("fraud", None, DEADLINE_SECONDS)
    watcher.stop(DEADLINE_SECONDS)
    manager.reconcile()
    silent = manager.is_ready("fraud")
    write_bundle(root / "v6", 6.0)
    manager.reconcile()

    assert not silent
    assert 6.0 == ask(manager)


def test_many_broken_versions_are_passed_over(root, make):
    """Under 'latest' the first of many versions that loads serves, however deep it lies."""
    for number in range(1, 30):
        write_bundle(root / f"v{number}", float(number))
        if number > 5:
            (root / f"v{number}" / "model.pkl").write_bytes(b"")
    manager = make()
    manager.reconcile()

    assert 5.0 == ask(manager)


def test_an_inferred_directory_is_refused_where_manifests_are_required(tmp_path):
    """A directory without a manifest does not open, and the message says how to write one."""
    write_model(tmp_path / "m", 1.0)

    with pytest.raises(BundleError, match=r"--require_manifest .* bundleserver init"):
        open_bundle(tmp_path / "m", trust=Trust(require_manifest=True))
    open_bundle(tmp_path / "m").close()
