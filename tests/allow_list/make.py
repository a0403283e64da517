"""Write the lists of names that pickles may use, from what was recorded and reviewed.

``python -m tests.allow_list.make LOWEST.json … HIGHEST.json`` joins what environments use with
``verdicts.txt``: a function, a class without a source and a class in whose source the search finds
something are in a list only if they were reviewed; others are taken as they are.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bundleserver.frameworks.pickles.gate import listing
from bundleserver.frameworks.pickles.gate.forms import FORMS, STAND_INS
from tests.allow_list.record import LIBRARIES
from tests.allow_list.screen import classes_of, found, hits

LISTS = Path(listing.__file__).parent / "lists"
VERDICTS = Path(__file__).with_name("verdicts.txt")

_HEAD = """\
# Made by 'make allow-list' from every estimator and result that tests/allow_list fits; reviewed in
# tests/allow_list/verdicts.txt. Do not edit. A name with a version is of that version only.
"""

Names = Mapping[str, set[str]]


def verdicts() -> dict[str, tuple[bool, str]]:
    """Return what was reviewed by hand: whether a name may be used, and why."""
    found: dict[str, tuple[bool, str]] = {}
    for line in VERDICTS.read_text().splitlines():
        if line and not line.startswith("#"):
            name, verdict, reason = line.split(maxsplit=2)
            if verdict not in ("in", "out") or name in found:
                raise ValueError(f"'{line}': expected a name once, 'in' or 'out', and a reason")
            found[name] = verdict == "in", reason
    return found


def unreviewed(name: str, reviewed: Mapping[str, object]) -> Iterator[str]:
    """Yield what about a name is to be reviewed and is not, if it is installed."""
    real = found(name)
    if name in reviewed or real is None:
        return
    if not isinstance(real, type):
        yield f"{name}: a function, or a value"
        return
    for base in classes_of(real):
        full = f"{base.__module__}.{base.__qualname__}"
        if full not in reviewed and (seen := hits(base)):
            yield f"{full}: {', '.join(seen)}"


def joined(records: list[Mapping[str, Any]]) -> tuple[Names, dict[str, str]]:
    """Return the ways of all names, and the versions of those that not all versions have."""
    ways: dict[str, set[str]] = defaultdict(set)
    for record in records:
        for name, use in record["uses"].items():
            ways[name] |= {*use["ways"]}
    marks: dict[str, str] = {}
    for name in ways:
        package = package_of(name)
        if package in LIBRARIES:
            every = [record["versions"][package] for record in records]
            of = [record["versions"][package] for record in records if name in record["uses"]]
            if {*of} != {*every}:
                marks[name] = f"{LIBRARIES[package]} {', '.join(dict.fromkeys(of))}"
    return ways, marks


def package_of(name: str) -> str:
    """Return the package whose list has a name."""
    package = name.partition(".")[0]
    # scikit-learn 1.6 registers a module of this name for its compiled losses.
    return "sklearn" if package == "_loss" else package


def lists_of(ways: Names, marks: Mapping[str, str]) -> dict[str, str]:
    """Return the text of each list by the name of its package."""
    reviewed = verdicts()
    lines: dict[str, list[str]] = defaultdict(list)
    for name, uses in sorted(ways.items()):
        may, _ = reviewed.get(name, (True, ""))
        if not may or not uses or name in FORMS or name in STAND_INS:
            continue
        package = package_of(name)
        mark = f"  # {marks[name]}" if name in marks else ""
        lines[package if package in LIBRARIES else "python"].append(
            f"{name} {' '.join(sorted(uses))}{mark}"
        )
    return {name: _HEAD + "\n".join(of) + "\n" for name, of in lines.items()}


def main(paths: list[str]) -> int:
    """Write the lists; return 1 if something is to be reviewed before."""
    records = [json.loads(Path(path).read_text()) for path in paths]
    ways, marks = joined(records)
    reviewed = verdicts()
    missing = sorted({line for name in ways for line in unreviewed(name, reviewed)})
    for line in missing:
        print(line)  # noqa: T201  # it is a command
    if missing:
        return 1
    for name, text in lists_of(ways, marks).items():
        (LISTS / f"{name}.txt").write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
