"""The README of ``servingruntimes/`` names the test of each of its promises."""

import re

from tests.kubernetes.documents import OVERLAYS, PROJECT, README, example_files

_ROW = re.compile(r"^\| (.*) \| ((?:`tests/\S+::\w+` ?)+)\|$", re.MULTILINE)


def rows():
    """Return what each row of the table is about, and the tests that it names."""
    found = _ROW.findall(README.read_text(encoding="utf-8"))
    return [(what, re.findall(r"`(\S+)::(\w+)`", tests)) for what, tests in found]


def test_every_test_that_the_readme_names_exists():
    """A test that is renamed or removed takes its line of the README along."""
    named = [test for _, tests in rows() for test in tests]

    assert named
    assert [] == [
        f"{file}::{name}"
        for file, name in named
        if f"def {name}(" not in (PROJECT / file).read_text(encoding="utf-8")
    ]


def test_every_overlay_and_every_example_names_its_test():
    """What is shipped has a row that says which test holds it."""
    said = " ".join(what for what, _ in rows())
    shipped = [f"examples/{path.name}" for path in example_files()]
    shipped += [f"overlays/{path.name}" for path in OVERLAYS.iterdir() if path.is_dir()]

    assert [] == [name for name in shipped if f"`{name}`" not in said]
