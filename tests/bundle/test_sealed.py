"""What was verified is what is opened."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import IO

import joblib
import numpy as np
import pytest
from sklearn.linear_model import LinearRegression
from sklearn.preprocessing import FunctionTransformer

from bundleserver.bundle import sealed
from bundleserver.bundle.integrity import file_sha256
from bundleserver.bundle.opening import open_bundle
from bundleserver.bundle.sealed import private_files
from bundleserver.errors import BundleServerError, IntegrityError, LoadError
from bundleserver.frameworks import Framework, LoadContext
from bundleserver.frameworks.checked_files import CheckedPath
from bundleserver.frameworks.file_facts import Opens
from bundleserver.frameworks.giving_up import Abandoned, checked_by
from bundleserver.frameworks.trust import CodeTrust, PicklePolicy
from bundleserver.manifest import Component


@dataclass
class Usage:
    """What a file system says of itself."""

    free: int


class Marker:
    """An object whose opening makes a directory."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


def digest(path: Path) -> str:
    """Return a file's digest."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def open_descriptors() -> set[str]:
    """Return the numbers of this process's open files."""
    return {path.name for path in Path("/proc/self/fd").iterdir()}


def write_bundle(directory: Path, slope: float = 2.0) -> Path:
    """Write a bundle of one model with its digest, and return the model's file."""
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / "model.joblib"
    joblib.dump(LinearRegression().fit([[0.0], [1.0]], [0.0, slope]), file)
    component = {"framework": "sklearn", "path": file.name, "sha256": digest(file)}
    document = {"format": "bundle/v1", "components": {"model": component}}
    (directory / "manifest.json").write_text(json.dumps(document))
    return file


def write_nest(directory: Path) -> Path:
    """Write a bundle whose one component is a bundle, and return the inner model's file."""
    file = write_bundle(directory / "inner")
    listed = digest(directory / "inner" / "manifest.json")
    component = {"framework": "bundle", "path": "inner", "sha256": listed}
    document = {"format": "bundle/v1", "components": {"inner": component}}
    (directory / "manifest.json").write_text(json.dumps(document))
    return file


@pytest.fixture
def swapped(monkeypatch):
    """Lend a setter of what happens between the verification of a bundle and its opening."""

    def set_swap(swap) -> None:
        from bundleserver.bundle import Bundle

        genuine = Bundle.open.__func__

        def open_late(cls, *args, **kwargs):
            if kwargs.get("model") == "m":
                swap()
            return genuine(cls, *args, **kwargs)

        monkeypatch.setattr(Bundle, "open", classmethod(open_late))

    return set_swap


@pytest.mark.parametrize("in_place", [False, True], ids=["replaced", "overwritten"])
@pytest.mark.parametrize("write", [write_bundle, write_nest])
def test_a_file_that_was_replaced_after_its_verification_never_runs(
    tmp_path, swapped, write, in_place
):
    """Neither a renamed file nor other bytes in the same one are opened, nested or not."""
    file, mark = write(tmp_path / "m"), tmp_path / "ran"

    def swap() -> None:
        evil = pickle.dumps(Marker(mark))
        target = file if in_place else tmp_path / "evil"
        target.write_bytes(evil)
        if not in_place:
            target.rename(file)

    swapped(swap)

    with pytest.raises(IntegrityError, match="was replaced after its digest had been verified"):
        open_bundle(tmp_path / "m", model="m")
    assert not mark.exists()


def test_a_nested_manifest_that_was_replaced_is_refused(tmp_path, swapped):
    """A nested bundle that agrees with a manifest of its own is not the one that is listed."""
    file, mark = write_nest(tmp_path / "m"), tmp_path / "ran"

    def swap() -> None:
        file.write_bytes(pickle.dumps(Marker(mark)))
        document = json.loads((file.parent / "manifest.json").read_text())
        document["components"]["model"]["sha256"] = digest(file)
        (file.parent / "manifest.json").write_text(json.dumps(document))

    swapped(swap)

    with pytest.raises(IntegrityError, match="another sha256"):
        open_bundle(tmp_path / "m", model="m")
    assert not mark.exists()


@pytest.mark.parametrize("kind", ["fifo", "directory", "gone", "endless"])
def test_what_is_no_file_any_more_is_refused_at_once(tmp_path, swapped, kind):
    """A FIFO, a directory, nothing, or a device in a file's place ends its load with a reason."""
    file = write_bundle(tmp_path / "m")

    def swap() -> None:
        file.unlink()
        if kind == "fifo":
            os.mkfifo(file)
        elif kind == "directory":
            file.mkdir()
        elif kind == "endless":
            file.symlink_to("/dev/zero")

    swapped(swap)

    with pytest.raises(LoadError, match=f"'{file}' cannot be read"):
        open_bundle(tmp_path / "m", model="m")


