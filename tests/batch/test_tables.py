from __future__ import annotations

import fcntl
import json
import os
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.ipc as ipc
import pyarrow.parquet as parquet
import pytest

from bundleserver.batch.tables.columnar import ParquetReader
from bundleserver.batch.tables.formats import ARROW, CSV, FORMATS, JSON_LINES, PARQUET
from bundleserver.batch.tables.pieces import Wanted
from bundleserver.batch.tables.reading import open_reader
from bundleserver.batch.tables.sinks import check_carried
from bundleserver.batch.tables.writing import TableWriter
from bundleserver.errors import InvalidInput, StoreError


def written(batches: list[pa.RecordBatch], path: Path, form=CSV) -> Path:
    """Write batches to a file."""
    writer = TableWriter(str(path), form)
    for batch in batches:
        writer.write(batch)
    writer.complete()
    return path


def rows_of(path: Path) -> list[dict[str, object]]:
    """Read a Parquet file's rows with the reader."""
    reader = ParquetReader(str(path))
    try:
        pieces = reader.pieces(Wanted(tuple(reader.schema.names)), None)
        return [row for piece in pieces for row in piece.batch.to_pylist()]
    finally:
        reader.close()


def number_table(path: Path, **given) -> bytearray:
    """Write a hundred numbers to a Parquet file whose bytes can be found, and return them."""
    table = pa.table({"a": [n + 0.125 for n in range(100)], "id": range(100)})
    plain = {"compression": "none", "use_dictionary": False, "write_statistics": False}
    parquet.write_table(table, path, **plain, **given)
    return bytearray(path.read_bytes())


def test_a_flipped_bit_of_a_page_with_a_checksum_is_damage(tmp_path):
    """Checksums are compared where a file has them."""
    data = number_table(tmp_path / "data.parquet", write_page_checksum=True)
    data[data.index(pa.array([50.125]).buffers()[1].to_pybytes()[:8]) + 6] ^= 0x10
    (tmp_path / "data.parquet").write_bytes(data)

    with pytest.raises(InvalidInput, match=r"data.parquet' is damaged"):
        rows_of(tmp_path / "data.parquet")


@pytest.mark.parametrize("places", [(0,), (-1,), (0, -1)])
def test_numbers_of_rows_that_differ_are_damage(tmp_path, places):
    """Those of the file, of a row group and of its columns are compared."""
    data = number_table(tmp_path / "data.parquet")
    assert 100 == len(rows_of(tmp_path / "data.parquet"))
    footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    hundred, fifty = b"\xc8\x01", b"\xe4\x00"  # zigzag, both in two bytes
    found = [at for at in range(footer, len(data)) if data[at : at + 2] == hundred]
    for place in places:
        data[found[place] : found[place] + 2] = fifty
    (tmp_path / "data.parquet").write_bytes(data)

    with pytest.raises(InvalidInput, match="is damaged: it says that there are"):
        rows_of(tmp_path / "data.parquet")


@pytest.mark.parametrize("form", [PARQUET, ARROW])
def test_a_pipe_is_not_read_by_position(tmp_path, form):
    """The message has its name, and nothing waits for it."""
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(InvalidInput, match=r"pipe' is not a regular file, and .* by position"):
        open_reader(str(tmp_path / "pipe"), form)


KEPT = {
    "categories": pa.array(["x", "y"]).dictionary_encode(),
    "views": pa.array(["x", "y"], pa.string_view()),
    "decimals": pa.array([Decimal("1.10"), None]),
    "lists": pa.array([["x"], None]),
    "moments": pa.array([1, None], pa.timestamp("us", "UTC")),
    "nothing": pa.nulls(2),
}


