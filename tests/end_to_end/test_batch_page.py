"""docs/batch.md, read from its top: what it saves, and each of its commands, in its order."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.end_to_end.processes import DEADLINE_SECONDS, environment

PAGE = Path(__file__).resolve().parents[2] / "docs" / "batch.md"
MADE = (
    "scores.parquet",
    "probabilities.jsonl.gz",
    "few-scores.csv",
    "rejected.csv",
    "forecasts.csv",
)
"""The files that the page says its commands write."""


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run the first Python block, then every command of the page; what each printed is kept."""
    directory, tools = tmp_path_factory.mktemp("page"), tmp_path_factory.mktemp("tools")
    for name, words in (("bundleserver", "-m bundleserver "), ("python", "")):
        (tools / name).write_text(f'#!/bin/sh\nexec {sys.executable} {words}"$@"\n')
        (tools / name).chmod(0o755)
    path = os.pathsep.join((str(tools), os.environ["PATH"]))
    blocks = re.findall(r"```(python|bash)\n(.*?)```", PAGE.read_text(), re.DOTALL)
    saving = next(block for kind, block in blocks if kind == "python")
    commands = [block for kind, block in blocks if kind == "bash"]
    assert commands
    for words in ([sys.executable, "-c", saving], *(["bash", "-ec", one] for one in commands)):
        done = subprocess.run(
            words,
            cwd=directory,
            env=environment(PATH=path),
            capture_output=True,
            text=True,
            timeout=DEADLINE_SECONDS,
            check=False,
        )
        assert 0 == done.returncode, f"{words[-1]}\n{done.stdout}{done.stderr}"
    return directory


@pytest.mark.parametrize("name", MADE)
def test_the_commands_of_the_page_write_what_it_says(name: str, directory: Path) -> None:
    """Whoever copies the page from its top to its end has the same files."""
    assert (directory / name).stat().st_size
