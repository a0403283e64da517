"""The reader of JSON lines: an object in each line, with the names of columns as its keys."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import orjson
import pyarrow as pa

from bundleserver.batch.tables.formats import Format
from bundleserver.batch.tables.json_columns import Bad, column_of_json
from bundleserver.batch.tables.pieces import MOST_ROWS, Piece, Wanted, rows_for
from bundleserver.batch.tables.streams import ByteStream
from bundleserver.errors import InvalidInput

_LONGEST = 64 << 20
_FIRST_LINES = 1000
_FIRST_BYTES = 16 << 20

Row = dict[str, object]


class JsonLinesReader:
    """Reads JSON lines; a line is a row, and one that is no object is bad."""

    is_text = False

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
        while part := list(islice(lines, rows)):
            yield self._piece(part, wanted)

    def _lines(self) -> Iterator[bytes]:
        yield from self._first
        yield from self._buffered

    def _piece(self, lines: list[bytes], wanted: Wanted) -> Piece:
        bad: Bad = {}
        rows: list[Row] = []
        for at, line in enumerate(lines):
            row = _row_of(line)
            if isinstance(row, str):
                bad[at] = row
            rows.append({} if isinstance(row, str) else row)
        columns = []
        for name in wanted.columns:
            values = [row.get(name) for row in rows]
            if name in wanted.datatypes:
                for at, row in enumerate(rows):
                    if name not in row:
                        bad.setdefault(at, f"has no '{name}'")
                columns.append(column_of_json(values, wanted.datatypes[name], name, bad))
            else:
                columns.append(self._carried(values, name))
        return Piece(pa.RecordBatch.from_arrays(columns, list(wanted.columns)), bad)

    def _carried(self, values: list[object], name: str) -> pa.Array:
        """Make a column that is carried through, of the type that it has in the first rows."""
        kind = self.schema.field(name).type
        try:
            if pa.types.is_string(kind) or pa.types.is_null(kind):
                return pa.array([_as_text(value) for value in values], pa.string())
            return pa.array(values, kind)
        except (pa.ArrowException, OverflowError) as error:
            raise InvalidInput(
                f"'{self._place}': column '{name}' is {kind} in the first rows, and has other "
                f"values later: {' '.join(str(error).split())[:200]}"
            ) from error

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


def _type_of(rows: list[Row], name: str) -> pa.DataType:
    """Return the type of a column in the first rows; null, where it has none that all have."""
    values = [row.get(name) for row in rows[:MOST_ROWS]]
    kinds = {type(value) for value in values} - {type(None)}
    if not kinds or (bool in kinds and len(kinds) > 1):
        return pa.null()
    try:
        return pa.array(values).type
    except (pa.ArrowException, OverflowError):
        return pa.null()


def _as_text(value: object) -> str | None:
    """Return a string as it is, and another value as JSON."""
    return value if value is None or isinstance(value, str) else orjson.dumps(value).decode()
