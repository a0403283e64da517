from __future__ import annotations

import json
import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.ipc as ipc
import pyarrow.parquet as parquet
import pytest

from tests.batch.saved import IDS, forest, save
from tests.end_to_end.processes import BUNDLESERVER, command, environment


@pytest.fixture(scope="module")
def directory(tmp_path_factory) -> Path:
    """Save a forest."""
    return save(forest(), tmp_path_factory.mktemp("forest"))


@pytest.fixture
def source(tmp_path) -> Path:
    """Write a table."""
    parquet.write_table(forest().arrow(), tmp_path / "data.parquet")
    return tmp_path / "data.parquet"


def test_a_table_is_scored_and_summed_up(tmp_path, directory, source):
    """One line says how many rows, with which version, how fast and where to."""
    output = tmp_path / "scores.parquet"

    ended = command("predict", directory, "--input", source, "--output", output, "--keep", "id")

    assert (0, "") == (ended.code, ended.err)
    assert ended.out.startswith("scored 120 rows with 'model' version v1 in ")
    assert ended.out.rstrip().endswith(f"rows per second): 120 to '{output}'")
    assert forest().expected.tolist() == parquet.read_table(output)["output-0"].to_pylist()


def test_a_script_reads_the_summary_as_json(tmp_path, directory, source):
    """It has the counts and the version."""
    output, aside = tmp_path / "scores.csv", tmp_path / "bad.csv"
    words = ("--output", output, "--rejects", aside, "--jobs", 1, "--json", "--version", "v1")

    ended = command("predict", directory, "--input", source, *words)

    summary = ended.document
    assert summary.pop("seconds") > 0
    assert summary.pop("rows_per_second") > 0
    assert len(summary.pop("digest")) == 64
    assert {
        "model": "model",
        "version": "v1",
        "input": str(source),
        "output": str(output),
        "rejects": str(aside),
        "rows": 120,
        "written": 120,
        "rejected": 0,
        "jobs": 1,
        "rows_independent": True,
    } == summary


def test_tables_pass_through_pipes(directory):
    """Standard input and output have the formats that flags name; the summary goes elsewhere."""
    rows = "id,a,b,c\n" + "".join(f"{n},{n}.5,1,-1\n" for n in range(3))
    words = ("--input", "-", "--format", "csv", "--output", "-", "--output_format", "jsonl")

    ended = command("predict", directory, *words, "--keep", "id", stdin=rows)

    assert 0 == ended.code, ended.err
    lines = [json.loads(line) for line in ended.out.splitlines()]
    assert ["0", "1", "2"] == [line["id"] for line in lines]
    assert ended.err.startswith("scored 3 rows with 'model' version v1")


def test_arrow_passes_through_a_pipe(tmp_path, directory):
    """A stream in, a stream out."""
    sink = pa.BufferOutputStream()
    table = forest().arrow()
    with ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, 50)
    words = ["--input", "-", "--format", "arrows", "--output", "-", "--output_format", "arrows"]

    ended = subprocess.run(
        [*BUNDLESERVER, "predict", str(directory), *words, "--keep", "id"],
        input=sink.getvalue().to_pybytes(),
        capture_output=True,
        env=environment(),
    )

    assert 0 == ended.returncode, ended.stderr
    assert IDS.tolist() == ipc.open_stream(ended.stdout).read_all()["id"].to_pylist()


def test_a_request_is_answered_as_before(directory):
    """Without --output nothing is a table."""
    body = json.dumps({"instances": [[1.0, 2.0, 3.0]]})

    ended = command("predict", directory, "--input", "-", stdin=body)

    assert {"predictions": [1]} == ended.document


