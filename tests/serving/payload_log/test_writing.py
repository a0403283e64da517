"""The writer: files in time, of one kind each; and a disk that does not take them."""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
from dataclasses import replace

import numpy as np
import pyarrow.dataset
import pytest
from prometheus_client import CollectorRegistry

from bundleserver.serving.payload_log.files import LogFiles, make_folders
from bundleserver.serving.payload_log.log_options import LogOptions
from bundleserver.serving.payload_log.metrics import LogMetrics
from bundleserver.serving.payload_log.places import Place, begun_name, file_name
from bundleserver.serving.payload_log.rows.schemas import MOST_ADDED
from bundleserver.serving.payload_log.writing import KEPT_BYTES, Writer
from bundleserver.serving.requests import PredictRequest
from bundleserver.tensors.signature import Signature
from bundleserver.versions.serving_config import ServingConfig
from tests.serving.fakes import FakeManager, FakeModel, FakeVersion
from tests.serving.payload_log.entries import (
    AT,
    HOUR,
    answered,
    failed,
    files,
    one,
    read,
    tensors,
)


class Clock:
    """Times that a test sets."""

    def __init__(self) -> None:
        self.monotonic, self.wall = 100.0, AT

    def pass_by(self, seconds: float) -> None:
        self.monotonic += seconds
        self.wall += seconds


@pytest.fixture
def clock():
    """Stand still."""
    return Clock()


@pytest.fixture
def metrics():
    """Count for one test."""
    return LogMetrics(CollectorRegistry())


@pytest.fixture
def make(tmp_path, clock, metrics):
    """Give a function that makes a writer of ``log`` below ``tmp_path``."""

    def made(manager=None, **options) -> Writer:
        make_folders(tmp_path / "log")
        chosen = replace(LogOptions(tmp_path / "log", columns=("all",)), **options)
        return Writer(
            chosen,
            manager or FakeManager(FakeModel("sums")),
            metrics,
            clock=lambda: clock.monotonic,
            now=lambda: clock.wall,
        )

    return made


def dropped(metrics: LogMetrics, reason: str) -> float:
    """Return how many requests were dropped for a reason."""
    return metrics._dropped.labels(reason)._value.get()


def test_a_file_is_complete_when_its_time_is_over(make, tmp_path, clock, metrics):
    """Requests are in a file at most so many seconds after they were answered."""
    writer = make(rotate_seconds=300)
    writer.add([one(), one()])
    writer.rotate()
    before = files(tmp_path)
    clock.pass_by(300)
    writer.rotate()
    writer.rotate()

    (path,) = files(tmp_path)
    assert [] == before
    assert f"log/{HOUR}" == str(path.parent.relative_to(tmp_path))
    assert 2 == read(path).num_rows == metrics.rows._value.get()
    assert path.stat().st_size == metrics.bytes._value.get()


def test_a_file_is_complete_when_its_hour_is_over(make, tmp_path, clock):
    """The directory of an hour is whole soon after it."""
    writer = make(rotate_seconds=3600)
    writer.add([one(), one(at=AT + 1800)])
    clock.pass_by(1800)
    writer.rotate()

    assert [HOUR] == [str(p.parent.relative_to(tmp_path / "log")) for p in files(tmp_path)]


def test_a_file_is_complete_when_it_is_large(make, tmp_path):
    """Files do not grow without end."""
    writer = make()
    many = PredictRequest("sums", tensors=tensors(features=np.ones((500_000, 2))))
    for _ in range(3):
        writer.add([answered(many, {"sum": np.ones(500_000)})])

    assert 500_000 == read(files(tmp_path)[0]).num_rows
    writer.rotate(everything=True)
    assert 1_500_000 == sum(read(path).num_rows for path in files(tmp_path))


def test_many_requests_are_one_file(make, tmp_path):
    """What comes a little at a time is joined, in the order in which it came."""
    writer = make()
    for number in range(200):
        request = PredictRequest("sums", tensors=tensors(features=[[number, 0.0]]))
        writer.add([answered(request)])
    writer.rotate(everything=True)

    (path,) = files(tmp_path)
    assert list(range(200)) == read(path)["input_cpu"].to_pylist()


def test_versions_and_hours_have_files_of_their_own(make, tmp_path):
    """A file has requests of one version and one hour, and says of which."""
    writer = make(FakeManager(FakeModel("sums", (FakeVersion("1", metadata={"digest": "ab"}),))))
    writer.add([one(), one(version="2"), one(at=AT + 3600), one("other")])
    writer.rotate(everything=True)

    assert {
        HOUR,
        HOUR.replace("version=1", "version=2"),
        HOUR.replace("13", "14"),
        HOUR.replace("sums", "other"),
    } == {str(path.parent.relative_to(tmp_path / "log")) for path in files(tmp_path)}
    (own,) = (tmp_path / "log" / HOUR).iterdir()
    said = read(own).schema.metadata
    assert (b"sums", b"1", b"ab") == tuple(
        said[f"bundleserver.{key}".encode()] for key in ("model", "version", "digest")
    )


