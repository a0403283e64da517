from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from bundleserver.errors import BundleServerError, ManifestError, SourceError
from bundleserver.sources import Demand
from bundleserver.sources.directory import DirectorySource
from bundleserver.versions import Version, VersionPolicy

MANIFEST = {
    "format": "bundle/v1",
    "components": {"model": {"framework": "sklearn", "path": "model.pkl"}},
}


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def write_bundle(directory: Path, **facts: object) -> Path:
    """Write a directory with a manifest, last."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "model.pkl").write_bytes(b"weights of " + directory.name.encode())
    (directory / "manifest.json").write_text(json.dumps({**MANIFEST, **facts}))
    return directory


def write_plain(directory: Path, content: bytes = b"weights") -> Path:
    """Write a directory that has only a model file."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "model.pkl").write_bytes(content)
    return directory


def listed(source: DirectorySource, **demand: object) -> dict[str, list[str]]:
    """Return the versions that each model has."""
    return {
        listing.model: [candidate.version.label for candidate in listing.candidates]
        for listing in source.discover(**demand)
        if listing.is_model
    }


def only(source: DirectorySource, **demand: object):
    """Return the one listing that there is."""
    (listing,) = source.discover(**demand)
    return listing


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
def source(root, clock):
    """Lend a source of the one model 'fraud'."""
    return DirectorySource(root, "fraud", settle_seconds=1.0, clock=clock)


@pytest.mark.parametrize("name", ["fraud", None])
@pytest.mark.parametrize(
    ("made", "versions"),
    [
        (lambda root: write_bundle(root, version="v3", name="fraud"), ["v3"]),
        (lambda root: write_bundle(root, name="fraud"), ["1"]),
        (
            lambda root: [write_bundle(root / label) for label in ("v1", "v2", "10")],
            ["10", "v2", "v1"],
        ),
        (lambda root: [write_plain(root / label) for label in ("v9", "v10")], ["v10", "v9"]),
        (write_plain, ["1"]),
        (lambda root: [write_bundle(root / "v1"), write_plain(root)], ["v1", "1"]),
        (lambda root: [write_bundle(root, name="fraud"), write_bundle(root / "v2")], ["v2", "1"]),
    ],
    ids=[
        "manifest",
        "no version",
        "versions",
        "plain versions",
        "plain",
        "plain before versions",
        "manifest before versions",
    ],
)
def test_model_dir_is_one_model(tmp_path, made, versions, name):
    """A manifest, model files or versions make one model; what is at the top comes first."""
    root = tmp_path / "fraud"
    root.mkdir()
    made(root)

    found = listed(DirectorySource(root, name))

    assert {"fraud": versions} == found


@pytest.mark.parametrize(
    ("name", "models"),
    [
        (None, {"3d-detector": ["v1"], "churn": ["1"], "fraud": ["v2", "v1"], "plain": ["1"]}),
        ("fraud", {"fraud": ["v2", "v1"]}),
        ("churn", {"churn": ["1"]}),
        ("3d-detector", {"3d-detector": ["v1"]}),
        ("absent", {"absent": []}),
    ],
)
def test_model_dir_is_a_volume_of_models(root, name, models):
    """Each sub-directory that is a model is served, or only the one that is named."""
    write_bundle(root / "fraud" / "v1")
    write_bundle(root / "fraud" / "v2")
    write_bundle(root / "churn")
    write_plain(root / "plain")
    write_bundle(root / "3d-detector" / "v1")
    (root / "empty").mkdir()
    (root / "notes").mkdir()
    (root / "notes" / "README.md").write_text("not a model")
    (root / "lost+found").mkdir()

    assert models == listed(DirectorySource(root, name))


def test_top_level_model_wins_over_a_child_of_its_name(root):
    """A volume's child is looked for only when the top itself is no model."""
    write_bundle(root / "v1")
    write_bundle(root / "fraud" / "v7")

    assert {"fraud": ["v1"]} == listed(DirectorySource(root, "fraud"))