@pytest.fixture
def copied(monkeypatch):
    """Let every file be a large one, of a framework that gets a copy."""
    from bundleserver.frameworks import framework_named

    framework = replace(framework_named("sklearn"), opens=Opens.CONTENT)
    monkeypatch.setattr(sealed, "framework_named", lambda _name: framework)
    monkeypatch.setattr(private_files, "MOST_IN_MEMORY_BYTES", 0)


@pytest.mark.usefixtures("copied")
@pytest.mark.parametrize("most_bytes", [0, 1 << 30], ids=["on disk", "in memory"])
def test_a_copy_is_what_was_digested_and_ends_with_the_opening(tmp_path, monkeypatch, most_bytes):
    """While it is opened nobody can write to it; afterwards nothing of it is left."""
    file, seen = write_bundle(tmp_path / "m"), []
    monkeypatch.setattr(private_files, "MOST_IN_MEMORY_BYTES", most_bytes)
    # Not TMPDIR, which is read once in a process.
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    genuine = joblib.load

    def load(path):
        file.write_bytes(b"something else")
        seen.append((Path(path).read_bytes(), sorted(p.name for p in tmp_path.iterdir())))
        if most_bytes:
            with pytest.raises(OSError, match="not permitted"), Path(path).open("r+b") as copy:
                copy.write(b"evil")
        return genuine(path)

    monkeypatch.setattr(joblib, "load", load)
    before = open_descriptors()
    expected = digest(file)
    bundle = open_bundle(tmp_path / "m", model="m")
    bundle.close()

    assert [(expected, ["m"])] == [
        (hashlib.sha256(data).hexdigest(), names) for data, names in seen
    ]
    assert before == open_descriptors()


def read_only():
    """Fail as where no directory can be written to."""
    raise FileNotFoundError(2, "No usable temporary directory found")


full = partial(Path("/dev/full").open, "wb", buffering=0)


@pytest.mark.usefixtures("copied")
@pytest.mark.parametrize("disk_file", [read_only, full])
@pytest.mark.parametrize("free", [0, 1 << 40])
def test_without_room_in_the_temporary_directory_a_large_copy_is_in_memory(
    tmp_path, monkeypatch, disk_file, free
):
    """A read-only or full file system opens what a writable one does, noticed early or late."""
    write_bundle(tmp_path / "m")
    monkeypatch.setattr(private_files, "_disk_file", disk_file)
    monkeypatch.setattr(private_files.shutil, "disk_usage", lambda _path: Usage(free))
    bundle = open_bundle(tmp_path / "m", model="m")

    assert "sklearn" in json.dumps(bundle.metadata())


@pytest.mark.usefixtures("copied")
@pytest.mark.parametrize("disk_file", [read_only, full])
def test_no_room_anywhere_is_told(tmp_path, monkeypatch, disk_file):
    """Where there is no room for a copy, the message names the file, its size and what to do."""
    file = write_bundle(tmp_path / "m")
    monkeypatch.setattr(private_files, "_disk_file", disk_file)
    monkeypatch.setattr(private_files, "free_memory", lambda: 123)

    with pytest.raises(LoadError) as raised:
        open_bundle(tmp_path / "m", model="m")
    assert f"'{file}' ({file.stat().st_size} bytes) cannot be copied" in str(raised.value)
    assert "123 bytes of memory are free for it and the model" in str(raised.value)
    assert "TMPDIR" in str(raised.value)


@pytest.fixture
def memory_directory(monkeypatch):
    """Lend a temporary directory in a tmpfs, as of ``docker run --tmpfs /tmp``."""
    shared = Path("/dev/shm")  # noqa: S108
    if not shared.is_dir() or not os.access(shared, os.W_OK):
        pytest.skip("no tmpfs here")
    with tempfile.TemporaryDirectory(dir=shared) as directory:
        monkeypatch.setattr(tempfile, "tempdir", directory)
        yield Path(directory)


@pytest.mark.usefixtures("copied", "memory_directory")
def test_a_temporary_directory_in_memory_does_as_one_on_a_disk(tmp_path):
    """A file of a tmpfs cannot be sealed, and needs no seal."""
    write_bundle(tmp_path / "m")
    before = open_descriptors()
    bundle = open_bundle(tmp_path / "m", model="m")

    assert "sklearn" in json.dumps(bundle.metadata())
    assert before == open_descriptors()


