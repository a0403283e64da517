"""A cache that anybody may write to never vouches for itself: what is odd there is replaced."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from bundleserver.sources.registry.cache import Cache
from bundleserver.sources.registry.cache.index import INDEX_NAME
from bundleserver.sources.registry.state import LastKnown, recall, remember
from bundleserver.sources.registry.values import RegisteredModel, RegisteredVersion

VERSION = RegisteredVersion("3", created_at=1)
FACTS = {"metrics": {"auc": 0.5}, "run_name": "r"}


def fill(directory: Path) -> dict[str, object]:
    """Write a version of one file."""
    (directory / "model.bin").write_bytes(b"model")
    return dict(FACTS)


def _fifo_index(entry: Path) -> None:
    (entry / INDEX_NAME).unlink()
    os.mkfifo(entry / INDEX_NAME)


def _endless_index(entry: Path) -> None:
    (entry / INDEX_NAME).unlink()
    (entry / INDEX_NAME).symlink_to("/dev/zero")


def _sparse_index(entry: Path) -> None:
    os.truncate(entry / INDEX_NAME, 1 << 40)


def _deep_index(entry: Path) -> None:
    (entry / INDEX_NAME).write_bytes(b"[" * 500_000)


def _many_values(entry: Path) -> None:
    (entry / INDEX_NAME).write_bytes(b"[" + b"[]," * 5_000_000 + b"1]")


def _index_of(entry: Path, **changes: object) -> None:
    index = json.loads((entry / INDEX_NAME).read_text())
    (entry / INDEX_NAME).write_text(json.dumps({**index, **changes}))


def _no_files(entry: Path) -> None:
    _index_of(entry, files={})


def _files_of_another_type(entry: Path) -> None:
    _index_of(entry, files=[1])


def _file_of_another_type(entry: Path) -> None:
    _index_of(entry, files={"model.bin": 5})


def _file_outside(entry: Path) -> None:
    _index_of(entry, files={"../../../../../../../../../dev/zero": {"size": 0, "sha256": "x"}})


def _facts_of_another_type(entry: Path) -> None:
    _index_of(entry, facts=[1])


def _odd_facts(entry: Path) -> None:
    _index_of(entry, facts={"metrics": {"auc": [[[]]]}})


def _fifo_file(entry: Path) -> None:
    (entry / "model.bin").unlink()
    os.mkfifo(entry / "model.bin")
    _index_of(entry, files={"model.bin": {"size": 0, "sha256": "x"}})


def _endless_file(entry: Path) -> None:
    (entry / "model.bin").unlink()
    (entry / "model.bin").symlink_to("/dev/zero")
    _index_of(entry, files={"model.bin": {"size": 0, "sha256": "x"}})


def _another_file(entry: Path) -> None:
    (entry / "model.bin").write_bytes(b"MODEL")


def _no_index(entry: Path) -> None:
    (entry / INDEX_NAME).unlink()


def _fifo_entry(entry: Path) -> None:
    shutil.rmtree(entry)
    os.mkfifo(entry)


def _dangling_entry(entry: Path) -> None:
    shutil.rmtree(entry)
    entry.symlink_to(entry.parent / "nowhere")


def _fifo_lock(entry: Path) -> None:
    _another_file(entry)
    (entry.parent / ".lock-3").unlink()
    os.mkfifo(entry.parent / ".lock-3")


def _directory_lock(entry: Path) -> None:
    _another_file(entry)
    (entry.parent / ".lock-3").unlink()
    (entry.parent / ".lock-3" / "x").mkdir(parents=True)


HARMS = [
    _fifo_index, _endless_index, _sparse_index, _deep_index, _many_values, _no_files,
    _files_of_another_type, _file_of_another_type, _file_outside, _facts_of_another_type,
    _odd_facts,
    _fifo_file, _endless_file, _another_file, _no_index, _fifo_entry, _dangling_entry, _fifo_lock,
    _directory_lock,
]  # fmt: skip


@pytest.mark.parametrize("harm", HARMS, ids=lambda harm: harm.__name__.strip("_"))
def test_an_odd_entry_is_fetched_again_for_all_replicas(tmp_path, harm):
    """Whatever lies in its place, one replica replaces it and the next finds it."""
    cache, other = (Cache(tmp_path, "m", "registry", lock_seconds=5) for _ in range(2))
    entry, _ = cache.add(VERSION, fill)
    harm(entry)
    fetched: list[Path] = []

    def fetch(directory: Path) -> dict[str, object]:
        fetched.append(directory)
        return fill(directory)

    assert cache.find(VERSION) is None
    place, facts = cache.add(VERSION, fetch)
    assert (place, FACTS) == other.add(VERSION, fetch) == (entry, facts)
    assert len(fetched) == 1
    assert (entry / "model.bin").read_bytes() == b"model"
    assert [] == [path.name for path in entry.parent.iterdir() if path.name.startswith(".gone")]


STATE = LastKnown(RegisteredModel("m", (VERSION,), {"champion": "3"}), 5.0, {"champion": ("3",)})


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 500_000,
        b"[" + b"[]," * 1_000_000 + b"1]",
        b'{"model": {"name": "m", "versions": [{"number": "3", "tags": [1]}]}}',
        b'{"model": {"name": "m", "versions": [{"number": 3}]}, "history": {}, "as_of": 1}',
        b'{"model": {"name": "m", "versions": []}, "history": {}, "as_of": 1e999}',
        b'{"model": {"name": "m", "versions": [{"number": "3", "created_at": 1'
        + b"0" * 400
        + b'}]}, "history": {}, "as_of": 1}',
    ],
    ids=["deep", "values", "tags", "number", "infinite", "huge"],
)
def test_an_odd_state_is_none_and_is_written_again(tmp_path, content):
    """What the cache says of the registry is read within limits, and its types are checked."""
    (tmp_path / "registry.json").write_bytes(content)
    assert recall(tmp_path) is None

    remember(STATE, tmp_path)
    assert recall(tmp_path) == STATE


def test_a_state_that_is_no_file_is_none_and_is_written_again(tmp_path):
    """Neither reading nor writing waits for a pipe."""
    os.mkfifo(tmp_path / "registry.json")
    os.mkfifo(tmp_path / f".registry.json.{os.getpid()}")
    assert recall(tmp_path) is None

    remember(STATE, tmp_path)
    assert recall(tmp_path) == STATE


def test_times_that_no_calendar_has_are_left_out():
    """A registry may say any number."""
    facts = RegisteredVersion("1", created_at=(1 << 62), updated_at=1000).facts()

    assert facts["updated_at"] == "1970-01-01T00:00:01Z"
    assert "created_at" not in facts