@pytest.mark.parametrize("name", [".v1", "_v1", "lost+found", "latest", "v", "archive"])
def test_other_directories_are_no_versions(root, source, name):
    """Hidden names, 'lost+found' and names that are no label are never versions."""
    write_bundle(root / "v1")
    write_bundle(root / name)

    assert {"fraud": ["v1"]} == listed(source)


def test_a_file_named_like_a_version_is_none(root, source):
    """A file called 'v2' is no version, and the listing says so."""
    write_bundle(root / "v1")
    (root / "v2").write_text("oops")

    listing = only(source)

    assert ["v1"] == [candidate.version.label for candidate in listing.candidates]
    assert (
        f"'{root / 'v2'}' is named like a version but is a file; a version must be a directory",
    ) == listing.warnings


def test_labels_that_differ_by_v_are_both_listed(root, source):
    """'v2' and '2' are two versions, 'v2' the newer one, and the listing warns."""
    write_bundle(root / "2")
    write_bundle(root / "v2")

    listing = only(source)

    assert ["v2", "2"] == [candidate.version.label for candidate in listing.candidates]
    assert "have the same order; 'v2' counts as the newest" in listing.warnings[0]


def test_nothing_there_yet_is_no_error(tmp_path):
    """A directory that has never been there is waited for, and the listing says where."""
    missing = tmp_path / "models"

    listing = only(DirectorySource(missing, "fraud"))

    assert () == listing.candidates
    assert f"waiting for '{missing}', which does not exist yet" == listing.reason
    assert () == DirectorySource(missing).discover()


def test_an_empty_directory_is_waited_for(root, source):
    """An empty directory holds no model, and the reason names what is expected in it."""
    listing = only(source)

    assert () == listing.candidates
    assert f"model files in '{root}'" in listing.reason
    assert () == DirectorySource(root).discover()


def test_a_root_that_vanishes_is_an_error_until_it_comes_back(root, source, tmp_path):
    """What was there and is not any more is an outage, not an empty set."""
    write_bundle(root / "v1")
    source.discover()
    root.rename(tmp_path / "away")
    with pytest.raises(SourceError, match="no longer exists"):
        source.discover()
    (tmp_path / "away").rename(root)

    assert {"fraud": ["v1"]} == listed(source)


def test_a_root_that_is_a_file_is_an_error(tmp_path):
    """A file in the place of the directory is named."""
    path = tmp_path / "models"
    path.write_text("no directory")

    with pytest.raises(SourceError, match="models' cannot be read: Not a directory"):
        DirectorySource(path, "fraud").discover()


def test_a_manifest_settles_at_once(root, source):
    """A manifest is written last, so its version is complete as soon as it is seen."""
    write_bundle(root / "v1")

    assert only(source).candidates[0].settled


def test_files_without_a_manifest_settle_when_they_rest(root, source, clock):
    """Without a manifest two equal looks, a second apart, say that a copy is over."""
    write_plain(root / "v1", b"half")
    looks = [only(source).candidates[0].settled]
    clock.now += 0.4
    looks.append(only(source).candidates[0].settled)
    clock.now += 5.0
    write_plain(root / "v1", b"half and half")
    looks.append(only(source).candidates[0].settled)
    clock.now += 1.0
    looks.append(only(source).candidates[0].settled)

    assert [False, False, False, True] == looks


def test_a_slow_copy_never_settles(root, source, clock):
    """While a file grows byte by byte no look takes it to be complete."""
    target = root / "v1" / "model.pkl"
    target.parent.mkdir()
    settled = []
    for size in range(1, 30):
        target.write_bytes(b"x" * size)
        clock.now += 5.0
        settled.append(only(source).candidates[0].settled)

    assert [False] * 29 == settled


