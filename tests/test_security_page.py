"""The table of the page for security reviewers: its settings, defaults and tests are real."""

from __future__ import annotations

import ast
import re
from dataclasses import fields
from enum import Enum
from pathlib import Path

import pytest

from bundleserver.commands.flags.profiles import PROFILES
from bundleserver.commands.flags.table import FLAGS
from bundleserver.settings import Settings

PROJECT = Path(__file__).parents[1]
PAGE = (PROJECT / "docs" / "security.md").read_text("utf-8")
_TABLE = PAGE.partition("## What is stopped")[2].partition("\n## ")[0]
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in _TABLE.splitlines()
    if line.startswith("| ") and "::" in line
]
DEFAULTS = {field.name: field.default for field in fields(Settings)}
BY_FLAG = {flag.spelling: flag.setting for flag in FLAGS.values()}


def written(value: object) -> str:
    """Write a setting's value as the page does."""
    plain = value.value if isinstance(value, Enum) else value
    return f"`{str(plain).lower() if isinstance(plain, bool) else plain}`"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[0]} {row[1]}"[:60])
def test_what_a_row_says_is_held_by_a_test(row):
    """The test that it names is there."""
    path, name = re.fullmatch(r"`(tests/[\w/]+\.py)::(test_\w+)`", row[5]).groups()
    functions = ast.walk(ast.parse((PROJECT / path).read_text("utf-8")))

    assert name in {it.name for it in functions if isinstance(it, ast.FunctionDef)}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[0]} {row[1]}"[:60])
def test_what_a_row_says_of_its_setting_is_so(row):
    """Values between backticks are the flag's default, and what the profile makes of it."""
    _, _, setting, default, production, _ = row
    if setting.startswith("—"):
        assert ("", "") == (default, production)
        return
    name = BY_FLAG[setting.strip("`")]
    in_profile = PROFILES["production"].get(name, DEFAULTS[name])
    for said, value in ((default, DEFAULTS[name]), (production, in_profile)):
        expected = "`off`" if (name, value) == ("signatures", None) else written(value)
        assert "`" not in said or said.startswith(expected)


def test_every_setting_of_the_profile_is_in_the_table():
    """A reviewer sees all of what it changes."""
    shown = {BY_FLAG[row[2].strip("`")] for row in ROWS if row[2].startswith("`--")}
    # It is off without the profile, too.
    assert {*PROFILES["production"]} - {"enable_docs_url"} <= shown


def test_the_page_has_every_kind_of_opponent():
    """Who is explained is in the table, and the other way round."""
    explained = set(re.findall(r"^\| \*(\w+)\* \|", PAGE, re.MULTILINE))

    assert explained - {"operator"} == {row[0] for row in ROWS}
    assert len(ROWS) > 20