REFUSED = {
    "a table without output": (
        ["--input", "data.parquet"],
        "error: 'data.parquet' is a table; add --output FILE for its scores",
    ),
    "a format without output": (["--input", "-", "--format", "csv"], "add --output FILE"),
    "keys of a request": (["--keep", "id"], "error: '--keep' is for tables; add --output FILE"),
    "no suffix": (["--input", "data", "--output", "s.csv"], "'data' has no suffix of a table's"),
    "another format": (
        ["--input", "data.csv", "--output", "s.csv", "--format", "xml"],
        "error: --format is 'xml'; expected one of 'parquet', 'csv', 'csv.gz'",
    ),
    "parquet from a pipe": (
        ["--input", "-", "--format", "parquet", "--output", "s.csv"],
        "which is read and written by position",
    ),
    "rejects in a pipe": (
        ["--input", "data.parquet", "--output", "s.csv", "--rejects", "-"],
        "error: --rejects is '-'; expected the name of a file",
    ),
    "a column twice": (
        ["--input", "data.parquet", "--output", "s.csv", "--keep", "id,id"],
        "keep has 'id' more than once",
    ),
    "a name with a comma": (
        ["--input", "data.parquet", "--output", "s.csv", "--keep", '"a,b",id'],
        "keep: the table has no column 'a,b'; it has",
    ),
    "no regular file": (
        ["--input", "/dev/null", "--format", "parquet", "--output", "s.csv"],
        "'/dev/null' is not a regular file, and 'parquet' is read by position",
    ),
    "rejects without a suffix": (
        ["--input", "data.parquet", "--output", "s.csv", "--rejects", "bad"],
        "'.jsonl.gz', '.ndjson.gz', '.arrow', '.feather', '.arrows'\n",
    ),
    "bytes as text": (
        ["--input", "bytes.parquet", "--output", "s.csv", "--keep", "raw"],
        "--keep: column 'raw' is binary, which csv does not have; use Parquet or Arrow",
    ),
    "no file": (["--input", "none.csv", "--output", "s.csv"], "none.csv"),
    "json in a pipe": (
        ["--input", "data.parquet", "--output", "-", "--output_format", "csv", "--json"],
        "omit it",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_flags_that_make_no_sense_are_refused(name, directory, source, monkeypatch):
    """One line, exit code 1, and nothing is written."""
    words, says = REFUSED[name]
    monkeypatch.chdir(source.parent)
    if "bytes.parquet" in words:
        raw = forest().arrow().append_column("raw", pa.array([b"\xff"] * len(IDS)))
        source = source.rename("bytes.parquet")
        parquet.write_table(raw, source)

    ended = command("predict", directory, *words, stdin="{}")

    assert 1 == ended.code
    assert says in ended.err
    assert 1 == len(ended.err.splitlines())
    assert [source.name] == [path.name for path in source.parent.absolute().iterdir()]


def test_ctrl_c_ends_all_processes_and_leaves_no_file(tmp_path, directory):
    """Where it stopped is said, and no process goes on."""
    rows, output = tmp_path / "rows", tmp_path / "scores.csv"
    os.mkfifo(rows)
    words = ["--input", rows, "--format", "csv", "--output", output, "--batch_rows", 1, "--jobs", 2]
    process = subprocess.Popen(
        [*BUNDLESERVER, "predict", str(directory), *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    with suppress(BrokenPipeError), rows.open("w") as file:
        # More than fits into a pipe: the command has begun to read.
        file.write("a,b,c\n" + "1,2,3\n" * (4 << 20))
        process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=120)[1]

    assert process.returncode == 130
    assert said.startswith("stopped ")
    assert said.rstrip().endswith((f"of '{rows}'", "was scored"))
    assert ["rows"] == [path.name for path in tmp_path.iterdir()]


@pytest.mark.parametrize("target", ["models:/{}@champion", "models:/{}/1"])
def test_a_registered_version_scores_a_table(tmp_path, registry, directory, source, target):
    """It is downloaded once, and its name and version are the registry's."""
    name = f"batch-{tmp_path.name}"
    pushed = command("push", directory / "v1", f"models:/{name}", "--alias", "champion")
    assert 0 == pushed.code, pushed.err
    output = tmp_path / "scores.parquet"
    words = ("--input", source, "--output", output, "--keep", "id", "--json")

    ended = command("predict", target.format(name), *words)

    assert 0 == ended.code, ended.err
    assert (name, "1") == (ended.document["model"], ended.document["version"].removeprefix("v"))
    assert forest().expected.tolist() == parquet.read_table(output)["output-0"].to_pylist()


def test_a_registered_model_needs_a_registry(source):
    """Nobody guesses where it is."""
    words = ("--input", source, "--output", source.with_name("s.csv"))

    ended = command(
        "predict", "models:/fraud@champion", *words, variables={"MLFLOW_TRACKING_URI": ""}
    )

    assert 1 == ended.code
    assert "requires $MLFLOW_TRACKING_URI; set it to the registry's URL" in ended.err