def test_a_half_written_manifest_does_not_settle(root, source, clock):
    """A manifest that is no JSON yet counts as a file that is being written."""
    write_bundle(root / "v1")
    whole = (root / "v1" / "manifest.json").read_bytes()
    (root / "v1" / "manifest.json").write_bytes(whole[:40])
    looks = [only(source).candidates[0].settled]
    clock.now += 0.1
    (root / "v1" / "manifest.json").write_bytes(whole)
    looks.append(only(source).candidates[0].settled)

    assert [False, True] == looks


def test_a_broken_manifest_settles_and_says_what_is_wrong(root, source, clock):
    """A manifest that stays broken is offered, so that its error is shown."""
    write_bundle(root / "v1")
    (root / "v1" / "manifest.json").write_text("{")
    source.discover()
    clock.now += 1.0
    (candidate,) = only(source).candidates
    with pytest.raises(ManifestError, match=r"manifest\.json"):
        source.fetch(candidate)

    assert candidate.settled


def test_without_a_manifest_only_while_no_sibling_has_one(root, source, clock):
    """Once a sibling has a manifest, a version without one does not exist yet."""
    write_plain(root / "v1")
    write_plain(root / "v3")
    before = listed(source)
    write_bundle(root / "v2")
    after = listed(source)
    clock.now += 1.0

    assert {"fraud": ["v3", "v1"]} == before
    assert {"fraud": ["v2"]} == after
    assert any("v3' is ignored" in warning for warning in only(source).warnings)


def test_an_empty_version_does_not_exist_yet(root, source):
    """A version's directory without any file is not there yet."""
    (root / "v1").mkdir()
    (root / "v2").mkdir()
    (root / "v2" / ".model.pkl.part").write_bytes(b"rsync")

    assert {"fraud": []} == listed(source)


def test_a_version_without_a_model_file_says_so(root, source):
    """Files that cannot be a model are reported instead of silently skipped."""
    (root / "v1").mkdir()
    (root / "v1" / "model.xgb").write_bytes(b"?")

    assert "found 'model.xgb'" in only(source).candidates[0].problem


@pytest.mark.parametrize("write", [write_bundle, write_plain])
def test_fingerprint_changes_with_the_files_only(root, source, clock, write):
    """It is equal while nothing changes, whatever the clock says, and differs once a file does."""
    version = write(root / "v1")
    first = only(source).candidates[0].fingerprint
    clock.now += 60
    second = only(source).candidates[0].fingerprint
    os.utime(version / "model.pkl", (1, 1))
    third = only(source).candidates[0].fingerprint
    (version / "model.pkl").write_bytes(b"retrained")
    fourth = only(source).candidates[0].fingerprint

    assert first == second
    assert 3 == len({first, third, fourth})


def test_fingerprint_sees_a_replacement_of_equal_size_and_time(root, source):
    """A file put in place of another, with its size and time, is another file."""
    version = write_plain(root / "v1", b"old!")
    os.utime(version / "model.pkl", (1, 1))
    before = only(source).candidates[0].fingerprint
    (root / ".new").write_bytes(b"new!")
    os.utime(root / ".new", (1, 1))
    (root / ".new").replace(version / "model.pkl")

    assert before != only(source).candidates[0].fingerprint


def test_a_bundle_replaced_in_place_settles_with_its_manifest(root, source):
    """A new manifest under the same name is a new version of that name, at once."""
    write_bundle(root / "v1")
    before = only(source).candidates[0]
    write_bundle(root / "v1", metadata={"run": 2})
    after = only(source).candidates[0]

    assert before.fingerprint != after.fingerprint
    assert after.settled


def test_files_replaced_under_an_old_manifest_do_not_settle_at_once(root, source, clock):
    """While the manifest is the old one, changed files have to come to rest."""
    write_bundle(root / "v1")
    source.discover()
    (root / "v1" / "model.pkl").write_bytes(b"half of the new")
    looks = [only(source).candidates[0].settled]
    clock.now += 1.0
    looks.append(only(source).candidates[0].settled)

    assert [False, True] == looks


