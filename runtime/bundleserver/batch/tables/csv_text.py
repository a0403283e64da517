"""The reader of CSV: every value is a string, or null where nothing stands between the commas."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.csv as arrow_csv

from bundleserver.batch.tables.formats import Format
from bundleserver.batch.tables.pieces import Piece, Wanted, rechunked
from bundleserver.batch.tables.streams import ByteStream
from bundleserver.errors import InvalidInput

_BLOCK_BYTES = 8 << 20
"""More than the longest row."""
_HEADER_BYTES = 1 << 20


class CsvReader:
    """Reads CSV in UTF-8 with a header; values may have line breaks inside quotes."""

    is_text = True
    is_lines = False

    def __init__(self, place: str, form: Format) -> None:
        """Open a file or standard input, and read its header.

        Raises:
            InvalidInput: it has no header, or is not UTF-8.
            OSError: it cannot be read.
        """
        self._place = place
        self._stream = ByteStream(place, form)
        try:
            names = self._header()
        except BaseException:
            self._stream.close()
            raise
        self.schema = pa.schema([(name, pa.string()) for name in names])
        self.rows: int | None = None
        self._skipped: list[tuple[int, str]] = []
        self._texts: dict[int, bytes] = {}

    def _header(self) -> list[str]:
        try:
            start = self._stream.peek(_HEADER_BYTES)
            text = start.decode("utf-8-sig", "strict" if len(start) < _HEADER_BYTES else "ignore")
        except (UnicodeDecodeError, EOFError, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise InvalidInput(f"'{self._place}' is not CSV in UTF-8: {error}") from error
        lines = csv.reader(io.StringIO(text, newline=""))
        try:
            names = next(lines, [])
            # Arrow refuses a header that does not end in a line break.
            self._has_rows = len(start) >= _HEADER_BYTES or next(lines, None) is not None
        except csv.Error as error:
            raise InvalidInput(f"'{self._place}' is not valid CSV: {error}") from error
        if not names and text.strip():
            raise InvalidInput(
                f"'{self._place}' begins with a blank line; expected names of columns"
            )
        if not names:
            raise InvalidInput(f"'{self._place}' is empty; expected CSV whose first line has names")
        return names

    def pieces(self, wanted: Wanted, rows: int | None) -> Iterator[Piece]:
        """Yield the rows; those with another number of values are bad, with nulls in their stead.

        Numbers of rows are those below the header.
        """
        told: dict[int, str] = {}
        start = 0
        for batch in rechunked(self._numbered(wanted, told), rows):
            places = [at for at in told if start <= at < start + batch.num_rows]
            lines = {at - start: self._texts.pop(at) for at in places if at in self._texts}
            yield Piece(batch, {at - start: told.pop(at) for at in places}, lines=lines)
            start += batch.num_rows

    def _numbered(self, wanted: Wanted, told: dict[int, str]) -> Iterator[Any]:
        """Yield batches with a row of nulls for each that was skipped, and tell of those."""
        count = 0
        for batch in self._batches(wanted):
            parts, rest = [], batch
            while self._skipped and self._skipped[0][0] <= count + rest.num_rows:
                at, why = self._skipped.pop(0)
                parts += [rest.slice(0, at - count), _nulls(batch.schema)]
                rest = rest.slice(at - count)
                told[at] = why
                count = at + 1
            count += rest.num_rows
            yield pa.concat_batches([*parts, rest]) if parts else batch
        for at, why in self._skipped:
            told[at] = why
            yield _nulls(pa.schema([(name, pa.string()) for name in wanted.columns]))

    def _batches(self, wanted: Wanted) -> Iterator[Any]:
        names = self.schema.names
        if not self._has_rows:
            return
        try:
            yield from arrow_csv.open_csv(
                pa.PythonFile(self._stream, "r"),
                read_options=arrow_csv.ReadOptions(block_size=_BLOCK_BYTES, use_threads=False),
                parse_options=arrow_csv.ParseOptions(
                    newlines_in_values=True, invalid_row_handler=self._skip
                ),
                convert_options=arrow_csv.ConvertOptions(
                    column_types=dict.fromkeys(names, pa.string()),
                    include_columns=list(wanted.columns),
                    null_values=[""],
                    strings_can_be_null=True,
                    quoted_strings_can_be_null=False,
                ),
            )
        except (pa.ArrowException, EOFError, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            said = " ".join(str(error).split())[:300]
            raise InvalidInput(f"'{self._place}' is not valid CSV: {said}") from error

    def _skip(self, row: Any) -> str:
        # Arrow counts the header as the first row.
        why = f"has {row.actual_columns} values; expected {row.expected_columns}"
        self._skipped.append((row.number - 2, why))
        self._texts[row.number - 2] = row.text.encode()
        return "skip"

    def fraction(self) -> float | None:
        """Return how much has been read."""
        return self._stream.fraction()

    def close(self) -> None:
        """Close the file."""
        self._stream.close()


def _nulls(schema: pa.Schema) -> Any:
    return pa.RecordBatch.from_arrays([pa.nulls(1, field.type) for field in schema], schema=schema)
