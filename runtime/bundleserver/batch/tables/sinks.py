"""The formats of tables as they are written, and which columns they can have."""

from __future__ import annotations

import gzip
from collections.abc import Iterable
from contextlib import ExitStack
from typing import Any, BinaryIO, Protocol, cast

import orjson
import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.ipc as ipc
import pyarrow.types as kinds

from bundleserver.batch.tables.formats import Format
from bundleserver.batch.tables.json_kept import json_rows
from bundleserver.errors import InvalidInput

_GROUP_ROWS = 1 << 20
"""The rows of a row group: what readers of Parquet expect."""
_TEXTS = ("csv", "jsonl")


class Sink(Protocol):
    """Writes batches of one schema to a file, which stays open."""

    def write(self, batch: Any) -> object:
        """Write a batch."""

    def close(self) -> object:
        """Write what ends the format."""


def begin(file: BinaryIO, form: Format, schema: pa.Schema, opened: ExitStack) -> Sink:
    """Begin a table in a file; what ``opened`` closes comes before the file.

    Raises:
        ArrowException: the format has not such a column.
    """
    if form.name == "parquet":
        return _Parquet(file, schema)
    if form.name == "arrow":
        return cast("Sink", ipc.new_file(file, schema))
    if form.name == "arrows":
        return cast("Sink", ipc.new_stream(file, schema))
    if form.is_gzip:
        packed = gzip.GzipFile(fileobj=file, mode="wb", compresslevel=6)
        file = cast("BinaryIO", opened.enter_context(packed))
    return _Csv(file, schema) if form.name == "csv" else _JsonLines(file)


def carried(batch: pa.RecordBatch, form: Format) -> pa.RecordBatch:
    """Return a batch whose columns have types that a format has: plain ones for categories."""
    schema = _schema(batch.schema, form)
    if schema == batch.schema:
        return batch
    columns = [_as(column, one.type) for column, one in zip(batch.columns, schema, strict=True)]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def check_carried(table: pa.Schema, names: Iterable[str], form: Format, flag: str) -> None:
    """Refuse columns that a format has not, before anything is written.

    Args:
        table: the table's columns.
        names: those that are written.
        form: the format.
        flag: what asks for them, for the message.

    Raises:
        InvalidInput: names the column and its type.
    """
    for name in names:
        field = table.field(name)
        try:
            is_known = not (form.name in _TEXTS and _has_bytes(field.type))
            if is_known:
                _try(pa.schema([pa.field(name, field.type)]), form)
        except pa.ArrowException:
            is_known = False
        if not is_known:
            raise InvalidInput(
                f"{flag}: column '{name}' is {field.type}, which {form.name} does not have; use "
                "Parquet or Arrow, leave the column out, or write it as text"
            )


def _try(schema: pa.Schema, form: Format) -> None:
    plain = _schema(schema, form)
    with ExitStack() as opened, pa.BufferOutputStream() as file:
        sink = begin(cast("BinaryIO", file), Format(form.name), plain, opened)
        sink.write(pa.RecordBatch.from_arrays([pa.nulls(1, plain.field(0).type)], schema=plain))
        sink.close()


def _schema(schema: pa.Schema, form: Format) -> pa.Schema:
    types = [(one.name, _carried_type(one.type, form)) for one in schema]
    if types == list(zip(schema.names, schema.types, strict=True)):
        return schema
    changed = [one.with_type(kind) for one, (_, kind) in zip(schema, types, strict=True)]
    return pa.schema(changed, schema.metadata)


def _carried_type(kind: pa.DataType, form: Format) -> pa.DataType:
    """Return the type of a column in a format.

    A file of Arrow has one dictionary for all batches, and the categories of a table's batches may
    differ; text has no types of a program's own.
    """
    if isinstance(kind, pa.BaseExtensionType) and form.name in _TEXTS:
        kind = kind.storage_type
    if kinds.is_dictionary(kind):
        kind = kind.value_type
    if kinds.is_string_view(kind):
        return pa.string()
    if kinds.is_binary_view(kind):
        return pa.binary()
    return _carried_nested(kind, form)


def _carried_nested(kind: pa.DataType, form: Format) -> pa.DataType:
    """Return the type of lists and structs in a format."""
    if not (kinds.is_list(kind) or kinds.is_large_list(kind) or kinds.is_struct(kind)):
        return kind
    own = [kind.field(at) for at in range(kind.num_fields)]
    fields = [pa.field(one.name, _carried_type(one.type, form)) for one in own]
    if [one.type for one in own] == [one.type for one in fields]:
        return kind
    if kinds.is_struct(kind):
        return pa.struct(fields)
    return (pa.large_list if kinds.is_large_list(kind) else pa.list_)(fields[0])


def _as(column: Any, kind: pa.DataType) -> Any:
    if column.type == kind:
        return column
    if isinstance(column, pa.ExtensionArray) and not isinstance(kind, pa.BaseExtensionType):
        column = column.storage
    if kinds.is_dictionary(column.type):
        column = column.dictionary_decode()
    return column.cast(kind)


def _has_bytes(kind: pa.DataType) -> bool:
    """Ask whether a type has bytes, which are no text, at any depth."""
    if isinstance(kind, pa.BaseExtensionType):
        return _has_bytes(kind.storage_type)
    if kinds.is_dictionary(kind):
        return _has_bytes(kind.value_type)
    if kinds.is_nested(kind):
        return any(_has_bytes(kind.field(at).type) for at in range(kind.num_fields))
    return bool(
        kinds.is_binary(kind)
        or kinds.is_large_binary(kind)
        or kinds.is_fixed_size_binary(kind)
        or kinds.is_binary_view(kind)
    )


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
    return not (kinds.is_nested(kind) or kinds.is_decimal(kind))


def _csv_type(kind: pa.DataType) -> pa.DataType:
    return kind if _is_plain(kind) and not kinds.is_float16(kind) else pa.string()


def _csv_column(column: Any) -> Any:
    if _csv_type(column.type) == column.type:
        return column
    if kinds.is_nested(column.type):
        texts = [
            None if v is None else orjson.dumps(v, default=str).decode() for v in column.to_pylist()
        ]
    else:
        texts = [None if v is None else str(v) for v in column.to_pylist()]
    return pa.array(texts, pa.string())


class _JsonLines:
    """JSON lines; NaN and infinities are null, as in V1 and V2."""

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