def test_failed_requests_are_in_a_file_with_all_columns(make, tmp_path):
    """Readers take the columns from the first file: it must not be one without payload."""
    writer = make()
    writer.add([failed(), one(), failed()])
    writer.rotate(everything=True)
    writer.add([failed()])
    writer.rotate(everything=True)

    first, second = map(read, files(tmp_path))
    assert {"ok": 1.0, "invalid_input": None} == dict(
        zip(first["outcome"].to_pylist(), first["input_cpu"].to_pylist(), strict=True)
    )
    assert (["invalid_input"], first.schema) == (second["outcome"].to_pylist(), second.schema)
    said = (first.schema.metadata, second.schema.metadata)
    assert [b"complete", b"none"] == [each[b"bundleserver.inputs"] for each in said]
    assert first.schema.field("input_cpu").metadata == second.schema.field("input_cpu").metadata
    found = pyarrow.dataset.dataset(tmp_path / "log", partitioning="hive")
    assert 4 == found.count_rows()
    assert "output_sum" in found.schema.names


@pytest.mark.parametrize(
    ("config", "version", "place"),
    [
        (ServingConfig(), None, "version=1"),
        (ServingConfig(), "1", "version=1"),
        (ServingConfig(), "stable", "version=1"),
        (ServingConfig(), "../../x", "version=~none"),
        (ServingConfig(traffic={"stable": 100.0}), None, "version=~none"),
    ],
)
def test_a_failed_request_is_with_the_version_that_it_asked_for(
    make, tmp_path, config, version, place
):
    """Where nobody knows which it would have got there is no version; nobody makes up a place."""
    model = FakeModel("sums", labels={"stable": "1"}, config=config)
    writer = make(FakeManager(model))
    writer.add([failed(version)])
    writer.rotate(everything=True)

    (path,) = files(tmp_path)
    assert place == path.relative_to(tmp_path / "log").parts[1]


def test_requests_without_ids_get_one(make, tmp_path):
    """Rows of one request have one id, and no two requests the same."""
    writer = make()
    named = one()
    named = named._replace(request=named.request._replace(id="mine"))
    writer.add([named, one(), one()])
    writer.rotate(everything=True)

    ids = read(files(tmp_path)[0])["request_id"].to_pylist()
    assert "mine" == ids[0]
    assert 3 == len(set(ids))


def test_a_value_that_is_no_column_is_dropped_and_told_once(make, tmp_path, metrics, caplog):
    """One bad request loses nothing but itself."""
    writer = make()
    bad = answered(PredictRequest("sums", rows=[["x", "y"]]))
    writer.add([bad, one(), bad])
    writer.rotate(everything=True)

    assert 1 == read(files(tmp_path)[0]).num_rows
    assert 2 == dropped(metrics, "unreadable")
    (line,) = [r.getMessage() for r in caplog.records]
    assert line.startswith("sums 1: a request cannot be logged: InvalidInput:")


def test_a_client_cannot_make_any_number_of_columns(make, tmp_path, metrics):
    """A lenient model takes any names; all of them are one file, up to so many."""
    writer = make()
    for number in range(MOST_ADDED + 5):
        request = PredictRequest("sums", tensors=tensors(**{f"x{number}": [1.0]}))
        writer.add([answered(request, signature=Signature())])
    writer.rotate(everything=True)

    (path,) = files(tmp_path)
    assert MOST_ADDED == read(path).num_rows
    assert 5 == dropped(metrics, "kinds")


def test_trouble_with_the_disk_is_one_warning_and_loses_nothing_at_first(
    make, tmp_path, clock, metrics, caplog
):
    """It is tried again, rarely, and what waits is written then."""
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "model=sums").write_text("in the way")
    writer = make(rotate_seconds=1)
    for _ in range(20):
        writer.add([one()])
        clock.pass_by(1)
        writer.rotate()
    told = [r.getMessage() for r in caplog.records]
    failing = metrics.failing._value.get()
    (tmp_path / "log" / "model=sums").unlink()
    clock.pass_by(30)
    writer.rotate()

    assert (1, 1.0) == (len(told), failing)
    assert "cannot be written: " in told[0]
    assert (
        caplog.records[-1].getMessage().endswith("written again; 0 requests were dropped meanwhile")
    )
    assert (20, 0.0) == (metrics.rows._value.get(), metrics.failing._value.get())


def test_memory_is_bounded_while_the_disk_takes_nothing(make, tmp_path, clock, metrics):
    """What does not fit is dropped and counted."""
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "model=sums").write_text("in the way")
    writer = make()
    many = PredictRequest("sums", tensors=tensors(features=np.ones((200_000, 2))))
    for hour in range(10):
        writer.add([answered(many, {"sum": np.ones(200_000)}, at=AT + 3600 * hour)])
        clock.pass_by(1)
        writer.rotate()

    assert KEPT_BYTES >= sum(buffer.size for buffer in writer._buffers.values())
    assert 10 > dropped(metrics, "disk") > 3
    writer.rotate(everything=True)
    assert 10 == dropped(metrics, "disk")


