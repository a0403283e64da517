"""``inspect --pickles``: what the pickles of a directory need, as lines of ``--pickle_allow``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bundleserver.commands.console import say, say_json
from bundleserver.documents.printable import printable
from bundleserver.errors import StoreError
from bundleserver.frameworks.pickles.needs import Needed, Needs, needs_below


def show_pickle_names(directory: Path, *, as_json: bool) -> None:
    """Print what each pickle names; nothing of any is run.

    The output is a file for ``--pickle_allow``: what is listed already, and what no list can have,
    are comments in it.

    Raises:
        StoreError: there is no such file or directory.
    """
    if not directory.exists():
        raise StoreError(f"{directory} does not exist; expected a directory with pickles")
    found = list(needs_below(directory))
    if as_json:
        say_json({"pickles": [_document(needs) for needs in found]})
        return
    if not found:
        say(f"# {directory} has no pickles")
    for needs in found:
        for line in _lines(needs):
            # One line each: a name that a file made up cannot begin another.
            say(printable(line))


def _lines(needs: Needs) -> Sequence[str]:
    names = needs.names
    missing = sum(not name.is_listed for name in names)
    lines = [f"# {needs.path}: {_plural(len(names))}, {missing} not listed"]
    if needs.problem:
        lines.append(f"# there may be more: {needs.problem}")
    return [*lines, *map(_line, names)]


def _line(needed: Needed) -> str:
    if needed.is_listed:
        return f"# listed: {needed.name}"
    if needed.why_never:
        return (
            f"# can never be listed, needs --pickle_policy=any: {needed.name} ({needed.why_never})"
        )
    return needed.name


def _plural(count: int) -> str:
    return "1 name" if count == 1 else f"{count} names"


def _document(needs: Needs) -> dict[str, object]:
    return {
        "file": str(needs.path),
        "problem": needs.problem,
        "names": [
            {
                "name": needed.name,
                "listed": needed.is_listed,
                "never": needed.why_never or None,
            }
            for needed in needs.names
        ],
    }
