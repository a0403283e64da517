"""One trust in links: what one of us opens no other refuses, and what leads out nobody opens."""

import json
import shutil

import joblib
import numpy as np
import pytest
from sklearn.linear_model import LinearRegression
from typer.testing import CliRunner

from bundleserver.bundle.integrity import file_sha256
from bundleserver.cli import app
from bundleserver.errors import BundleServerError
from bundleserver.manager import Manager
from bundleserver.mlflow_pyfunc import _load_pyfunc
from bundleserver.sources.directory import DirectorySource
from bundleserver.store import BundleStore
from tests.fakes import Clock

X = np.random.default_rng(5).normal(size=(20, 2))
REQUEST = json.dumps({"instances": X[:2].tolist()})


def run(*arguments):
    """Run one command in this process."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments], input=REQUEST)


def write_bundle(directory, path="model.joblib"):
    """Write a bundle whose model lies at a path below it."""
    file = directory / path
    file.parent.mkdir(parents=True)
    joblib.dump(LinearRegression().fit(X, X[:, 0]), file)
    component = {"framework": "sklearn", "path": path, "sha256": file_sha256(file)}
    manifest = {"format": "bundle/v1", "components": {"model": component}}
    (directory / "manifest.json").write_text(json.dumps(manifest))
    return directory


def move_and_link(path, target, link=None):
    """Move a file or directory elsewhere, and leave a link to it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    path.rename(target)
    path.symlink_to(link or target)


def served(directory):
    """Let a server look at a directory; return why its version does not serve, or nothing."""
    clock = Clock()
    manager = Manager(DirectorySource(directory, "m", clock=clock), model_name="m", clock=clock)
    for _ in range(2):
        manager.reconcile()
        clock.now += 10.0
    (version,) = manager.status("m").versions
    return "" if manager.is_ready("m") else version.reason


def offline(directory, tmp_path):
    """Ask everyone else about a directory; return by name why it is refused, or nothing."""
    told = {}
    for name, arguments in {
        "validate": ("validate", directory),
        "predict": ("predict", directory),
    }.items():
        done = run(*arguments)
        told[name] = done.output if done.exit_code else ""
    (listing,) = json.loads(run("inspect", "--json", directory).stdout)
    told["inspect"] = listing["versions"][0]["reason"]
    for name, use in {
        "publish": lambda path: BundleStore(tmp_path / "store").publish(path, "m"),
        "pyfunc": lambda path: _load_pyfunc(str(path)).predict(X[:2]),
    }.items():
        try:
            use(directory)
        except BundleServerError as error:
            told[name] = str(error)
        else:
            told[name] = ""
    return told


def file_elsewhere(directory, elsewhere):
    """Link the model's file to one elsewhere, as the storage initializer does."""
    move_and_link(directory / "deep" / "model.joblib", directory / "model.joblib")
    manifest = directory / "manifest.json"
    manifest.write_text(manifest.read_text().replace("deep/model.joblib", "model.joblib"))
    (directory / "deep" / "model.joblib").unlink()
    move_and_link(directory / "model.joblib", elsewhere / "real.joblib")


def manifest_elsewhere(directory, elsewhere):
    """Link the manifest to one elsewhere."""
    move_and_link(directory / "manifest.json", elsewhere / "written.json")


def directory_elsewhere(directory, elsewhere):
    """Link a directory of files to one elsewhere."""
    move_and_link(directory / "deep", elsewhere / "files")


def data_elsewhere(directory, elsewhere):
    """Lay a linked directory out as Kubernetes mounts a volume, its '..data' link inside it."""
    move_and_link(directory / "deep", elsewhere / "files")
    stamp = elsewhere / "files" / "..2026_01"
    move_and_link(
        elsewhere / "files" / "model.joblib", stamp / "model.joblib", "..data/model.joblib"
    )
    (elsewhere / "files" / "..data").symlink_to("..2026_01")


def everything_mounted(directory, elsewhere):
    """Lay the bundle out as Kubernetes mounts a volume: all its names lead through '..data'."""
    for name in ("manifest.json", "deep"):
        move_and_link(directory / name, directory / "..2026_01" / name, f"..data/{name}")
    (directory / "..data").symlink_to("..2026_01")


def everything_elsewhere(directory, elsewhere):
    """Link the directory itself."""
    move_and_link(directory, elsewhere / "bundle")


