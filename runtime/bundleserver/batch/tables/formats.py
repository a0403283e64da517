"""The formats of tables: told by a flag, or else by the suffix of a file's name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bundleserver.documents.forms import quoted
from bundleserver.errors import BundleError

STANDARD = "-"
"""Standard input or output in the place of a file."""


@dataclass(frozen=True)
class Format:
    """A format of a table; ``is_gzip``: compressed as a whole, as text formats may be."""

    name: str
    is_gzip: bool = False


PARQUET, CSV, JSON_LINES = Format("parquet"), Format("csv"), Format("jsonl")
ARROW, ARROW_STREAM = Format("arrow"), Format("arrows")

FORMATS = {
    "parquet": PARQUET,
    "csv": CSV,
    "csv.gz": Format("csv", True),
    "jsonl": JSON_LINES,
    "jsonl.gz": Format("jsonl", True),
    "arrow": ARROW,
    "arrows": ARROW_STREAM,
}
"""The values of ``--format``; ``arrow`` is Arrow's file, ``arrows`` its stream."""

_SUFFIXES = {
    ".parquet": PARQUET,
    ".pq": PARQUET,
    ".csv": CSV,
    ".csv.gz": FORMATS["csv.gz"],
    ".jsonl": JSON_LINES,
    ".ndjson": JSON_LINES,
    ".jsonl.gz": FORMATS["jsonl.gz"],
    ".ndjson.gz": FORMATS["jsonl.gz"],
    ".arrow": ARROW,
    ".feather": ARROW,
    ".arrows": ARROW_STREAM,
}


def format_named(name: str, flag: str) -> Format:
    """Return the format that a flag names.

    Raises:
        BundleError: there is no such format.
    """
    if name not in FORMATS:
        raise BundleError(f"{flag} is '{name}'; expected one of {quoted(FORMATS)}")
    return FORMATS[name]


def format_by_suffix(place: str) -> Format | None:
    """Return the format that the suffix of a file's name stands for, if it is one of a table."""
    name = Path(place).name.lower()
    # The longest first: .csv.gz is not .gz.
    known = sorted(_SUFFIXES, key=len, reverse=True)
    return next((_SUFFIXES[suffix] for suffix in known if name.endswith(suffix)), None)


def format_of(place: str, named: str | None, flag: str | None) -> Format:
    """Return a file's format: the named one, or else that of its suffix.

    Args:
        place: the file.
        named: the format that a flag names, if it does.
        flag: that flag, for messages; None where there is none, and a file must have a suffix.

    Raises:
        BundleError: neither says which one it is, or the file cannot be a stream.
    """
    found = format_named(named, flag) if named and flag else format_by_suffix(place)
    if found is None:
        what = "standard input and output have" if place == STANDARD else f"'{place}' has"
        raise BundleError(
            f"{what} no suffix of a table's format; expected one of {quoted(_SUFFIXES)}"
            + (f", or {flag} with one of {quoted(FORMATS)}" if flag else "")
        )
    if place == STANDARD and found in (PARQUET, ARROW):
        raise BundleError(
            f"{flag} is '{found.name}', which is read and written by position; use a file, or "
            "'arrows', 'csv' or 'jsonl' for a pipe"
        )
    return found
