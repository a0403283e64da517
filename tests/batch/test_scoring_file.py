from __future__ import annotations

import gzip
import json
import os
import signal
from pathlib import Path

import numpy as np
import orjson
import pandas as pd
import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.feather as feather
import pyarrow.ipc as ipc
import pyarrow.parquet as parquet
import pytest
from statsmodels.tsa.arima.model import ARIMA

from bundleserver import BundleStore
from bundleserver.batch.jobs import pool as pools
from bundleserver.batch.jobs import running
from bundleserver.batch.jobs.running import Scoring
from bundleserver.batch.jobs.scoring_file import Place, score_file
from bundleserver.batch.models import Local
from bundleserver.batch.tables.formats import format_of
from bundleserver.errors import BundleServerError, InvalidInput, StoreError
from tests.batch.saved import CASES, IDS, forest, pipeline, save, strict


@pytest.fixture(scope="module")
def directory(tmp_path_factory) -> Path:
    """Save a forest."""
    return save(forest(), tmp_path_factory.mktemp("forest"))


@pytest.fixture(scope="module")
def linear(tmp_path_factory) -> Path:
    """Save a model with declared inputs, which refuses missing values."""
    return save(strict(), tmp_path_factory.mktemp("strict"))


def place(path: Path) -> Place:
    """Return a file and its format by suffix."""
    return Place(str(path), format_of(str(path), None, "--format"))


def run(model: Path, source: Path, output: Path, rejects: Path | None = None, **more):
    """Score a file."""
    force, say = more.pop("force", False), more.pop("say", lambda line: None)
    keep = tuple(more.pop("keep", ("id",)))
    aside = None if rejects is None else place(rejects)
    scoring = Scoring(Local(model), keep=keep, **more)
    return score_file(scoring, place(source), place(output), aside, force=force, say=say)


def write(table: pa.Table, path: Path) -> Path:
    """Write a table in the format of its suffix."""
    name = path.name
    if name.endswith(".parquet"):
        parquet.write_table(table, path, row_group_size=50)
    elif ".csv" in name:
        sink = gzip.open if name.endswith(".gz") else open
        with sink(path, "wb") as file:
            arrow_csv.write_csv(table, file)
    elif ".jsonl" in name:
        sink = gzip.open if name.endswith(".gz") else open
        with sink(path, "wb") as file:
            file.writelines(orjson.dumps(row) + b"\n" for row in table.to_pylist())
    elif name.endswith(".arrows"):
        with ipc.new_stream(str(path), table.schema) as writer:
            writer.write_table(table, max_chunksize=37)
    else:
        feather.write_feather(table, str(path))
    return path


def read(path: Path) -> pa.Table:
    """Read a table in the format of its suffix."""
    name = path.name
    if name.endswith(".parquet"):
        return parquet.read_table(path)
    if ".csv" in name:
        return arrow_csv.read_csv(path)
    if ".jsonl" in name:
        opener = gzip.open if name.endswith(".gz") else open
        with opener(path, "rb") as file:
            return pa.Table.from_pylist([json.loads(line) for line in file])
    if name.endswith(".arrows"):
        return ipc.open_stream(path.read_bytes()).read_all()
    return feather.read_table(str(path))


def names_in(directory: Path) -> list[str]:
    """List a directory."""
    return sorted(path.name for path in directory.iterdir())


FORMATS = ("parquet", "csv", "csv.gz", "jsonl", "jsonl.gz", "feather", "arrow", "arrows")


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_is_read_and_written(tmp_path, directory, form):
    """The scores are the library's, in the order of the rows, whatever the format."""
    case = forest()
    source = write(case.arrow(), tmp_path / f"data.{form}")

    done = run(directory, source, tmp_path / f"scores.{form}", batch_rows=50)

    scores = read(tmp_path / f"scores.{form}")
    assert ["id", "output-0"] == scores.column_names
    assert IDS.tolist() == scores.column("id").to_pylist()
    assert case.expected.tolist() == scores.column("output-0").to_pylist()
    assert (120, 120, 0) == (done.counts.read, done.counts.written, done.counts.rejected)
    assert 1 == len(list(tmp_path.glob("scores*")))
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_lists_of_numbers_keep_their_bits(tmp_path, form):
    """Probabilities are lists; in CSV they are JSON."""
    case = CASES["probabilities"]()
    model = save(case, tmp_path)
    source = write(case.arrow(), tmp_path / f"data.{form}")

    run(model, source, tmp_path / f"scores.{form}", method="predict_proba")

    column = read(tmp_path / f"scores.{form}").column("predict_proba").to_pylist()
    values = [json.loads(one) if isinstance(one, str) else one for one in column]
    assert (case.expected == np.array(values)).all()