@pytest.mark.parametrize("form", [one for one in FORMATS if not one.endswith("gz")])
@pytest.mark.parametrize("name", KEPT)
def test_columns_are_carried_to_every_format(tmp_path, name, form):
    """What a format lacks becomes what it has, with the same values."""
    batch = pa.RecordBatch.from_arrays([KEPT[name]], ["k"])
    check_carried(batch.schema, ["k"], FORMATS[form], "--keep")

    path = written([batch, batch], tmp_path / f"s.{form}", FORMATS[form])

    reader = open_reader(str(path), FORMATS[form])
    assert 4 == sum(p.batch.num_rows for p in reader.pieces(Wanted(("k",)), None))
    reader.close()


def test_categories_may_differ_between_batches(tmp_path):
    """A file of Arrow has them as strings."""
    parts = [pa.array([text]).dictionary_encode() for text in ("x", "y")]
    batches = [pa.RecordBatch.from_arrays([part], ["k"]) for part in parts]

    lists = [pa.ListArray.from_arrays(pa.array([0, 1], pa.int32()), part) for part in parts]
    nested = [pa.RecordBatch.from_arrays([part], ["k"]) for part in lists]

    path = written(batches, tmp_path / "s.arrow", ARROW)
    other = written(nested, tmp_path / "n.arrow", ARROW)

    assert ["x", "y"] == ipc.open_file(path).read_all()["k"].to_pylist()
    assert [["x"], ["y"]] == ipc.open_file(other).read_all()["k"].to_pylist()


@pytest.mark.parametrize("form", [CSV, JSON_LINES])
@pytest.mark.parametrize(
    "kind", [pa.binary(), pa.list_(pa.large_binary()), pa.struct([("x", pa.binary(3))])]
)
def test_bytes_are_refused_where_a_format_has_text(form, kind):
    """Before anything is written, with the column's name."""
    table = pa.schema([("id", pa.int64()), ("k", kind)])
    check_carried(table, ["k"], PARQUET, "--keep")

    with pytest.raises(InvalidInput, match=f"--keep: column 'k' is .*, which {form.name} does"):
        check_carried(table, ["id", "k"], form, "--keep")


def test_infinities_are_null_in_json_lines(tmp_path):
    """As in V1 and V2; other formats have them."""
    batch = pa.RecordBatch.from_pydict({"x": [float("inf"), float("nan"), 1.5]})

    lines = written([batch], tmp_path / "s.jsonl", JSON_LINES).read_text().splitlines()
    table = arrow_csv.read_csv(written([batch], tmp_path / "s.csv"))

    assert [None, None, 1.5] == [json.loads(line)["x"] for line in lines]
    assert float("inf") == table["x"][0].as_py()


def test_what_is_no_file_is_never_replaced(tmp_path):
    """Devices, pipes and links are refused, --force or not."""
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    os.mkfifo(tmp_path / "pipe")
    places = {
        str(tmp_path / "link"): "is a symbolic link to '.*file'; give that name",
        str(tmp_path / "pipe"): "is a device or a pipe",
        os.devnull: "is a device or a pipe",
        "/dev/stdout": "is standard output; write it as '-'",
    }
    for place, says in places.items():
        with pytest.raises(StoreError, match=says):
            TableWriter(place, CSV, force=True)
    assert ["file", "link", "pipe"] == sorted(path.name for path in tmp_path.iterdir())
    assert (tmp_path / "link").is_symlink()


def test_files_of_runs_that_were_killed_are_removed(tmp_path):
    """Those of a run that is alive stay, and so do other names."""
    left, alive, other = (
        tmp_path / f".s.csv.{n}.part" for n in ("0" * 8, "1" * 8, "no-file-of-ours")
    )
    for path in (left, alive, other):
        path.write_text("half")
    with alive.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        writer = TableWriter(str(tmp_path / "s.csv"), CSV)
        second = TableWriter(str(tmp_path / "s.csv"), CSV)

        parts = set(tmp_path.iterdir())
        writer.abandon()
        second.abandon()
    assert {alive, other} < parts
    assert left not in parts
    assert 4 == len(parts)
