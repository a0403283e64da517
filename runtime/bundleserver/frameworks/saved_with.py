"""The libraries that files were saved with, as the files say, noted while they are opened."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

_NOTES: ContextVar[dict[str, set[str]] | None] = ContextVar("notes", default=None)


@contextmanager
def noting() -> Iterator[Mapping[str, Collection[str]]]:
    """Collect in the block what files say: their versions, by the name of a distribution."""
    notes: dict[str, set[str]] = {}
    token = _NOTES.set(notes)
    try:
        yield notes
    finally:
        _NOTES.reset(token)


def note(distribution: str, versions: Collection[str]) -> None:
    """Tell whoever opens a file with which versions of a library it was saved."""
    notes = _NOTES.get()
    if notes is not None and versions:
        notes.setdefault(distribution, set()).update(versions)