def test_how_many_requests_are_lost_at_the_end_is_told(make, tmp_path, caplog):
    """Also of those that were dropped before."""
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "model=sums").write_text("in the way")
    writer = make()
    writer.add([one(), one(), failed()])
    writer.rotate(everything=True)

    assert f"'{tmp_path}/log' cannot be written: 3 requests are lost" in caplog.text


def test_a_directory_that_vanished_is_told(make, tmp_path, caplog):
    """Somebody took the files away; the log goes on."""
    writer = make()
    writer.add([one()])
    writer.rotate(everything=True)
    before = caplog.text
    shutil.rmtree(tmp_path / "log")
    writer.add([one()])
    writer.rotate(everything=True)

    assert "" == before
    assert f"'{tmp_path}/log' is gone; it is created again" in caplog.text
    assert 1 == len(files(tmp_path))


def test_nothing_is_left_of_a_file_that_cannot_be_written(make, tmp_path, monkeypatch, clock):
    """A full disk does not fill up with beginnings."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    writer = make()
    monkeypatch.setattr(os, "fsync", full)
    writer.add([one()])
    writer.rotate(everything=True)

    assert [] == [path for path in (tmp_path / "log").rglob("*") if path.is_file()]


def test_a_file_system_without_locks_is_good_enough(make, tmp_path, monkeypatch):
    """Some volumes have neither locks nor directories that can be flushed."""

    def unsupported(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    real = os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda fd: unsupported() if stat.S_ISDIR(os.fstat(fd).st_mode) else real(fd)
    )
    writer = make()
    writer.add([one()])
    writer.rotate(everything=True)

    assert 1 == len(files(tmp_path))


def test_payloads_are_for_the_servers_user_and_group(make, tmp_path):
    """Nobody else reads them, and the umask takes away more."""
    before = os.umask(0)
    try:
        writer = make()
        writer.add([one()])
        writer.rotate(everything=True)
    finally:
        os.umask(before)

    (path,) = files(tmp_path)
    modes = [stat.S_IMODE(found.stat().st_mode) for found in (path, path.parent, tmp_path / "log")]
    assert [0o640, 0o750, 0o750] == modes


def test_the_oldest_files_make_room(make, tmp_path, clock, metrics):
    """The directory keeps its bound; what others put there is not touched."""
    other = tmp_path / "log" / "model=sums" / "notes.parquet"
    other.parent.mkdir(parents=True)
    other.write_bytes(b"x" * 100_000)
    writer = make(max_bytes=10_000, rotate_seconds=1)
    for hour in range(6):
        writer.add([one(at=AT + 3600 * hour)])
        clock.pass_by(3600)
        writer.rotate()

    left = [path for path in files(tmp_path) if path != other]
    assert 10_000 >= sum(path.stat().st_size for path in left)
    assert 0 < len(left) < 6
    assert HOUR not in {str(path.parent.relative_to(tmp_path / "log")) for path in left}
    assert not (tmp_path / "log" / HOUR).exists()
    assert other.exists()
    assert metrics.removed._value.get() > 0


def test_what_a_dead_process_began_is_removed(make, tmp_path, caplog):
    """A file that a process holds, or that is new, may still become complete."""
    hour = tmp_path / "log" / HOUR
    hour.mkdir(parents=True)
    old, new, held, other = (
        hour / begun_name(file_name(AT, "1f2e3d4c", number)) for number in range(4)
    )
    other = hour / ".other.parquet.tmp"
    for path in (old, new, held, other):
        path.write_bytes(b"PAR1")
    for path in (old, held, other):
        os.utime(path, (AT - 1e6, AT - 1e6))
    with held.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        make().begin()

    assert {new, held, other} == set(hour.iterdir())
    assert f"removed '{old}'" in caplog.text


def test_names_that_no_model_has_are_told_once(make, caplog):
    """A misspelt name would log nothing, silently."""
    writer = make(columns=("cpu", "memorie", "features"))
    writer.rotate()
    writer.rotate()

    assert ["--log_columns: no model has an input 'memorie'; did you mean 'memory'?"] == [
        record.getMessage() for record in caplog.records
    ]


def test_names_are_not_judged_before_there_are_models(make, caplog):
    """A server without models does not know yet."""
    make(FakeManager(), columns=("cpu",)).rotate()

    assert [] == caplog.records


def test_a_file_has_another_name_in_every_process(tmp_path):
    """Worker processes and replicas share a directory."""
    table = pyarrow.table({"x": [1]})
    place = Place("m", "1", "2026-11-29T13")
    for _ in range(3):
        LogFiles(tmp_path).write(place, table)

    assert 3 == len(files(tmp_path))