def test_strings_of_csv_stay_strings(tmp_path):
    """A column of strings may have "01", and keys are carried through as they stand."""
    case = pipeline()
    model = save(case, tmp_path)
    table = case.table.assign(id=[f"{number:05}" for number in IDS])
    table.to_csv(tmp_path / "data.csv", index=False)

    run(model, tmp_path / "data.csv", tmp_path / "scores.parquet", method="predict_proba")

    scores = read(tmp_path / "scores.parquet")
    assert table["id"].to_list() == scores.column("id").to_pylist()
    assert (case.expected == np.array(scores.column("predict_proba").to_pylist())).all()


@pytest.mark.parametrize("jobs", [1, 2])
def test_jobs_change_no_bit_and_no_order(tmp_path, linear, jobs):
    """Batches have the same rows whatever the number of processes, and come out in order."""
    case = strict()
    whole = write(case.arrow(), tmp_path / "data.parquet")

    run(linear, whole, tmp_path / "scores.parquet", jobs=jobs, batch_rows=7)

    scores = read(tmp_path / "scores.parquet")
    assert IDS.tolist() == scores.column("id").to_pylist()
    assert case.expected.tolist() == scores.column("output-0").to_pylist()


def test_the_output_says_which_version_made_it(tmp_path, directory):
    """Parquet has model, version and digest in its metadata, which pandas reads without."""
    source = write(forest().arrow(), tmp_path / "data.parquet")

    done = run(directory, source, tmp_path / "scores.parquet")

    metadata = parquet.read_schema(tmp_path / "scores.parquet").metadata
    facts = {key.decode().rpartition(".")[2]: value.decode() for key, value in metadata.items()}
    assert done.counts.facts == {k: facts[k] for k in ("model", "version", "digest")}
    assert ["id", "output-0"] == list(pd.read_parquet(tmp_path / "scores.parquet"))


def with_bad_rows(table: pa.Table) -> pa.Table:
    """Put values into rows 4, 51 and 120 that the model refuses."""
    values = table.column("b").to_pylist()
    values[3] = values[50] = None
    values[119] = 1e300
    return table.set_column(table.column_names.index("b"), "b", pa.array(values))


def test_the_first_bad_row_ends_a_run(tmp_path, linear):
    """It is named by its number, and nothing has the output's name."""
    source = write(with_bad_rows(strict().arrow()), tmp_path / "data.parquet")
    said: list[str] = []

    with pytest.raises(InvalidInput) as error:
        run(linear, source, tmp_path / "scores.parquet", batch_rows=40, say=said.append)

    assert str(error.value).startswith(f"'{source}': row 4: ")
    assert "'NaN'" in str(error.value) or "NaN" in str(error.value)
    assert "was not written; --rejects FILE puts such rows aside" in str(error.value)
    assert [f"stopped after row 3 of '{source}'"] == said
    assert ["data.parquet"] == names_in(tmp_path)


@pytest.mark.parametrize("form", ["parquet", "csv", "jsonl"])
def test_bad_rows_go_to_a_file_of_their_own(tmp_path, linear, form):
    """Each has its number, the reason and its columns; all others are scored as if it was not."""
    case = strict()
    source = write(with_bad_rows(case.arrow()), tmp_path / f"data.{form}")

    done = run(
        linear,
        source,
        tmp_path / "scores.parquet",
        tmp_path / f"bad.{form}",
        batch_rows=40,
        jobs=2,
    )

    bad, scores = read(tmp_path / f"bad.{form}"), read(tmp_path / "scores.parquet")
    good = [row for row in range(120) if row not in (3, 50, 119)]
    assert [4, 51, 120] == bad.column("row").to_pylist()
    assert ["row", "reason", *case.arrow().column_names] == bad.column_names
    assert [1003, 1050, 1119] == [int(one) for one in bad.column("id").to_pylist()]
    assert "NaN" in bad.column("reason")[0].as_py()
    assert "1e+300" in bad.column("reason")[2].as_py()
    assert case.expected[good].tolist() == scores.column("output-0").to_pylist()
    assert (120, 117, 3) == (done.counts.read, done.counts.written, done.counts.rejected)


