"""The examples for Spark, Ray Data and Dask, each run on its local mode by a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import uuid
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bundleserver import BundleStore
from tests.end_to_end.processes import environment, eventually
from tests.end_to_end.published import COLUMNS, Detector

PROJECT = Path(__file__).resolve().parents[2]
ENGINES = ("spark", "ray_data", "dask_dataframe")
FILES = 3
ROWS = 500
"""Rows of each file; a file is the least that an engine gives to one of its processes."""
ENDS_WITHIN_SECONDS = 240
MARK = "TEST_OF_BATCH_ENGINES"


@dataclass(frozen=True)
class Site:
    """A model, a table in several files, and what the libraries alone say of it."""

    model: Path
    table: Path
    expected: pa.Table


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """Save a model, and write a table whose keys are texts beside the model's columns."""
    root = tmp_path_factory.mktemp("engines")
    detector = Detector(seed=7)
    detector.save(BundleStore(root / "models"))
    values = np.random.default_rng(1).random((FILES * ROWS, len(COLUMNS)))
    keys = [f"k{at:05d}" for at in range(len(values))]
    table = pa.table({"key": keys, **dict(zip(COLUMNS, values.T, strict=True))})
    (root / "table").mkdir()
    for at in range(FILES):
        pq.write_table(table.slice(at * ROWS, ROWS), root / "table" / f"{at}.parquet")
    expected = pa.table({"key": keys, **detector.answer(values.tolist())})
    return Site(root / "models" / "detector", root / "table", expected)


@pytest.mark.parametrize("engine", ENGINES)
def test_an_engine_gives_the_answers_of_the_library_and_leaves_no_process(
    engine: str, site: Site, tmp_path: Path
) -> None:
    """Every row has its key, and the label and score that the library gives, to the bit."""
    program = PROJECT / f"examples/batch/{engine}.py"
    output, mark = tmp_path / "scores", uuid.uuid4().hex
    # Ray's sockets have names that are as long as its directory's.
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp") as short:
        done = subprocess.run(
            [sys.executable, program, site.model, site.table, output, "key"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=ENDS_WITHIN_SECONDS,
            cwd=tmp_path,
            env=environment(RAY_TMPDIR=short, **{MARK: mark}),
        )
        eventually(lambda: not _marked(mark), f"all processes of {engine} have ended")

    assert 0 == done.returncode, done.stdout
    scores = pa.concat_tables(pq.read_table(file) for file in sorted(output.glob("*.parquet")))
    scores = scores.sort_by("key").combine_chunks()
    assert site.expected.column_names == scores.column_names
    assert site.expected.to_pydict() == scores.to_pydict()


def test_the_page_shows_the_examples_as_they_are() -> None:
    """Whoever copies a program from the page has the one that is tested."""
    page = (PROJECT / "docs/batch.md").read_text()

    for engine in ENGINES:
        program = (PROJECT / f"examples/batch/{engine}.py").read_text()
        assert f"```python\n{program}```" in page, engine


def _marked(mark: str) -> list[int]:
    """Return the processes that were started with a mark in their environment."""
    found = []
    for process in psutil.process_iter():
        try:
            environ = process.environ()
        except (psutil.Error, OSError):
            continue
        if mark == environ.get(MARK) and process.pid != os.getpid():
            found.append(process.pid)
    return found
