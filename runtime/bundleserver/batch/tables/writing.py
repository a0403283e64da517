"""Writers of tables: beside the file's name, and renamed into place when they are complete."""

from __future__ import annotations

import gzip
import os
import secrets
import sys
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

import orjson
import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.ipc as ipc

from bundleserver.batch.tables.formats import STANDARD, Format
from bundleserver.batch.tables.json_kept import json_rows
from bundleserver.errors import StoreError

_GROUP_ROWS = 1 << 20
"""The rows of a row group: what readers of Parquet expect."""


class _Sink(Protocol):
    def write(self, batch: Any) -> object: ...

    def close(self) -> object: ...


class TableWriter:
    """Writes one table; nothing has its name before ``complete``.

    The file begins with the first batch, which decides the columns. ``abandon`` removes what was
    written; on standard output that has gone.
    """

    def __init__(self, place: str, form: Format, *, force: bool = False) -> None:
        """Prepare to write to a place.

        Raises:
            StoreError: a file is there, or it cannot be written there.
        """
        self.place = place
        self._form = form
        self._force = force
        self._path = Path(place)
        self._sink: _Sink | None = None
        self._opened = ExitStack()
        self._part: Path | None = None
        self._schema: pa.Schema | None = None
        if place == STANDARD:
            self._file: BinaryIO = sys.stdout.buffer
            return
        self._refuse_existing()
        part = self._path.with_name(f".{self._path.name[:200]}.{secrets.token_hex(4)}.part")
        try:
            self._file = self._opened.enter_context(part.open("xb"))
        except OSError as error:
            raise StoreError(f"'{place}' cannot be written: {error.strerror or error}") from error
        self._part = part

    @property
    def form(self) -> Format:
        """Its format."""
        return self._form

    def write(self, batch: pa.RecordBatch) -> None:
        """Write a batch.

        Raises:
            StoreError: its columns differ from those of the first, or the disk is full.
        """
        try:
            if self._sink is None:
                self._schema = batch.schema
                self._sink = self._begin(batch.schema)
            elif batch.schema != self._schema:
                batch = self._same(batch)
            self._sink.write(batch)
        except (OSError, pa.ArrowException) as error:
            if isinstance(error, BrokenPipeError):
                raise
            raise StoreError(f"'{self.place}' cannot be written: {error}") from error

    def complete(self) -> None:
        """Finish the file and give it its name.

        Raises:
            StoreError: it cannot be written, or a file has come there meanwhile.
        """
        try:
            if self._sink is not None:
                self._sink.close()
            if self._part is None:
                self._file.flush()
                self._opened.close()
                return
            self._opened.close()
            self._refuse_existing()
            self._part.replace(self._path)
            self._part = None
        except (OSError, pa.ArrowException) as error:
            if isinstance(error, BrokenPipeError):
                raise
            raise StoreError(f"'{self.place}' cannot be written: {error}") from error

    def abandon(self) -> None:
        """Remove what was written, if it is not complete."""
        with suppress(OSError, ValueError, pa.ArrowException):
            if self._part is not None and self._sink is not None:
                self._sink.close()
        with suppress(OSError, ValueError):
            self._opened.close()
        if self._part is not None:
            with suppress(OSError):
                self._part.unlink(missing_ok=True)

    def _refuse_existing(self) -> None:
        if self._path.is_dir():
            raise StoreError(f"'{self.place}' is a directory; expected the name of a file")
        if os.path.lexists(self._path) and not self._force:
            raise StoreError(f"'{self.place}' already exists; use --force to replace it")

    def _same(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        schema = self._schema
        if schema is None or batch.schema.names != schema.names:
            raise StoreError(
                f"'{self.place}': the model's outputs are {batch.schema.names} in later rows, and "
                f"{None if schema is None else schema.names} in the first; a table has one schema"
            )
        try:
            columns = [
                batch.column(i).cast(field.type, safe=True) for i, field in enumerate(schema)
            ]
        except pa.ArrowException as error:
            raise StoreError(
                f"'{self.place}': the model's outputs have other types in later rows: {error}"
            ) from error
        return pa.RecordBatch.from_arrays(columns, schema=schema)

    def _begin(self, schema: pa.Schema) -> _Sink:
        name = self._form.name
        if name == "parquet":
            return _Parquet(self._file, schema)
        if name == "arrow":
            return cast("_Sink", ipc.new_file(self._file, schema))
        if name == "arrows":
            return cast("_Sink", ipc.new_stream(self._file, schema))
        file = self._file
        if self._form.is_gzip:
            file = cast(
                "BinaryIO",
                self._opened.enter_context(gzip.GzipFile(fileobj=file, mode="wb", compresslevel=6)),
            )
        return _Csv(file, schema) if name == "csv" else _JsonLines(file)


class _Parquet:
    def __init__(self, file: BinaryIO, schema: pa.Schema) -> None:
        import pyarrow.parquet as parquet

        self._writer = parquet.ParquetWriter(file, schema)

    def write(self, batch: Any) -> None:
        self._writer.write_batch(batch, row_group_size=_GROUP_ROWS)

    def close(self) -> None:
        self._writer.close()


class _Csv:
    """CSV; a list becomes JSON, since CSV has none."""

    def __init__(self, file: BinaryIO, schema: pa.Schema) -> None:
        self._plain = pa.schema([(f.name, _csv_type(f.type)) for f in schema])
        self._writer = arrow_csv.CSVWriter(pa.PythonFile(file, "w"), self._plain)

    def write(self, batch: Any) -> None:
        columns = [_csv_column(column) for column in batch.columns]
        self._writer.write(pa.RecordBatch.from_arrays(columns, schema=self._plain))

    def close(self) -> None:
        self._writer.close()


def _is_plain(kind: pa.DataType) -> bool:
    types = pa.types
    return not (types.is_nested(kind) or types.is_dictionary(kind) or types.is_decimal(kind))


def _csv_type(kind: pa.DataType) -> pa.DataType:
    return kind if _is_plain(kind) and not pa.types.is_float16(kind) else pa.string()


def _csv_column(column: Any) -> Any:
    if _csv_type(column.type) == column.type:
        return column
    if pa.types.is_nested(column.type):
        texts = [
            None if v is None else orjson.dumps(v, default=str).decode() for v in column.to_pylist()
        ]
    else:
        texts = [None if v is None else str(v) for v in column.to_pylist()]
    return pa.array(texts, pa.string())


class _JsonLines:
    """JSON lines; NaN is null, as JSON has none."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, batch: Any) -> None:
        option = orjson.OPT_APPEND_NEWLINE
        lines = [orjson.dumps(row, default=_json, option=option) for row in json_rows(batch)]
        self._file.write(b"".join(lines))

    def close(self) -> None:
        return


def _json(value: object) -> str:
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)
