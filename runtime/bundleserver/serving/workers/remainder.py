"""What worker processes had counted that are gone or silent, so that no counter goes back.

Prometheus takes a counter that is smaller than before for one that began anew, and counts all of it
again. The supervisor sees every page of metrics; of a process that ends it adds what only grows to
a remainder, which is a part of every later page.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import cast

from bundleserver.serving.workers.lines import Line
from bundleserver.serving.workers.merging import sum_of_counters

REMAINDER = 0
"""The number under which a page's answers have the others' counters; no process has it."""

_MODEL = re.compile(r'[{,]model(?:_name)?="((?:[^"\\]|\\.)*)"')
_VERSION = re.compile(r'[{,]version="((?:[^"\\]|\\.)*)"')
_STATE = "bundleserver_version_state{"


class Remainder:
    """Keeps the last page of each worker process, and the counters of those that ended.

    What was counted after a process's last page is not in it. On the supervisor's event loop.
    """

    def __init__(self) -> None:
        self._pages: dict[int, str] = {}
        self._ended = ""

    def note_asking(self, number: int, line: Line) -> None:
        """Take the page of a process that asks for those of others; they need not get it."""
        if line["name"] == "metrics":
            self._pages[number] = str(cast(Line, line["about"]).pop("page", ""))

    def note_answer(self, number: int, line: Line) -> None:
        """Take a page that a process answers with, the only answer that is a text."""
        value = line.get("value")
        if isinstance(value, str):
            self._pages[number] = value

    def answers(self, name: str, present: Collection[int]) -> dict[int, object]:
        """Return the pages of which only the counters count, for an answer without them.

        Args:
            name: what is asked for.
            present: the processes whose pages are in the answer, or come from the one that asks.
        """
        if name != "metrics":
            return {}
        silent = [page for number, page in self._pages.items() if number not in present]
        return {REMAINDER: [self._ended, *silent]}

    def end(self, number: int) -> None:
        """Add what a process had counted; what is of versions that are gone is forgotten."""
        page = self._pages.pop(number, "")
        if page:
            known = _known((page, *self._pages.values()))
            self._ended = sum_of_counters((self._ended, page), lambda at: _is_of(at, known))


def _known(pages: Iterable[str]) -> set[tuple[str, str]]:
    """Return the models and versions of pages, as they are written; a model also without one."""
    known = set()
    for page in pages:
        for line in page.split("\n"):
            if line.startswith(_STATE):
                model, version = _named(line)
                known |= {(model, version), (model, "")}
    return known


def _named(sample: str) -> tuple[str, str]:
    model, version = _MODEL.search(sample), _VERSION.search(sample)
    return model[1] if model else "", version[1] if version else ""


def _is_of(sample: str, known: Collection[tuple[str, str]]) -> bool:
    """Ask whether a sample is of a known version, or of none."""
    named = _named(sample)
    return not named[0] or named in known
