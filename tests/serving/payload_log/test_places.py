"""Places of files: names from publishers never lead anywhere else."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest

from bundleserver.serving.payload_log.places import (
    NO_VERSION,
    Place,
    begun_name,
    file_name,
    hour_of,
    is_begun,
    own_files,
)
from tests.serving.payload_log.entries import AT

NAMES = ["fraud", "..", ".", "a/b", "../../etc", "%2F", "a=b", "größer", "a b\n", "-"]


@pytest.mark.parametrize("name", [*NAMES, NO_VERSION, "\udcff", "x" * 250, "ä" * 120, "a\x00b"])
def test_a_name_is_one_directory(tmp_path, name):
    """Whatever a name is, it is one directory of the log, that can be created."""
    path = Place(name, name, "2026-11-29T13").directory

    (tmp_path / path).mkdir(parents=True)

    assert 4 == len(path.parts)
    assert (tmp_path / path).resolve() == tmp_path / path
    assert all(len(part.encode()) <= 255 for part in path.parts)


@pytest.mark.parametrize("name", NAMES)
def test_readers_get_the_name_back(tmp_path, name):
    """What partitions are called is what the models are called, for every reader of Hive's form."""
    folder = tmp_path / Place(name, name, "2026-11-29T13").directory
    folder.mkdir(parents=True)
    pq.write_table(pa.table({"x": [1]}), folder / "a.parquet")

    text = pa.schema([(key, pa.string()) for key in ("model", "version", "date", "hour")])
    partitioning = pyarrow.dataset.partitioning(text, flavor="hive")
    found = pyarrow.dataset.dataset(tmp_path, partitioning=partitioning).to_table().to_pylist()

    assert [{"x": 1, "model": name, "version": name, "date": "2026-11-29", "hour": "13"}] == found


def test_different_names_have_different_directories():
    """Names that are too long for a directory are told apart, and none is taken for none."""
    names = ["x" * 300, "x" * 301, NO_VERSION, "_", "%5F", None]

    assert len(names) == len({Place("m", name, "2026-11-29T13").directory for name in names})


def test_no_version_is_a_text_that_comes_last():
    """Not all readers take null there, and some take the columns of the first file."""
    assert "version=zz" < f"version={NO_VERSION}"
    assert f"version={NO_VERSION}" == Place("m", None, "2026-11-29T13").directory.parts[1]


def test_hours_are_utc():
    """A file's hour does not depend on where the server is."""
    assert "2026-11-29T13" == hour_of(AT)
    assert "20261129T133000Z-1f2e3d4c-000007.parquet" == file_name(AT, "1f2e3d4c", 7)


def test_only_files_of_payload_logs_are_ours(tmp_path):
    """What others put into the directory, and what a link leads to, is left alone."""
    hour = tmp_path / Place("m", "1", "2026-11-29T13").directory
    hour.mkdir(parents=True)
    ours = hour / file_name(AT, "1f2e3d4c", 1)
    begun = hour / begun_name(ours.name)
    for path in (ours, begun, hour / "mine.parquet", tmp_path / ours.name):
        path.touch()
    (hour / file_name(AT, "1f2e3d4c", 2)).symlink_to(ours)
    (tmp_path / "model=linked").symlink_to(tmp_path / "model=m")

    assert {ours, begun} == set(own_files(tmp_path))
    assert [False, True] == [is_begun(ours), is_begun(begun)]
    assert [] == list(own_files(Path(tmp_path, "nothing")))