def test_a_file_of_rejected_rows_is_written_without_any(tmp_path, directory):
    """A script finds it, with its columns."""
    source = write(forest().arrow(), tmp_path / "data.parquet")

    run(directory, source, tmp_path / "scores.parquet", tmp_path / "bad.parquet")

    assert 0 == read(tmp_path / "bad.parquet").num_rows
    assert ["row", "reason"] == read(tmp_path / "bad.parquet").column_names[:2]


def test_text_that_is_no_number_is_a_bad_row(tmp_path, directory):
    """Nothing is guessed: neither a word, nor a comma, nor a row with another number of values."""
    lines = ["id,a,b,c", "1,1,2,3", "2,one,2,3", '3,"1,5",2,3', "4,1,2", "5,1,,3", "6,1,2,3,4"]
    (tmp_path / "data.csv").write_text("\n".join(lines))

    run(directory, tmp_path / "data.csv", tmp_path / "scores.csv", tmp_path / "bad.jsonl")

    bad = read(tmp_path / "bad.jsonl")
    assert [2, 3, 4, 6] == bad.column("row").to_pylist()
    assert [
        "column 'a' has 'one'; expected FP64",
        "column 'a' has '1,5'; expected FP64",
        "has 3 values; expected 4",
        "has 5 values; expected 4",
    ] == bad.column("reason").to_pylist()
    assert [1, 5] == read(tmp_path / "scores.csv").column("id").to_pylist()


def test_lines_that_are_no_rows_are_bad_rows(tmp_path, directory):
    """JSON of another kind, no JSON, and a row without a column."""
    lines = [
        '{"id": 1, "a": 1, "b": 2.5, "c": 3}',
        '{"id": 2, "a": "1", "b": 2, "c": 3}',
        "[1, 2, 3]",
        "{",
        '{"id": 5, "a": 1, "b": 2}',
        '{"id": 6, "a": true, "b": 2, "c": 3}',
        '{"id": 7, "a": null, "b": 2, "c": 3, "more": {"x": 1}}',
        '{"id": 8, "a": 9007199254740993, "b": 2.5, "c": 3}',
    ]
    (tmp_path / "data.jsonl").write_text("\n".join(lines))

    run(directory, tmp_path / "data.jsonl", tmp_path / "scores.jsonl", tmp_path / "bad.parquet")

    bad = read(tmp_path / "bad.parquet")
    reasons = dict(zip(bad["row"].to_pylist(), bad["reason"].to_pylist(), strict=True))
    assert [1, 7, 8] == read(tmp_path / "scores.jsonl").column("id").to_pylist()
    assert [2, 3, 4, 5, 6] == list(reasons)
    assert reasons[2].startswith("column 'a' has the string '1'; expected a number")
    assert "is not a JSON object" == reasons[3]
    assert reasons[4].startswith("is not valid JSON")
    assert "has no 'c'" == reasons[5]
    assert reasons[6].startswith("column 'a' has true; expected a number")


def test_no_rows_make_a_table_without_rows(tmp_path, directory):
    """Its columns are those that it would have."""
    source = write(forest().arrow().slice(0, 0), tmp_path / "data.parquet")

    run(directory, source, tmp_path / "scores.parquet")

    assert ["id", "output-0"] == read(tmp_path / "scores.parquet").column_names
    assert pa.int64() == read(tmp_path / "scores.parquet").schema.field("output-0").type


def test_existing_files_stay_without_force(tmp_path, directory):
    """A run neither begins nor ends by replacing one."""
    source = write(forest().arrow(), tmp_path / "data.parquet")
    (tmp_path / "scores.parquet").write_text("mine")

    with pytest.raises(StoreError, match="already exists; use --force to replace it"):
        run(directory, source, tmp_path / "scores.parquet")
    assert "mine" == (tmp_path / "scores.parquet").read_text()

    run(directory, source, tmp_path / "scores.parquet", force=True)
    assert 120 == read(tmp_path / "scores.parquet").num_rows


