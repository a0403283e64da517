"""Readers of Parquet and of Arrow's files and streams."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.ipc as ipc

from bundleserver.batch.tables.formats import ARROW, STANDARD, Format
from bundleserver.batch.tables.pieces import Piece, Wanted, chosen, rechunked, rows_for
from bundleserver.errors import InvalidInput

_BUFFER_BYTES = 1 << 20
"""How much of a column is read at a time, so that a row group of any size fits."""


class ParquetReader:
    """Reads the wanted columns of a Parquet file, a bounded part of a row group at a time."""

    is_text = False
    is_lines = False

    def __init__(self, place: str) -> None:
        """Open a file.

        Raises:
            InvalidInput: it is not Parquet.
            OSError: it cannot be read.
        """
        import pyarrow.parquet as parquet

        self._place = place
        _require_regular(place, "Parquet")
        self._file = pa.OSFile(place)
        try:
            self._parquet = parquet.ParquetFile(
                self._file,
                pre_buffer=False,
                buffer_size=_BUFFER_BYTES,
                page_checksum_verification=True,
            )
            self.schema: pa.Schema = self._parquet.schema_arrow
        except (pa.ArrowException, OSError) as error:
            self._file.close()
            raise _damaged(place, error) from error
        meta = self._parquet.metadata
        self.rows: int | None = meta.num_rows
        groups = range(meta.num_row_groups)
        self._bytes = sum(meta.row_group(group).total_byte_size for group in groups)
        self._read = 0

    def pieces(self, wanted: Wanted, rows: int | None) -> Iterator[Piece]:
        """Yield the rows; see ``Reader``."""
        self._check_counts(set(wanted.columns))
        rows = rows or rows_for(self._bytes / max(1, self.rows or 0))
        batches = self._parquet.iter_batches(
            batch_size=rows, columns=list(wanted.columns), use_threads=False
        )
        ordered = chosen(_checked(batches, self._place), wanted.columns)
        for batch in rechunked(ordered, rows):
            self._read += batch.num_rows
            yield Piece(batch)
        if self._read != self.rows:
            raise self._other_rows(self._read, "were read")

    def _check_counts(self, wanted: Collection[str]) -> None:
        """Compare the numbers of rows that the file, its row groups and their columns say."""
        meta, schema = self._parquet.metadata, self._parquet.schema
        groups = [meta.row_group(group) for group in range(meta.num_row_groups)]
        if (count := sum(group.num_rows for group in groups)) != self.rows:
            raise self._other_rows(count, "are in its row groups")
        columns = [schema.column(at) for at in range(len(schema))]
        flat = [
            at for at, c in enumerate(columns) if c.path in wanted and not c.max_repetition_level
        ]
        for group in groups:
            for at in flat:
                if (count := group.column(at).num_values) != group.num_rows:
                    said = f"are in a row group's column '{columns[at].path}'"
                    raise self._other_rows(count, said, group.num_rows)

    def _other_rows(self, count: int, where: str, said: int | None = None) -> InvalidInput:
        whole = self.rows if said is None else said
        return InvalidInput(
            f"'{self._place}' is damaged: it says that there are {whole} rows, and {count} {where}"
        )

    def fraction(self) -> float | None:
        """Return how much has been read."""
        return self._read / self.rows if self.rows else None

    def close(self) -> None:
        """Close the file."""
        self._parquet.close()
        self._file.close()


class ArrowReader:
    """Reads an Arrow file or stream by its own batches, each as a whole."""

    is_text = False
    is_lines = False

    def __init__(self, place: str, form: Format) -> None:
        """Open a file or standard input; a file may have either layout.

        Raises:
            InvalidInput: it is not Arrow.
            OSError: it cannot be read.
        """
        self._place = place
        if form == ARROW:
            _require_regular(place, "an Arrow file")
        self._file: BinaryIO = sys.stdin.buffer if place == STANDARD else open(place, "rb")  # noqa: SIM115, PTH123 - closed by close
        self._size = 0 if place == STANDARD else os.fstat(self._file.fileno()).st_size
        self.rows: int | None = None
        try:
            is_file = form == ARROW and self._file.read(6) == b"ARROW1"
            if form == ARROW:
                self._file.seek(0)
            self._reader: Any = (ipc.open_file if is_file else ipc.open_stream)(self._file)
        except (pa.ArrowException, OSError) as error:
            self.close()
            raise _damaged(place, error) from error
        self._is_file = is_file
        self.schema: pa.Schema = self._reader.schema

    def pieces(self, wanted: Wanted, rows: int | None) -> Iterator[Piece]:
        """Yield the rows; see ``Reader``."""
        checked = chosen(_checked(self._batches(), self._place), wanted.columns)
        for batch in rechunked(checked, rows):
            yield Piece(batch)

    def _batches(self) -> Iterator[Any]:
        if not self._is_file:
            yield from self._reader
            return
        for number in range(self._reader.num_record_batches):
            yield self._reader.get_batch(number)

    def fraction(self) -> float | None:
        """Return how much has been read."""
        return self._file.tell() / self._size if self._size and not self._is_file else None

    def close(self) -> None:
        """Close the file."""
        if self._place != STANDARD:
            self._file.close()


def _checked(batches: Iterator[Any], place: str) -> Iterator[Any]:
    """Yield batches whose offsets and strings are valid: what is read may be damaged."""
    while True:
        try:
            batch = next(batches, None)
            if batch is None:
                return
            batch.validate(full=True)
        except (pa.ArrowException, OSError) as error:
            raise _damaged(place, error) from error
        yield batch


def _require_regular(place: str, what: str) -> None:
    """Refuse a pipe, which cannot be read by position.

    Raises:
        InvalidInput: it is not a regular file.
        OSError: it is not there.
    """
    if not stat.S_ISREG(Path(place).stat().st_mode):
        raise InvalidInput(
            f"'{place}' is not a regular file, and {what} is read by position; use a file, or "
            "'arrows', 'csv' or 'jsonl' for a pipe"
        )


def _damaged(place: str, error: Exception) -> Exception:
    if isinstance(error, OSError) and error.errno is not None:
        return error
    said = " ".join(str(error).split())[:300]
    return InvalidInput(f"'{place}' is damaged, or is of another format: {said}")
