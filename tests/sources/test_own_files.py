"""The files in a model's directory itself, beside its versions, and files that are no model's."""

from __future__ import annotations

import json
import os
import time

import joblib
import pytest
from sklearn.linear_model import LinearRegression

from bundleserver.sources import Demand
from bundleserver.sources.directory import DirectorySource
from bundleserver.sources.one_version import find_version
from bundleserver.sources.own_files import location_of, own_version
from bundleserver.sources.uploads import is_foreign, is_partial, is_probably_a_model
from bundleserver.store.finding import complete_versions
from bundleserver.versions import Version, VersionPolicy
from tests.sources.test_directory import MANIFEST, Clock, listed, only, write_bundle, write_plain

LATEST = {"demand_of": lambda _: Demand(VersionPolicy.parse("latest"))}


@pytest.fixture
def clock():
    """Lend a clock that stands still."""
    return Clock()


@pytest.fixture
def root(tmp_path):
    """Lend an empty directory for a model."""
    path = tmp_path / "fraud"
    path.mkdir()
    return path


@pytest.fixture
def source(root, clock):
    """Lend a source of the one model 'fraud'."""
    return DirectorySource(root, "fraud", settle_seconds=1.0, clock=clock)


@pytest.mark.parametrize("label", ["0.3", "v0", "v1", "2", "2024-01-31"])
def test_own_files_come_before_every_version(root, source, label):
    """They were there first, so any version that is published beside them is newer."""
    write_plain(root)
    write_bundle(root / label)

    assert {"fraud": [label, "1"]} == listed(source)
    assert ["1", label] == [*map(str, complete_versions(root))]


@pytest.mark.parametrize(
    ("own", "expected"), [("v2", ["v3", "v2", "v1"]), (None, ["v3", "v1", "1"])]
)
def test_a_manifest_at_the_top_may_say_which_version_it_is(root, source, own, expected):
    """With a label of its own it has its natural place; without one it comes first."""
    write_bundle(root, **({"version": own} if own else {}))
    write_bundle(root / "v1")
    write_bundle(root / "v3")

    assert {"fraud": expected} == listed(source)
    assert expected[::-1] == [*map(str, complete_versions(root))]


def test_what_a_manifest_lists_is_no_version(root, source):
    """A nested bundle's directory belongs to the bundle, whatever its name."""
    nested = {"framework": "bundle", "path": "v1"}
    write_bundle(root, components={**MANIFEST["components"], "inner": nested})
    write_bundle(root / "v1")
    write_bundle(root / "v4")

    assert {"fraud": ["v4", "1"]} == listed(source)
    assert ["1", "v4"] == [*map(str, complete_versions(root))]


def test_a_nested_bundle_is_no_version_while_its_manifest_is_broken(root, source):
    """Of a manifest that cannot be read nobody knows what it lists: only what says so counts."""
    write_bundle(root)
    (root / "manifest.json").write_text('{"components": ')
    write_bundle(root / "v1")
    write_bundle(root / "v2", version="v2")

    assert {"fraud": ["v2", "1"]} == listed(source)


def test_own_files_stay_the_same_while_versions_come_and_go(root, source):
    """Nothing of what is done beside them loads them again."""
    write_bundle(root, version="5")
    before = only(source).candidates[0]
    write_bundle(root / "6")
    (root / "6" / "deep.pkl").symlink_to("/etc/hostname")
    for name in (".serving.lock", ".canary.json", ".staging-x1", "serving.json"):
        (root / name).write_text("{}")
    after = {c.version.label: c for c in only(source).candidates}["5"]

    assert before.fingerprint == after.fingerprint
    assert after.settled
    assert after.problem is None


def test_own_files_are_shown_beside_thousands(root, source):
    """Whatever the policy selects, the version before all others is read; old ones are not."""
    write_plain(root)
    for number in range(1, 40):
        write_bundle(root / f"v{number}")
    listing = only(source, **LATEST)

    assert ["v39", "1"] == [c.version.label for c in listing.candidates]
    assert 38 == len(listing.unseen)


@pytest.mark.parametrize("name", ["README.md", "metrics.json", "MLmodel", "conda.yaml", "run.sh"])
def test_other_files_beside_versions_are_no_version(root, source, name):
    """What is no model at the top changes nothing for the versions."""
    (root / name).write_text("{}")
    write_bundle(root / "v1")

    assert {"fraud": ["v1"]} == listed(source)
    assert own_version(root) is None


def test_a_directory_takes_the_label_once_it_is_complete(root, source, clock):
    """A directory '1' beside own files is version 1 then, which is said; half of it is not."""
    write_plain(root)
    (root / "1").mkdir()
    empty = only(source).candidates[-1]
    write_plain(root / "1", b"half")
    half = only(source).candidates[-1]
    clock.now += 2.0
    complete = only(source)
    write_plain(root / "1", b"half and more")
    changing = only(source).candidates[-1]

    assert [root, root] == [empty.location, half.location]
    assert [root / "1"] == [c.location for c in complete.candidates]
    assert f"'{root / '1'}' is version '1'" in complete.warnings[0]
    assert root / "1" == changing.location


