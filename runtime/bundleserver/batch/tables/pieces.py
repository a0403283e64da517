"""Batches of a fixed number of rows, whatever pieces a file comes in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import pyarrow as pa

MOST_ROWS = 65_536
"""The rows of a batch, if a row is not wide."""
_FEWEST_ROWS = 64
_BATCH_BYTES = 64 << 20


@dataclass
class Piece:
    """Rows of a table, in order.

    Attributes:
        batch: the columns that were asked for.
        bad: which rows are not valid already as text, and why.
        kept: the columns to carry through; None if they are those of the batch.
        lines: the texts of rows, as far as a rejected row is not told by its columns.
    """

    batch: pa.RecordBatch
    bad: dict[int, str] = field(default_factory=dict)
    kept: pa.RecordBatch | None = None
    lines: dict[int, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Wanted:
    """The columns to read.

    Attributes:
        columns: all of them, in the order in which they come.
        datatypes: the datatypes of those that the model takes; None for what is not known.
        lists: of those that the model takes, whether their values are lists, where it says so.
        kept: those to carry through, where the reader ``is_lines``.
        kept_for: the name of the format to carry them to.
        texts: whether the texts of rows are wanted.
    """

    columns: tuple[str, ...]
    datatypes: dict[str, str | None] = field(default_factory=dict)
    lists: dict[str, bool] = field(default_factory=dict)
    kept: tuple[str, ...] = ()
    kept_for: str = ""
    texts: bool = False


class Reader(Protocol):
    """Reads one table from its beginning to its end, once.

    Attributes:
        schema: the columns; for CSV all are strings, for JSON lines as in the first rows.
        is_text: whether the types say nothing.
        is_lines: whether a row is a line of text, which a rejected row is told by; a piece then has
            the columns to carry through beside those that the model takes.
        rows: how many rows there are, if that is known.
    """

    schema: pa.Schema
    is_text: bool
    is_lines: bool
    rows: int | None

    def pieces(self, wanted: Wanted, rows: int | None) -> Iterator[Piece]:
        """Yield the rows in pieces of equal size; None lets their width decide.

        Raises:
            InvalidInput: the file is damaged.
        """

    def fraction(self) -> float | None:
        """Return how much of the file has been read; None if nobody knows its size."""

    def close(self) -> None:
        """Close the file."""


def rows_for(row_bytes: float) -> int:
    """Return how many rows of a width a batch has; it follows from the file alone."""
    return max(_FEWEST_ROWS, min(MOST_ROWS, int(_BATCH_BYTES / max(1.0, row_bytes))))


def rechunked(batches: Iterable[pa.RecordBatch], rows: int | None) -> Iterator[pa.RecordBatch]:
    """Yield batches with equal numbers of rows, the last one with the rest."""
    held: list[Any] = []
    count = 0
    for batch in batches:
        if not batch.num_rows:
            continue
        if rows is None:
            rows = rows_for(batch.nbytes / batch.num_rows)
        held.append(batch)
        count += batch.num_rows
        while count >= rows:
            whole = _joined(held)
            yield whole.slice(0, rows)
            count -= rows
            held = [whole.slice(rows)] if count else []
    if count:
        yield _joined(held)


def chosen(batches: Iterable[pa.RecordBatch], columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Yield batches with some of their columns only."""
    for batch in batches:
        yield batch.select(list(columns))


def _joined(batches: Sequence[Any]) -> Any:
    return batches[0] if len(batches) == 1 else pa.concat_batches(batches)