@pytest.mark.usefixtures("copied", "memory_directory")
def test_a_temporary_directory_in_memory_is_no_more_than_the_memory(tmp_path, monkeypatch):
    """A tmpfs says what room it may take, and not what the container has for it and the model."""
    write_bundle(tmp_path / "m")
    monkeypatch.setattr(private_files, "free_memory", lambda: 123)
    before = open_descriptors()

    with pytest.raises(LoadError, match="is in memory, and 123 bytes of memory are free"):
        open_bundle(tmp_path / "m", model="m")
    assert before == open_descriptors()


SMALL_DISK = """
import sys, tempfile
from pathlib import Path
from bundleserver.bundle import sealed
from bundleserver.bundle.sealed import private_files
from contextlib import ExitStack
source, room = Path(sys.argv[1]), Path(tempfile.gettempdir())
private_files.MOST_IN_MEMORY_BYTES = 0
private_files.shutil.disk_usage = lambda _path: type("Usage", (), {"free": 1 << 40})
with ExitStack() as kept:
    copy, _digest = sealed._sealed_copy(source, kept)
    assert Path(private_files.place_of(copy)).read_bytes() == source.read_bytes()
    (room / "another").write_bytes(bytes(1 << 20))
"""


def test_a_directory_that_fills_up_is_left_as_it_was(tmp_path):
    """The half copy takes no room beside the whole one in memory, and fails nothing later."""
    (tmp_path / "room").mkdir()
    (tmp_path / "source").write_bytes(os.urandom((3 << 20) + 17))
    script = (
        'mount -t tmpfs -o size=2m none "$TMPDIR" || exit 77; exec "$@"',
        "sh",
        *(sys.executable, "-c", SMALL_DISK, str(tmp_path / "source")),
    )
    if shutil.which("unshare") is None:
        pytest.skip("no unshare here")
    ran = subprocess.run(
        ["unshare", "-rm", "sh", "-c", *script],
        env={**os.environ, "TMPDIR": str(tmp_path / "room")},
        capture_output=True,
        text=True,
        timeout=120,
    )
    if ran.returncode and "Traceback" not in ran.stderr:
        pytest.skip(f"no file system can be mounted here: {ran.stderr}")
    assert 0 == ran.returncode, ran.stderr


@pytest.mark.parametrize("more", [-1, 1])
def test_a_file_without_a_digest_that_changes_is_told_so(tmp_path, monkeypatch, more):
    """Nothing says that a file was verified which no manifest lists."""
    file = write_bundle(tmp_path / "m")
    genuine = private_files.anonymous_file

    def change_then(size: int) -> IO[bytes]:
        os.truncate(file, size + more)
        return genuine(size)

    monkeypatch.setattr(private_files, "anonymous_file", change_then)
    framework = Framework("plug", "plug", in_turns=True)
    monkeypatch.setattr(Framework, "imported", lambda self: None)
    monkeypatch.setattr(sealed, "framework_named", lambda name: framework)

    with pytest.raises(LoadError, match="changed while it was copied; publish it once"):
        sealed.open_component(
            tmp_path / "m", Component("model", "plug", path=file.name), "cpu", CodeTrust()
        )


@pytest.mark.parametrize("read", [file_sha256, lambda path: sealed._sealed_copy(path, ExitStack())])
def test_files_are_read_only_while_somebody_waits(tmp_path, read):
    """A load past its deadline ends in the middle of a file's digest, or of its copy."""
    file, asked = tmp_path / "file", []
    file.write_bytes(bytes(3 << 20))

    def check() -> None:
        asked.append(1)
        if len(asked) == 2:
            raise Abandoned

    with checked_by(check), pytest.raises(Abandoned):
        read(file)


@pytest.mark.parametrize("compress", [0, 3])
def test_a_large_pickle_is_opened_without_a_copy(tmp_path, monkeypatch, compress):
    """What reads through our own function needs room nowhere, and opens the same model."""
    directory, file = tmp_path / "m", write_bundle(tmp_path / "m")
    model = LinearRegression().fit([[0.0], [1.0]], [0.0, 3.0])
    model.pad_ = np.random.default_rng(0).random(400_000)
    joblib.dump(model, file, compress=compress)
    document = json.loads((directory / "manifest.json").read_text())
    document["components"]["model"]["sha256"] = digest(file)
    (directory / "manifest.json").write_text(json.dumps(document))
    monkeypatch.setattr(private_files, "MOST_IN_MEMORY_BYTES", 0)
    monkeypatch.setattr(private_files, "anonymous_file", lambda _size: pytest.fail("it was copied"))
    before = open_descriptors()

    bundle = open_bundle(directory, model="m")

    assert "sklearn" in json.dumps(bundle.metadata())
    assert before == open_descriptors()