def test_a_version_is_found_where_its_files_are(root):
    """The commands open own files by their label, as any version."""
    joblib.dump(LinearRegression().fit([[0.0], [1.0]], [0.0, 3.0]), root / "model.joblib")
    write_bundle(root / "v2")

    _, candidate = find_version(root, "1")

    assert root == candidate.location == location_of(root, Version("1"))
    assert root / "v2" == location_of(root, Version("v2"))


@pytest.mark.parametrize("name", ["fraud", None])
@pytest.mark.parametrize("files", [["model.xyz"], ["weights.gguf", "README.md"], ["notes.txt"]])
def test_files_that_nothing_opens_are_a_problem(root, clock, name, files):
    """They are named, with the suffixes that would be taken, once nobody writes them any more."""
    for file in files:
        (root / file).write_bytes(b"?")
    source = DirectorySource(root, name, clock=clock)
    first = only(source).candidates[0]
    clock.now += 1.0
    (candidate,) = only(source).candidates

    assert not first.settled
    assert candidate.settled
    assert "fraud" == candidate.model
    assert all(f"'{file}'" in candidate.problem for file in files)
    assert "*.joblib" in candidate.problem


def test_a_growing_file_that_nothing_opens_is_waited_for(root, source, clock):
    """Who knows what it becomes: a copy under another name is renamed when it is complete."""
    settled = []
    for size in range(1, 8):
        (root / "model.xyz").write_bytes(b"x" * size)
        clock.now += 5.0
        settled.append(only(source).candidates[0].settled)
    (root / "model.xyz").rename(root / "model.pkl")
    only(source)
    clock.now += 5.0
    last = only(source).candidates[0]

    assert [False] * 7 == settled
    assert last.is_usable


@pytest.mark.parametrize(
    "name",
    [
        "model.pkl.part",
        "scaler.joblib.crdownload",
        "x.tmp",
        "model.pkl.filepart",
        ".model.pkl.Ab12Cd",
        "model.joblib.0aB1c2D3",
        "net.pt_.gstmp",
    ],
)
def test_an_upload_is_waited_for(root, source, clock, name):
    """With a part of a file nothing is settled and nothing a problem, alone or beside others."""
    (root / name).write_bytes(b"half")
    alone = only(source)
    (root / "other.xyz").write_bytes(b"?")
    only(source)
    clock.now += 30.0
    beside = only(source).candidates[0]
    (root / "other.xyz").unlink()
    write_plain(root)
    only(source)
    clock.now += 30.0
    scaler_to_come = only(source).candidates[0]

    assert is_partial(name)
    assert () == alone.candidates
    assert "waiting for" in alone.reason
    assert [False, False] == [beside.settled, scaler_to_come.settled]


def test_an_abandoned_upload_is_not_waited_for(root, source, clock):
    """A part that nobody has written to for a minute holds up nothing."""
    (root / "scaler.pkl.part").write_bytes(b"half")
    long_ago = time.time() - 600
    os.utime(root / "scaler.pkl.part", (long_ago, long_ago))
    write_plain(root)
    only(source)
    clock.now += 1.0

    assert only(source).candidates[0].is_usable


@pytest.mark.parametrize(
    "name",
    ["model.xyz~", ".DS_Store", "_SUCCESS", "SUCCESS.0a1b2c", "model.sig", "serving.json", "#a#"],
)
def test_names_that_say_nothing_are_waited_with(root, source, name):
    """Markers, backups and what is about all versions are no files of a model."""
    (root / name).write_text("{}")

    assert not is_foreign(name)
    assert () == only(source).candidates


def test_an_unknown_model_in_a_volume_is_one_and_notes_are_none(root):
    """Of directories beside models those count that have something like a model."""
    write_bundle(root / "churn")
    for folder, file in (("iris", "model.xyz"), ("net", "net.gguf"), ("docs", "notes.md")):
        (root / folder).mkdir()
        (root / folder / file).write_text("?")
    (root / "README.md").write_text("what is here")

    assert {"churn": ["1"], "iris": ["1"], "net": ["1"]} == listed(DirectorySource(root))
    assert {"absent": []} == listed(DirectorySource(root, "absent"))


@pytest.mark.parametrize(
    ("name", "expected"), [("model.pb", True), ("MLmodel", True), ("model.md", False)]
)
def test_what_is_like_a_model_is_told_by_its_name(name, expected):
    """Formats of others, and names with 'model' in them, unless they are documents."""
    assert expected == is_probably_a_model(name)


def test_a_label_in_serving_json_names_own_files(root, source):
    """They are read for a label, a share, or a policy that names them."""
    write_plain(root)
    write_bundle(root / "v2")
    (root / "serving.json").write_text(json.dumps({"labels": {"stable": "1"}, "policy": "all"}))

    assert ["v2", "1"] == [c.version.label for c in only(source, **LATEST).candidates]


def test_text_beside_versions_is_a_model_by_its_first_line(root, clock):
    """Notes and requirements are none, whatever their suffix may be of."""
    (root / "requirements.txt").write_text("lightgbm\n")
    (root / "v1").mkdir()
    (root / "v1" / "model.txt").write_text("tree\nversion=v4\n")
    (root / "v1" / "notes.txt").write_text("to do\n")
    source = DirectorySource(root, "fraud", clock=clock)

    only(source)
    clock.now += 5.0
    (candidate,) = only(source).candidates

    assert root / "v1" == candidate.location
    assert candidate.problem is None
