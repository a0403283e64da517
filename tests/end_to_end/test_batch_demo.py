"""The demo of tables, run as a user runs it, with fewer rows."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.end_to_end.processes import environment

DEMO = Path(__file__).resolve().parents[2] / "examples" / "batch_demo.py"
ENDS_WITHIN_SECONDS = 240
ROWS = 3000


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run the demo once; what it printed is in ``said.txt``."""
    directory = tmp_path_factory.mktemp("demo")
    done = _run("--rows", ROWS, "--directory", directory)
    assert 0 == done.returncode, done.stdout
    (directory / "said.txt").write_text(done.stdout)
    return directory


def test_the_demo_shows_the_command_and_the_figures_of_both(directory: Path) -> None:
    """The command can be copied; it and the library have rows, seconds, a rate and a peak."""
    said = (directory / "said.txt").read_text()

    assert re.search(
        r"^\$ bundleserver predict \S+ --input \S+ --output \S+ --keep id$", said, re.M
    )
    for way in ("bundleserver predict", "the library alone"):
        assert re.search(rf"│ {way} +│ 3,000 │ +[\d.]+ │ +[\d,]+ │ +[\d,]+ │", said), said


def test_the_demo_says_that_the_scores_are_the_librarys(directory: Path) -> None:
    """The run compares every score, and shows who made the file."""
    said = (directory / "said.txt").read_text()

    assert "every score is the library's, to the bit" in said
    assert '"bundleserver.model": "payments"' in said
    assert '"bundleserver.version": "v1"' in said


def test_the_demo_leaves_a_score_for_every_key(directory: Path) -> None:
    """The file of scores has the keys of the table, in its order."""
    scores = pq.read_table(directory / "scores.parquet")

    assert ["id", "score"] == scores.column_names
    assert [f"p{at:07d}" for at in range(ROWS)] == scores["id"].to_pylist()


def test_the_demo_refuses_a_directory_that_is_not_its_own(tmp_path: Path) -> None:
    """Files that the demo has not made are never deleted."""
    (tmp_path / "precious.parquet").touch()

    done = _run("--rows", ROWS, "--directory", tmp_path)

    assert 1 == done.returncode
    assert f"{tmp_path} was not made by this demo" in done.stdout
    assert (tmp_path / "precious.parquet").exists()


def _run(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, DEMO, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=ENDS_WITHIN_SECONDS,
        env=environment(COLUMNS="100"),
        check=False,
    )