@pytest.mark.parametrize(
    ("output", "rejects", "says"),
    [
        ("data.parquet", None, "--output and --input are the same file"),
        ("link.parquet", None, "--output and --input are the same file"),
        ("s.parquet", "./s.parquet", "--rejects and --output are the same file"),
        ("s.parquet", "data.parquet", "--rejects and --input are the same file"),
        ("folder", None, "is a directory"),
        ("none/s.parquet", None, "cannot be written: No such file or directory"),
    ],
)
def test_two_uses_of_a_file_are_refused(tmp_path, directory, output, rejects, says):
    """The input is never replaced, whatever its name, and the output is a file's name."""
    source = write(forest().arrow(), tmp_path / "data.parquet")
    (tmp_path / "link.parquet").symlink_to(source)
    (tmp_path / "folder").mkdir()
    before = source.read_bytes()
    aside = None if rejects is None else place(tmp_path / rejects)
    where = Place(str(tmp_path / output), format_of("x.parquet", None, ""))

    with pytest.raises(StoreError, match=says):
        score_file(Scoring(Local(directory)), place(source), where, aside, force=True)
    assert before == source.read_bytes()


def cut(data: bytes) -> bytes:
    """Cut a file short."""
    return data[: len(data) // 2]


def flipped(data: bytes) -> bytes:
    """Flip bits of the values."""
    middle = len(data) // 3
    return (
        data[:middle]
        + bytes(one ^ 0xFF for one in data[middle : middle + 64])
        + data[middle + 64 :]
    )


@pytest.mark.parametrize("form", ["parquet", "csv.gz", "jsonl.gz", "feather", "arrows"])
@pytest.mark.parametrize("damage", [cut, lambda data: b"", lambda data: b"<html>" * 99])
def test_damaged_files_are_refused(tmp_path, directory, form, damage):
    """The file is named, and nothing is left."""
    source = write(forest().arrow(), tmp_path / f"data.{form}")
    source.write_bytes(damage(source.read_bytes()))

    with pytest.raises((BundleServerError, OSError)) as error:
        run(directory, source, tmp_path / "scores.parquet")

    assert str(source) in str(error.value)
    assert [source.name] == names_in(tmp_path)


@pytest.mark.parametrize("form", ["parquet", "feather", "arrows", "csv.gz", "jsonl.gz"])
def test_forged_files_harm_nobody(tmp_path, directory, form):
    """Bits that are flipped are found, or are other numbers; the process survives."""
    source = write(forest().arrow(), tmp_path / f"data.{form}")
    source.write_bytes(flipped(source.read_bytes()))
    try:
        done = run(directory, source, tmp_path / "scores.parquet")
    except (BundleServerError, OSError):
        assert not (tmp_path / "scores.parquet").exists()
    else:
        assert done.counts.read == read(tmp_path / "scores.parquet").num_rows


def test_offsets_that_lead_out_of_a_batch_are_refused(tmp_path):
    """Arrow's batches are validated before anything of them is used."""
    model = save(CASES["text"](), tmp_path)
    source = write(pa.table({"text": ["x" * 1000, "y" * 17]}), tmp_path / "data.arrows")
    honest, forged = (np.array([0, 1000, end], np.int32).tobytes() for end in (1017, 1 << 30))
    assert 1 == source.read_bytes().count(honest)
    source.write_bytes(source.read_bytes().replace(honest, forged))

    with pytest.raises(InvalidInput, match="is damaged"):
        run(model, tmp_path / "data.arrows", tmp_path / "s.parquet", keep=())


def test_a_process_that_dies_ends_the_run(tmp_path, directory, monkeypatch):
    """The message says how it ended, and what to do; nothing is left."""
    source = write(forest().arrow(), tmp_path / "data.parquet")
    began = pools.Worker.begin

    def begin(worker, task):
        if task.number == 1:
            os.kill(worker.process.pid, signal.SIGKILL)
            worker.process.wait()
        began(worker, task)

    monkeypatch.setattr(pools.Worker, "begin", begin)

    with pytest.raises(BundleServerError, match="a worker process ended with SIGKILL while scori"):
        run(directory, source, tmp_path / "scores.parquet", batch_rows=30)
    assert ["data.parquet"] == names_in(tmp_path)


def test_an_interrupted_run_leaves_nothing(tmp_path, directory, monkeypatch):
    """Ctrl-C ends all processes, says where the run stopped, and no file is half there."""
    source = write(forest().arrow(), tmp_path / "data.parquet")
    told: list[str] = []
    wrote = running._Run._write

    def interrupted(run, piece, done):
        wrote(run, piece, done)
        raise KeyboardInterrupt

    monkeypatch.setattr(running._Run, "_write", interrupted)

    with pytest.raises(KeyboardInterrupt):
        run(directory, source, tmp_path / "scores.parquet", batch_rows=30, say=told.append)
    assert [f"stopped after row 30 of '{source}'"] == told
    assert ["data.parquet"] == names_in(tmp_path)


def test_a_model_that_cannot_be_opened_is_said(tmp_path):
    """The worker process's error is the command's."""
    source = write(forest().arrow(), tmp_path / "data.parquet")

    with pytest.raises(BundleServerError, match="does not exist"):
        run(tmp_path / "none", source, tmp_path / "scores.parquet")


def test_a_missing_column_is_said_before_anything_is_written(tmp_path, directory):
    """Whatever the size of the table."""
    source = write(forest().arrow().drop_columns(["a"]), tmp_path / "data.csv")

    with pytest.raises(InvalidInput, match="missing column 'a'"):
        run(directory, source, tmp_path / "scores.parquet")


def test_one_huge_row_group_is_read_in_parts(tmp_path, directory):
    """Pieces follow from the width of a row, and not from how the file was written."""
    from bundleserver.batch.tables.columnar import ParquetReader
    from bundleserver.batch.tables.pieces import Wanted

    numbers = np.random.default_rng(0).normal(size=200_000)
    table = pa.table(dict.fromkeys("abc", numbers))
    parquet.write_table(table, tmp_path / "data.parquet", row_group_size=len(table))
    reader = ParquetReader(str(tmp_path / "data.parquet"))

    pieces = [piece.batch for piece in reader.pieces(Wanted(("c", "a")), None)]

    reader.close()
    assert [65_536, 65_536, 65_536, 3_392] == [piece.num_rows for piece in pieces]
    assert ["c", "a"] == pieces[0].schema.names


def test_wide_rows_make_smaller_batches(tmp_path):
    """A batch has a bounded size, whatever its rows."""
    from bundleserver.batch.tables.pieces import MOST_ROWS, rows_for

    assert MOST_ROWS == rows_for(100)
    assert 6_710 == rows_for(10_000)


@pytest.mark.parametrize(
    "text",
    ["a" * 200_000 + ",b\n1,2\n", "a,b,c\n1," + "2" * (9 << 20) + ",3\n", "a,b,c\n1,\x00,3\n"],
)
def test_hostile_text_is_refused(tmp_path, directory, text):
    """Long names, rows longer than any block, and bytes that are no text."""
    (tmp_path / "data.csv").write_text(text)

    with pytest.raises(InvalidInput) as error:
        run(directory, tmp_path / "data.csv", tmp_path / "scores.csv", keep=())

    assert str(tmp_path / "data.csv") in str(error.value)
    assert len(str(error.value)) < 2000
    assert ["data.csv"] == names_in(tmp_path)


@pytest.mark.parametrize("text", ["id,a,b,c\n", "id,a,b,c", "\ufeffid,a,b,c\r\n"])
def test_a_header_alone_is_a_table_without_rows(tmp_path, directory, text):
    """A table of no rows comes out, in the other format."""
    (tmp_path / "data.csv").write_text(text, newline="")

    run(directory, tmp_path / "data.csv", tmp_path / "scores.jsonl", tmp_path / "bad.csv")

    assert "" == (tmp_path / "scores.jsonl").read_text()
    assert ["row", "reason", "id", "a", "b", "c"] == read(tmp_path / "bad.csv").column_names


EMPTY_LINES = {
    "in between": ("id,a,b,c\n1,1,1,1\n\n3,1,1,1\n", [2]),
    "at the end": ("id,a,b,c\r\n1,1,1,1\r\n2,1,1,1\r\n\r\n", [3]),
    "before a row that is short": ("id,a,b,c\n\n\n3\n4,1,1,1", [1, 2, 3]),
    "inside quotes": ('id,a,b,c\n"1\n\n",1,1,1\n2,x,1,1\n', [2]),
}


@pytest.mark.parametrize("name", EMPTY_LINES)
def test_an_empty_line_of_csv_is_a_row(tmp_path, linear, name):
    """It has nulls, and the rows behind it keep their numbers."""
    text, rows = EMPTY_LINES[name]
    (tmp_path / "data.csv").write_text(text, newline="")

    run(linear, tmp_path / "data.csv", tmp_path / "scores.csv", tmp_path / "bad.csv")

    assert rows == read(tmp_path / "bad.csv").column("row").to_pylist()


def test_empty_lines_of_one_column_are_nulls(tmp_path):
    """What Arrow writes for a null is read as one."""
    from bundleserver.batch.tables.csv_text import CsvReader
    from bundleserver.batch.tables.formats import CSV
    from bundleserver.batch.tables.pieces import Wanted

    (tmp_path / "data.csv").write_text("a\n1\n\n3\n\n")
    reader = CsvReader(str(tmp_path / "data.csv"), CSV)

    pieces = [piece.batch.column(0).to_pylist() for piece in reader.pieces(Wanted(("a",)), None)]

    reader.close()
    assert [["1", None, "3", None]] == pieces


@pytest.mark.parametrize(
    "text",
    [
        'id,a,b,c\n1,1,1,1\n2,1,1,"1\n3,1,1,1\n',
        'id,a,b,c\n1,1,1,1\n"2,1,1,1\n3,1,1,1\n',
        'id,a,b,c\n1,1,1,"1',
        'id,a,b,"c\n1,1,1,1\n',
    ],
)
def test_quotes_that_are_never_closed_are_damage(tmp_path, directory, text):
    """A file that was cut off is refused, and its end is not one long value."""
    (tmp_path / "data.csv").write_text(text)

    with pytest.raises(InvalidInput, match=r"is damaged: it ends inside quotes|is not valid CSV"):
        run(directory, tmp_path / "data.csv", tmp_path / "scores.csv", tmp_path / "bad.csv")
    assert ["data.csv"] == names_in(tmp_path)


def test_long_text_is_read_in_every_row(tmp_path, directory):
    """The first row is like the others."""
    text = "x" * 200_000
    (tmp_path / "data.csv").write_text(f"id,a,b,c\n{text},1,1,1\n{text},1,1,1\n")

    done = run(directory, tmp_path / "data.csv", tmp_path / "scores.parquet")

    assert 2 == done.counts.written


def test_an_empty_first_line_is_said(tmp_path, directory):
    """The file is not empty."""
    (tmp_path / "data.csv").write_text("\nid,a,b,c\n1,1,1,1\n")

    with pytest.raises(InvalidInput, match="has an empty first line; expected CSV whose first"):
        run(directory, tmp_path / "data.csv", tmp_path / "scores.csv")


def test_forecasts_are_rows_of_a_file(tmp_path):
    """Questions in CSV, an answer of several rows for each, and a question that is none."""
    series = np.cumsum(np.random.default_rng(0).normal(size=60))
    BundleStore(tmp_path).save("sales", ARIMA(series, order=(1, 0, 0)).fit())
    (tmp_path / "data.csv").write_text("sku,horizon,level\nx,2,0.5\ny,0,\nz,1,\n")
    source, output, bad = (tmp_path / name for name in ("data.csv", "s.csv", "bad.csv"))

    done = run(tmp_path / "sales", source, output, bad, keep=("sku",))

    scores = read(output)
    assert ["sku", "step", "mean", "lower", "upper"] == scores.column_names
    assert ["x", "x", "z"] == scores.column("sku").to_pylist()
    assert [1, 2, 1] == scores.column("step").to_pylist()
    assert (3, 3, 1) == (done.counts.read, done.counts.written, done.counts.rejected)
    assert [2] == read(bad).column("row").to_pylist()