def test_serving_json_does_not_change_a_fingerprint(root, source):
    """Promoting a model whose files lie at the root reloads nothing."""
    write_bundle(root)
    before = only(source).candidates[0].fingerprint
    (root / "serving.json").write_text('{"labels": {"stable": "1"}}')
    (root / ".serving.lock").touch()

    assert before == only(source).candidates[0].fingerprint


@pytest.mark.parametrize("model", [".", "fraud"])
def test_serving_json_is_read_on_every_look(root, source, model):
    """The configuration stands at the model's root, and a broken one is a problem, not an error."""
    home = root / model
    write_bundle(home / "v1")
    seen = [only(source).config]
    (home / "serving.json").write_text('{"default": "v1"}')
    seen.append(only(source).config.default)
    (home / "serving.json").write_text('{"default": ')
    broken = only(source)
    (home / "serving.json").unlink()
    seen.append(only(source).config)

    assert [None, "v1", None] == seen
    assert broken.config is None
    assert "serving.json" in broken.config_problem
    assert ["v1"] == [candidate.version.label for candidate in broken.candidates]


def test_links_of_model_dir_and_its_children_lead_anywhere(tmp_path, clock):
    """KServe links '/mnt/models' and what is in it to where the files are."""
    write_bundle(tmp_path / "pvc" / "v1")
    (tmp_path / "models").symlink_to(tmp_path / "real")
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "v1").symlink_to(tmp_path / "pvc" / "v1")
    source = DirectorySource(tmp_path / "models", "fraud", clock=clock)

    (candidate,) = only(source).candidates
    directory, manifest = source.fetch(candidate)

    assert candidate.problem is None
    assert tmp_path / "pvc" / "v1" == directory
    assert ["model"] == list(manifest.components)


def test_files_of_model_dir_itself_may_be_links(root, source, tmp_path):
    """The storage initializer links each file of a single model."""
    outside = write_bundle(tmp_path / "outside")
    for file in outside.iterdir():
        (root / file.name).symlink_to(file)

    assert only(source).candidates[0].problem is None


@pytest.mark.parametrize("target", ["../../secret", "../v2/model.pkl", "/etc/hostname"])
def test_links_inside_a_version_must_stay_there(root, source, target):
    """A link that leads out of its version is that version's problem, and nobody else's."""
    (root.parent / "secret").write_text("s")
    write_bundle(root / "v1")
    write_bundle(root / "v2")
    (root / "v1" / "scaler.pkl").symlink_to(target)

    new, old = only(source).candidates

    assert new.problem is None
    assert "'scaler.pkl' is a link to" in old.problem
    assert "outside of the version's directory" in old.problem


def test_links_between_versions_of_a_volume_must_stay_in_the_model(root):
    """Below a volume, a version may be a link to elsewhere in its model and not further."""
    write_bundle(root / "churn" / "v1")
    write_bundle(root / "fraud" / "..data" / "v1")
    (root / "fraud" / "v1").symlink_to("..data/v1")
    (root / "fraud" / "v2").symlink_to("../churn/v1")

    new, old = only(DirectorySource(root, "fraud")).candidates

    assert old.problem is None
    assert f"outside of '{root / 'fraud'}'" in new.problem


def test_an_atomic_change_of_a_data_link_is_a_change_of_files(root, source):
    """'..data' is renamed from one directory to the next, and every version behind it is new."""
    for stamp, run in (("..2025_1", 1), ("..2025_2", 2)):
        write_bundle(root / stamp / "v1", metadata={"run": run})
    (root / "..data").symlink_to("..2025_1")
    (root / "v1").symlink_to("..data/v1")
    before = only(source).candidates[0]
    (root / "..tmp").symlink_to("..2025_2")
    (root / "..tmp").replace(root / "..data")
    after = only(source).candidates[0]
    directory, manifest = source.fetch(after)

    assert before.fingerprint != after.fingerprint
    assert after.settled
    assert root / "..2025_2" / "v1" == directory
    assert {"run": 2} == manifest.metadata