TRUSTED = [
    file_elsewhere,
    manifest_elsewhere,
    directory_elsewhere,
    data_elsewhere,
    everything_mounted,
    everything_elsewhere,
]


@pytest.mark.parametrize("lay_out", TRUSTED, ids=lambda lay_out: lay_out.__name__)
def test_links_of_the_named_directory_are_followed_by_everyone(tmp_path, lay_out):
    """A directory that somebody names, and its direct children, may be links to anywhere."""
    directory = write_bundle(tmp_path / "bundle", "deep/model.joblib")
    lay_out(directory, tmp_path / "elsewhere")

    assert "" == served(directory)
    assert {""} == set(offline(directory, tmp_path).values())


@pytest.mark.parametrize("path", ["deep/model.joblib", "deep/notes.txt"])
@pytest.mark.parametrize("is_linked", [False, True], ids=["own", "linked"])
def test_deeper_links_that_lead_out_are_refused_by_everyone_alike(tmp_path, path, is_linked):
    """Below the direct children a link that leads out is refused in one sentence, listed or not."""
    directory = write_bundle(tmp_path / "bundle", "deep/model.joblib")
    (directory / "deep" / "notes.txt").write_text("notes")
    outside = tmp_path / "outside" / "file"
    move_and_link(directory / path, outside)
    if is_linked:
        move_and_link(directory / "deep", tmp_path / "elsewhere" / "deep")
    sentence = (
        f"'{path}' is a link to '{outside}', outside of the version's directory '{directory}'; put "
        "the file itself there"
    )

    told = {"server": served(directory), **offline(directory, tmp_path)}
    said = {name: sentence in reason for name, reason in told.items() if name != "publish"}

    assert dict.fromkeys(said, True) == said
    # It names its own copy, which is all that it verifies.
    assert f"'{path}' is a link to '{outside}', outside of the version's" in told["publish"]


@pytest.fixture
def versions(tmp_path):
    """Write a model of two versions, the second a link to elsewhere."""
    model = tmp_path / "model"
    write_bundle(model / "v1")
    write_bundle(model / "v2")
    move_and_link(model / "v2", tmp_path / "elsewhere" / "v2")
    return model


def test_a_version_may_be_a_link_to_anywhere(versions, tmp_path):
    """A version directory is a direct child, whoever asks."""
    requests = tmp_path / "requests.json"
    requests.write_text(REQUEST)

    done = [
        run("validate", versions),
        run("predict", versions, "--version", "v2"),
        run("compare", versions, "v1", "v2", "--input", requests),
    ]

    assert [0, 0, 0] == [it.exit_code for it in done], [it.output for it in done]
    assert ["default", "no"] == [
        row["serves"]
        for row in json.loads(run("inspect", "--json", versions).stdout)[0]["versions"]
    ]


def test_links_inside_a_version_must_stay_there_for_everyone(versions, tmp_path):
    """The files of a version are no direct children of the directory that is named."""
    real = (tmp_path / "elsewhere" / "v2").resolve()
    move_and_link(real / "model.joblib", tmp_path / "outside.joblib")
    sentence = f"is a link to '{tmp_path / 'outside.joblib'}', outside of the version's directory"
    requests = tmp_path / "requests.json"
    requests.write_text(REQUEST)
    shutil.rmtree(versions / "v1")

    told = [
        served(versions),
        run("validate", versions).output,
        run("inspect", "--json", versions).output,
        run("predict", versions).output,
        run("compare", versions, "v2", "v2", "--input", requests).output,
    ]

    assert [True] * 5 == [sentence in it for it in told], told


def test_a_bundle_in_a_linked_directory_is_verified_where_it_lies(tmp_path):
    """A nested bundle may be a link, and its files are verified before anything is opened."""
    outer = tmp_path / "outer"
    write_bundle(outer / "inner")
    component = {"framework": "bundle", "path": "inner"}
    manifest = {"format": "bundle/v1", "components": {"inner": component}}
    (outer / "manifest.json").write_text(json.dumps(manifest))
    move_and_link(outer / "inner", tmp_path / "elsewhere" / "inner")
    before = served(outer)
    (outer / "inner" / "model.joblib").write_bytes(b"other")

    assert "" == before
    assert served(outer).startswith("FAILED while VERIFYING: ")
    assert "model.joblib: has sha256" in run("inspect", "--json", outer).output