@pytest.mark.parametrize("at", [10, 1_500_000, -10])
def test_what_is_written_into_a_file_while_it_is_opened_never_comes_through(
    tmp_path, monkeypatch, at
):
    """A byte that another process changes after the digest is noticed, wherever it is."""
    file = write_bundle(tmp_path / "m")
    model = LinearRegression().fit([[0.0], [1.0]], [0.0, 3.0])
    model.pad_ = np.random.default_rng(0).random(400_000)
    joblib.dump(model, file)
    document = json.loads((tmp_path / "m" / "manifest.json").read_text())
    document["components"]["model"]["sha256"] = digest(file)
    (tmp_path / "m" / "manifest.json").write_text(json.dumps(document))
    monkeypatch.setattr(private_files, "MOST_IN_MEMORY_BYTES", 0)
    genuine = CheckedPath.of

    def overwrite_then(content, shown):
        with file.open("r+b") as opened:
            opened.seek(at, os.SEEK_END if at < 0 else os.SEEK_SET)
            opened.write(b"?")
        return genuine(content, shown)

    monkeypatch.setattr(CheckedPath, "of", overwrite_then)

    with pytest.raises(IntegrityError, match="was replaced after its digest had been verified"):
        open_bundle(tmp_path / "m", model="m")


def test_what_to_list_is_asked_of_the_users_directory(tmp_path):
    """The command in a refusal leads to the version's directory, and not to that of the copy."""
    file = write_bundle(tmp_path / "a model")
    joblib.dump(FunctionTransformer(np.linalg.det), file)
    component = Component("model", "sklearn", path=file.name, sha256=digest(file))

    with pytest.raises(LoadError, match=f"inspect --pickles '{file.parent}'"):
        sealed.open_component(file.parent, component, "cpu", CodeTrust(PicklePolicy.LISTED))


@pytest.mark.parametrize("opens", [Opens.CONTENT, Opens.NAME])
def test_messages_name_the_file_and_not_its_copy(tmp_path, monkeypatch, opens):
    """Whatever a framework or its library says of the path that it got, the user reads his own."""
    file = write_bundle(tmp_path / "m")
    file.write_bytes(b"not a model")

    class Module:
        @staticmethod
        def load(path: Path, context: LoadContext) -> object:
            raise LoadError(f"'{path}' is bad; the library says: cannot parse {path!s}")

    monkeypatch.setattr(Framework, "imported", lambda self: Module)
    framework = Framework("plug", "plug", opens=opens)
    monkeypatch.setattr(sealed, "framework_named", lambda name: framework)
    component = Component("model", "plug", path=file.name, sha256=digest(file))

    with pytest.raises(BundleServerError) as raised:
        sealed.open_component(tmp_path / "m", component, "cpu", CodeTrust())
    assert f"'{file}' is bad; the library says: cannot parse {file}" == str(raised.value)


def test_a_plug_in_gets_the_name_of_its_file_and_the_files_beside_it(tmp_path, monkeypatch):
    """A library that goes by the suffix, or opens a second file, finds both."""
    file, seen = write_bundle(tmp_path / "m"), {}
    (tmp_path / "m" / "model.data").write_text("beside")

    class Module:
        @staticmethod
        def load(path: Path, context: LoadContext) -> object:
            seen.update(name=path.name, data=path.read_bytes(), private=path)
            seen["beside"] = path.with_suffix(".data").read_text()
            return object()

    monkeypatch.setattr(Framework, "imported", lambda self: Module)
    framework = Framework("plug", "plug")
    monkeypatch.setattr(sealed, "framework_named", lambda name: framework)
    component = Component("model", "plug", path=file.name, sha256=digest(file))
    sealed.open_component(tmp_path / "m", component, "cpu", CodeTrust())

    assert ("model.joblib", file.read_bytes(), "beside") == (
        seen["name"],
        seen["data"],
        seen["beside"],
    )
    assert file != seen["private"]
    assert not os.path.lexists(str(seen["private"]))


def test_a_directory_without_digests_is_opened_as_it_is(tmp_path, monkeypatch):
    """Nothing was promised for a file without a digest, and nothing is copied."""
    (tmp_path / "m").mkdir()
    file, seen = tmp_path / "m" / "model.joblib", []
    joblib.dump(LinearRegression().fit(np.eye(2), [0.0, 1.0]), file)
    genuine = joblib.load
    monkeypatch.setattr(joblib, "load", lambda path: (seen.append(path), genuine(path))[1])
    open_bundle(tmp_path / "m", model="m")

    assert [file] == seen