@pytest.mark.parametrize("place", ["v2", "v2/deep"])
def test_link_loops_are_the_problem_of_their_version(root, source, place):
    """A link to itself is named, and the other version is served."""
    write_bundle(root / "v1")
    loop = root / place
    if place != "v2":
        write_bundle(root / "v2")
    loop.symlink_to(loop)

    new, old = only(source).candidates

    assert old.problem is None
    assert "cannot be read" in new.problem


def test_a_link_to_its_own_directory_ends(root, source):
    """A link back up inside a version is not followed for ever."""
    write_bundle(root / "v1")
    (root / "v1" / "again").symlink_to(".")

    assert only(source).candidates[0].problem is None


def test_unreadable_directories_are_the_problem_of_their_version(root, source):
    """A version that cannot be listed says so; the others are served."""
    write_bundle(root / "v1")
    (root / "v2").mkdir()
    # Stands for 'permission denied', which tests that run as root never get.
    (root / "v2" / "manifest.json").mkdir()

    new, old = only(source).candidates

    assert old.problem is None
    reason = "cannot be read: Is a directory"
    assert f"'{root / 'v2' / 'manifest.json'}' {reason}" == new.problem


def test_demand_limits_what_is_looked_at(root, source):
    """Only as many versions as are wanted get a look; the others are known by name."""
    for number in range(1, 8):
        write_bundle(root / f"v{number}")
    demand = Demand(
        VersionPolicy.parse("latest:2"), frozenset({Version("v1")}), frozenset({Version("v9")})
    )

    listing = only(source, demand_of=lambda _: demand)

    assert ["v7", "v6", "v5", "v1"] == [c.version.label for c in listing.candidates]
    assert ["v4", "v3", "v2"] == [version.label for version in listing.unseen]


def test_demand_goes_beyond_what_cannot_be_loaded(root, source):
    """A version that is empty or has a problem does not use up the demand."""
    write_bundle(root / "v1")
    write_bundle(root / "v2")
    (root / "v2" / "x.pkl").symlink_to("/etc/hostname")
    (root / "v3").mkdir()
    demand = Demand(VersionPolicy.parse("latest"))

    assert {"fraud": ["v2", "v1"]} == listed(source, demand_of=lambda _: demand)


def test_serving_json_extends_the_demand(root, source):
    """The policy and the versions of 'serving.json' are looked at beside those in effect."""
    for number in range(1, 6):
        write_bundle(root / f"v{number}")
    (root / "serving.json").write_text('{"policy": "latest:2", "labels": {"stable": "v1"}}')
    demand = Demand(VersionPolicy.parse("specific:v3"))

    assert {"fraud": ["v5", "v4", "v3", "v1"]} == listed(source, demand_of=lambda _: demand)


def test_specific_versions_are_looked_at_alone(root, source):
    """Under 'specific' no other version gets a look."""
    for number in range(1, 6):
        write_bundle(root / f"v{number}")
    demand = Demand(VersionPolicy.parse("specific:v2,v9"))

    assert {"fraud": ["v2"]} == listed(source, demand_of=lambda _: demand)


def test_fetch_infers_a_manifest_where_there_is_none(root, source):
    """Files without a manifest are fetched with one that is inferred from them."""
    write_plain(root / "v1")
    (candidate,) = only(source).candidates

    directory, manifest = source.fetch(candidate)

    assert root / "v1" == directory
    assert manifest.inferred


def test_fetch_of_what_is_gone_is_an_error(root, source):
    """A version deleted after it was listed cannot be fetched, and the error says which."""
    write_bundle(root / "v1")
    (candidate,) = only(source).candidates
    shutil.rmtree(root / "v1")

    with pytest.raises(BundleServerError, match="v1' cannot be read"):
        source.fetch(candidate)


