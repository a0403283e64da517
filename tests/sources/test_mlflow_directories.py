"""Directories with an ``MLmodel`` as a source finds them: complete, half there, side by side."""

from __future__ import annotations

import joblib
import pytest
from sklearn.linear_model import LinearRegression

from bundleserver import BundleStore
from bundleserver.errors import BundleError
from bundleserver.sources.directory import DirectorySource
from bundleserver.sources.one_version import find_version
from bundleserver.store.finding import complete_versions
from tests.fakes import Clock
from tests.sources.test_own_files import write_bundle

NATIVE = "flavors:\n  sklearn:\n    pickled_model: {0}\n  python_function:\n    model_path: {0}\n"
MODEL = LinearRegression().fit([[0.0], [1.0]], [0.0, 2.0])


def write(directory, file="model.pkl", held=MODEL):
    """Write an MLflow model by hand; without what it holds only its MLmodel."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "MLmodel").write_text(NATIVE.format(file))
    if held is not None:
        (directory / file).parent.mkdir(exist_ok=True)
        joblib.dump(held, directory / file)
    return directory


@pytest.fixture
def clock():
    """Return a clock that stands."""
    return Clock()


def settled(source, clock):
    """Poll twice, with time enough between for files to have settled; return by model."""
    source.discover()
    clock.now += 2.0
    return {listing.model: listing for listing in source.discover()}


def only(source, clock):
    """Return the one version of the one model."""
    (listing,) = settled(source, clock).values()
    (candidate,) = listing.candidates
    return candidate


LAYOUTS = {
    "the volume itself": ("", "fraud", "1"),
    "a directory": ("fraud", None, "1"),
    "a directory with a name": ("fraud", "fraud", "1"),
    "a version": ("fraud/7", None, "7"),
    "a version of the volume": ("v3", "fraud", "v3"),
    "artifacts of a run": ("model", "fraud", "1"),
    "artifacts of a run in a directory": ("fraud/model", None, "1"),
    "artifacts in a directory with a name": ("fraud/model", "fraud", "1"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_directory_is_found_in_every_layout(tmp_path, clock, layout):
    """Under the name that was asked for, with its version's label."""
    below, name, label = LAYOUTS[layout]
    path = write(tmp_path / below)
    source = DirectorySource(tmp_path, name, clock=clock)

    (listing,) = settled(source, clock).values()
    (candidate,) = listing.candidates

    assert ("fraud", label) == (listing.model, candidate.version.label)
    assert candidate.is_usable
    assert path == candidate.location
    directory, manifest = source.fetch(candidate)
    assert (path, "model.pkl") == (directory, manifest.components["model"].path)


def test_it_is_complete_once_nothing_changes_in_it(tmp_path, clock):
    """Files in its directories count, too."""
    write(tmp_path, "data/model.pkl")
    source = DirectorySource(tmp_path, "m", clock=clock)

    first = source.discover()[0].candidates[0]
    before = only(source, clock)
    (tmp_path / "data" / "model.pkl").write_bytes(b"another")
    changing = source.discover()[0].candidates[0]
    after = only(source, clock)

    assert [False, True, False, True] == [c.settled for c in (first, before, changing, after)]
    assert before.fingerprint != changing.fingerprint == after.fingerprint


@pytest.mark.parametrize("file", ["model.pkl", "data/model.pkl"])
def test_a_missing_file_is_named_until_it_is_there(tmp_path, clock, file):
    """It is never a directory that waits for model files in silence."""
    write(tmp_path, file, None)
    source = DirectorySource(tmp_path, "m", clock=clock)
    missing = only(source, clock)
    write(tmp_path, file)
    found = only(source, clock)

    assert f"'{tmp_path}/MLmodel' refers to '{file}', which is missing" in missing.problem
    assert missing.settled
    assert found.is_usable


def test_part_of_an_upload_is_waited_for(tmp_path, clock):
    """Also in its directories."""
    write(tmp_path, "data/model.pkl")
    (tmp_path / "data" / "weights.bin.part").write_bytes(b"half")

    assert not only(DirectorySource(tmp_path, "m", clock=clock), clock).settled


def test_an_mlmodel_is_as_good_as_a_manifest_beside_versions_with_one(tmp_path, clock):
    """A plain directory is ignored there, and not an MLflow model."""
    root = tmp_path / "fraud"
    write_bundle(root / "v1")
    write(root / "v2")
    (root / "v3").mkdir()
    joblib.dump(MODEL, root / "v3" / "model.pkl")

    listing = settled(DirectorySource(tmp_path, clock=clock), clock)["fraud"]

    assert ["v2", "v1"] == [c.version.label for c in listing.candidates]
    assert ["v1", "v2"] == [*map(str, complete_versions(root))]


def test_own_files_are_the_version_before_the_first(tmp_path, clock):
    """Published versions come after; a stray MLmodel is none, and a manifest is never ignored."""
    root = write(tmp_path / "fraud")
    version = BundleStore(tmp_path).save("fraud", MODEL)
    stray = tmp_path / "stray"
    write_bundle(stray / "v1")
    (stray / "MLmodel").write_text("flavors: {}")

    found = settled(DirectorySource(tmp_path, clock=clock), clock)

    assert "v2" == version.label
    assert ["v2", "1"] == [c.version.label for c in found["fraud"].candidates]
    assert root == found["fraud"].candidates[1].location
    assert ["v1"] == [c.version.label for c in found["stray"].candidates]


def test_artifacts_with_several_models_are_a_volume_of_models(tmp_path, clock):
    """Which one is meant is not guessed; the sentence names them."""
    write(tmp_path / "model")
    write(tmp_path / "other")

    named = settled(DirectorySource(tmp_path, "fraud", clock=clock), clock)["fraud"]

    assert () == named.candidates
    assert "it holds directories of models: 'model', 'other'" in named.reason
    assert ["model", "other"] == sorted(settled(DirectorySource(tmp_path, clock=clock), clock))


def test_a_version_with_a_model_one_level_below_is_failed_with_what_to_do(tmp_path, clock):
    """It is not waited for."""
    write(tmp_path / "fraud" / "1" / "model")

    candidate = only(DirectorySource(tmp_path, clock=clock), clock)

    assert candidate.settled
    assert f"'{tmp_path}/fraud/1/model' is an MLflow model" in candidate.problem
    with pytest.raises(BundleError, match="is an MLflow model: name that directory"):
        find_version(tmp_path / "fraud" / "1", None)
