"""The gate over the tests: few may be repeated, and each is named."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

FLAKY = """
import pathlib, pytest

@pytest.mark.parametrize("name", {names})
def test_flaky(name):
    mark = pathlib.Path(__file__).with_name(name)
    was_there = mark.exists()
    mark.touch()
    assert was_there and name != "broken"
"""


def run(directory, *names):
    """Run the gate over tests of these names, each of which fails the first time."""
    (directory / "test_it.py").write_text(FLAKY.format(names=[*names]))
    (directory / "pytest.ini").touch()
    command = [sys.executable, "-m", "tests.gate", "-p", "no:cacheprovider", "--numprocesses", "1"]
    environment = {"PYTHONPATH": f"{ROOT}", "PATH": ""}
    process = subprocess.run(
        command, cwd=directory, env=environment, capture_output=True, text=True, check=False
    )
    lines = (directory / "build/repeated-tests.txt").read_text().splitlines()
    assert process.stdout.endswith("".join(f"{line}\n" for line in lines))
    return process.returncode, [line.replace("test_it.py::test_flaky", "") for line in lines]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a", "b"], (0, ["repeated: [a] passed", "repeated: [b] passed"])),
        (["a", "broken"], (1, ["repeated: [a] passed", "repeated: [broken] failed again"])),
        (
            ["a", "b", "c"],
            (
                1,
                [
                    *(f"failed, not repeated: [{name}]" for name in "abc"),
                    "3 tests failed; at most 2 are repeated",
                ],
            ),
        ),
    ],
)
def test_two_tests_may_be_repeated_and_are_named(tmp_path, names, expected):
    """A test that fails is repeated alone and reported; more than two fail the run."""
    assert expected == run(tmp_path, *names)
