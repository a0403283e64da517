"""The reader of JSON lines: an object in each line, with the names of columns as its keys."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import orjson
import pyarrow as pa

from bundleserver.batch.tables.formats import Format
from bundleserver.batch.tables.json_columns import Bad, column_of_json
from bundleserver.batch.tables.json_kept import KeptColumns, Parts, parts_of
from bundleserver.batch.tables.pieces import Piece, Wanted, rows_for
from bundleserver.batch.tables.streams import ByteStream
from bundleserver.errors import InvalidInput

_LONGEST = 64 << 20
_FIRST_LINES = 1000
_FIRST_BYTES = 16 << 20
_BLANK = b" \t\r\n"
_BOM = b"\xef\xbb\xbf"

Row = dict[str, object]


class JsonLinesReader:
    """Reads JSON lines; a line is a row, and one that is not an object is bad.

    Blank lines are no rows, and a byte order mark at the beginning is none either.
    """

    is_text = False
    is_lines = True

    def __init__(self, place: str, form: Format) -> None:
        """Open a file or standard input; the first rows tell the columns and the types of some.

        Raises:
            InvalidInput: it has no row.
            OSError: it cannot be read.
        """
        self._place = place
        self._stream = ByteStream(place, form)
        self._buffered = _Lines(self._stream, place)
        self.rows: int | None = None
        try:
            self._first = self._buffered.first()
            rows = [row for row in map(_row_of, self._first) if isinstance(row, dict)]
        except BaseException:
            self._stream.close()
            raise
        names = list(dict.fromkeys(name for row in rows for name in row))
        self.schema = pa.schema([(name, _type_of(rows, name)) for name in names])

    def pieces(self, wanted: Wanted, rows: int | None) -> Iterator[Piece]:
        """Yield the rows. A column that the model takes must be in each; others may be null."""
        first = sum(map(len, self._first)) / max(1, len(self._first))
        rows = rows or rows_for(8 * first)
        lines = iter(self._lines())
        kept = self._kept(wanted) if wanted.kept else None
        while part := list(islice(lines, rows)):
            yield self._piece(part, wanted, kept)

    def _kept(self, wanted: Wanted) -> KeptColumns:
        bad: Bad = {}
        first = [_parts(line, _row_of(line), 0, bad) for line in self._first]
        return KeptColumns(wanted.kept, wanted.kept_for, first)

    def _lines(self) -> Iterator[bytes]:
        yield from self._first
        yield from self._buffered

    def _piece(self, lines: list[bytes], wanted: Wanted, kept: KeptColumns | None) -> Piece:
        bad: Bad = {}
        rows: list[Row] = []
        for at, line in enumerate(lines):
            row = _row_of(line)
            if isinstance(row, str):
                bad[at] = row
            rows.append({} if isinstance(row, str) else row)
        columns = []
        for name in wanted.columns:
            for at, row in enumerate(rows):
                if name not in row:
                    bad.setdefault(at, f"has no '{name}'")
            values = [row.get(name) for row in rows]
            datatype, is_list = wanted.datatypes.get(name), wanted.lists.get(name)
            columns.append(column_of_json(values, datatype, is_list, name, bad))
        batch = _batch(columns, wanted.columns, len(rows))
        texts = dict(enumerate(lines)) if wanted.texts else {}
        if kept is None:
            return Piece(batch, bad, lines=texts)
        parts = [
            _parts(line, row, at, bad)
            for at, (line, row) in enumerate(zip(lines, rows, strict=True))
        ]
        return Piece(batch, bad, kept.batch(parts, bad), texts)

    def fraction(self) -> float | None:
        """Return how much has been read."""
        return self._stream.fraction()

    def close(self) -> None:
        """Close the file."""
        self._stream.close()


class _Lines:
    """The lines of a stream, each of a bounded length."""

    def __init__(self, stream: ByteStream, place: str) -> None:
        import io

        self._file = io.BufferedReader(stream, 1 << 20)
        self._place = place
        self._is_begun = False

    def first(self) -> list[bytes]:
        size, lines = 0, []
        for line in islice(self, _FIRST_LINES):
            size += len(line)
            lines.append(line)
            if size > _FIRST_BYTES:
                break
        if not lines:
            raise InvalidInput(f"'{self._place}' is empty; expected a JSON object in each line")
        return lines

    def __iter__(self) -> Iterator[bytes]:
        while line := self._next():
            if not self._is_begun:
                line, self._is_begun = line.removeprefix(_BOM), True
            if line.strip(_BLANK):
                yield line

    def _next(self) -> bytes:
        try:
            line = self._file.readline(_LONGEST + 1)
        except (EOFError, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise InvalidInput(f"'{self._place}' is damaged: {error}") from error
        if len(line) > _LONGEST:
            raise InvalidInput(f"'{self._place}' has a line of more than {_LONGEST} bytes")
        return line


def _row_of(line: bytes) -> Row | str:
    """Parse a line; return why it is not a row, if it is not."""
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        return f"is not valid JSON: {error}"
    return row if isinstance(row, dict) else "is not a JSON object"


def _parts(line: bytes, row: Row | str, at: int, bad: Bad) -> Parts:
    """Return the parts of a line that is a row; none of another one."""
    if not row or isinstance(row, str):
        return {}
    try:
        return parts_of(line.decode())
    except RecursionError:
        bad.setdefault(at, "has values that are nested too deep")
        return {}


def _batch(columns: list[pa.Array], names: tuple[str, ...], rows: int) -> Any:
    if columns:
        return pa.RecordBatch.from_arrays(columns, list(names))
    return pa.RecordBatch.from_struct_array(pa.array([{}] * rows, pa.struct([])))


def _type_of(rows: list[Row], name: str) -> pa.DataType:
    """Return the type of a column in the first rows; null, where it has none that all have."""
    values = [row.get(name) for row in rows]
    kinds = {type(value) for value in values} - {type(None)}
    if not kinds or (bool in kinds and len(kinds) > 1):
        return pa.null()
    try:
        kind = pa.array(values).type
        # Messages between processes have a bounded depth.
        pa.ipc.read_schema(pa.schema([(name, kind)]).serialize())
    except (pa.ArrowException, OverflowError, OSError):
        return pa.null()
    return kind