def test_a_top_level_version_that_is_no_label_is_a_problem(root, source):
    """A manifest at the top whose version is no label is refused, and the error quotes it."""
    write_bundle(root)
    document = {**MANIFEST, "version": "stable"}
    (root / "manifest.json").write_text(json.dumps(document))
    (candidate,) = only(source).candidates

    with pytest.raises(ManifestError, match="'stable'"):
        source.fetch(candidate)


def test_thousands_of_versions_are_cheap(root, source, monkeypatch):
    """With 'latest:2' a poll of many versions opens the root and two versions, not more."""
    for number in range(1, 301):
        write_bundle(root / f"v{number}")
    demand = Demand(VersionPolicy.parse("latest:2"))
    source.discover(lambda _: demand)
    opened = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: opened.append(Path(path)) or scandir(path))
    listing = only(source, demand_of=lambda _: demand)

    assert 298 == len(listing.unseen)
    assert 4 >= len(opened)
    assert {root, root / "v300", root / "v299"} <= set(opened)


def test_a_volume_of_models_lists_each_directory_once(tmp_path, monkeypatch):
    """A look at a whole volume does not go over thousands of versions twice."""
    for model in ("a", "b"):
        for version in ("v1", "v2"):
            write_bundle(tmp_path / model / version)
    source = DirectorySource(tmp_path)
    source.discover(lambda _: Demand(VersionPolicy.parse("latest")))
    opened = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: opened.append(Path(path)) or scandir(path))
    source.discover(lambda _: Demand(VersionPolicy.parse("latest")))

    assert {tmp_path, tmp_path / "a", tmp_path / "b"} <= {*opened}
    assert len({*opened}) == len(opened)


def test_an_empty_directory_beside_models_is_told_apart_from_them(root):
    """It may become one, so it is waited for; beside nothing, and for one name, it says nothing."""
    (root / "later").mkdir()
    (root / "half").mkdir()
    (root / "half" / "model.joblib.part").write_bytes(b"half")
    before = DirectorySource(root).discover()
    write_plain(root / "churn")
    found = {it.model: it for it in DirectorySource(root).discover()}
    named = DirectorySource(root, "churn").discover()

    assert () == before
    assert {"churn": True, "half": False, "later": False} == {
        name: it.is_model for name, it in found.items()
    }
    assert f"waiting for model files in '{root / 'later'}'" == found["later"].reason
    assert ["churn"] == [it.model for it in named]


def test_a_name_beside_directories_of_models_says_what_was_found_and_what_to_do(root):
    """A runtime that always passes the name meets a volume of models under other names."""
    for number in range(7):
        write_bundle(root / f"zone{number}" / "v1")
    (root / "empty").mkdir()

    reason = only(DirectorySource(root, "tariff")).reason

    assert "or a directory 'tariff' with one of them" in reason
    assert "directories of models: 'zone0', 'zone1', 'zone2', 'zone3'," in reason
    assert f"such as '{root / 'zone0'}'" in reason
    assert "storageUri" in reason
    assert "leave out --model_name" in reason
    assert "empty" not in reason


def test_versions_without_their_files_yet_are_named_as_incomplete(root, clock):
    """Empty ones, and those whose manifest may still come; not one that is complete without."""
    write_bundle(root / "v1")
    (root / "v2").mkdir()
    write_plain(root / "v3")
    source = DirectorySource(root, "fraud", settle_seconds=2.0, clock=clock)
    before = only(source).incomplete
    clock.now += 3
    after = only(source).incomplete

    assert {Version("v2"), Version("v3")} == {*before}
    assert (Version("v2"),) == after


def test_a_directory_that_cannot_be_read_is_no_reading(root, monkeypatch):
    """Nothing is known of its versions then."""
    write_bundle(root / "churn" / "v1")
    source = DirectorySource(root)
    before = only(source).is_read
    monkeypatch.setattr(source, "_list_model", _hangs)
    after = only(source)

    assert before
    assert not after.is_read
    assert after.reason.startswith(f"'{root / 'churn'}' cannot be read")


def _hangs(*_: object) -> None:
    raise TimeoutError("the volume hangs")
