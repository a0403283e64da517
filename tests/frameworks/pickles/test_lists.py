"""The built-in lists of ``--pickle_policy=listed``."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytest

from bundleserver.frameworks.pickles.gate import listing
from bundleserver.frameworks.pickles.gate.forms import FORMS, STAND_INS
from bundleserver.frameworks.pickles.gate.listing import built_in, parse_list
from bundleserver.frameworks.pickles.gate.rules import AUDITS, CHECKS, SETTERS
from tests.allow_list.make import package_of, unreviewed, verdicts
from tests.allow_list.record import LIBRARIES
from tests.allow_list.recorder import uses_of
from tests.allow_list.screen import found

LISTS = sorted((Path(listing.__file__).parent / "lists").glob("*.txt"))


def _lines() -> Iterator[tuple[Path, str, str]]:
    for path in LISTS:
        for line in path.read_text().splitlines():
            entry, _, mark = line.partition("#")
            if entry.strip():
                yield path, entry.split()[0], mark.strip()


def _is_installed(name: str) -> bool:
    distribution = LIBRARIES.get(package_of(name))
    try:
        return distribution is None or bool(version(distribution))
    except PackageNotFoundError:
        return False


def test_every_name_means_something_or_says_of_which_version_it_is() -> None:
    """A name that the installed version lacks is marked with the version that has it."""
    lost = [
        name
        for _, name, mark in _lines()
        if not mark and _is_installed(name) and found(name) is None
    ]

    assert [] == lost


def test_a_rule_is_for_a_class_that_there_is() -> None:
    """A class that moves, or gets another name, with a version does not lose its rule silently."""
    of_a_version = {name for _, name, mark in _lines() if mark}
    names = {name for name in (*AUDITS, *CHECKS, *SETTERS) if "." in name} - of_a_version
    lost = [name for name in names if _is_installed(name) and found(name) is None]

    assert [] == lost


@pytest.mark.parametrize("path", LISTS, ids=lambda path: path.stem)
def test_a_list_is_sorted_and_has_only_the_names_of_its_package(path: Path) -> None:
    """A reviewer finds each name once, in the list of its package."""
    names = [name for of, name, _ in _lines() if of == path]

    assert sorted({*names}) == names
    assert {path.stem} == {
        package_of(name) if package_of(name) in LIBRARIES else "python" for name in names
    }
    assert [*parse_list(path.read_text())]


def test_nothing_is_listed_that_was_not_reviewed() -> None:
    """A function, or a class in whose source the search finds something, has a verdict: 'in'."""
    reviewed = verdicts()
    names = [name for _, name, _ in _lines()]

    assert [] == [why for name in names for why in unreviewed(name, reviewed)]
    assert [] == [name for name in names if not reviewed.get(name, (True, ""))[0]]
    assert [] == [name for name in names if name in FORMS or name in STAND_INS]


def test_no_name_that_honest_models_use_is_missing(
    honest_models: list[tuple[str, Any, Any]],
) -> None:
    """The lists have all that was recorded here, or a verdict says why not."""
    listed, reviewed = built_in(), verdicts()
    missing = {
        f"{name}: {sorted(ways - listed.get(name, frozenset()))}": label
        for label, model, _ in honest_models
        for name, ways in uses_of(model, (0, 2, 5)).items()
        if not ways <= listed.get(name, frozenset()) and reviewed.get(name, (True, ""))[0]
    }

    assert {} == missing
