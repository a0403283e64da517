"""Writers of tables: beside the file's name, and renamed into place when they are complete."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa

from bundleserver.batch.tables.formats import STANDARD, Format
from bundleserver.batch.tables.parts import held, open_part
from bundleserver.batch.tables.sinks import Sink, begin, carried
from bundleserver.errors import StoreError

_STANDARD_OUTPUT = ("/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")


class TableWriter:
    """Writes one table; nothing has its name before ``complete``.

    The file begins with the first batch, which decides the columns. ``abandon`` removes what was
    written; on standard output that has gone.

    Attributes:
        form: its format.
    """

    def __init__(self, place: str, form: Format, *, force: bool = False) -> None:
        """Prepare to write to a place.

        Raises:
            StoreError: a file is there, or it cannot be written there.
        """
        self.place = place
        self.form = form
        self._force = force
        self._path = Path(place)
        self._sink: Sink | None = None
        self._opened = ExitStack()
        self._part: Path | None = None
        self._schema: pa.Schema | None = None
        if place == STANDARD:
            self._file: BinaryIO = sys.stdout.buffer
            return
        self._refuse_existing()
        try:
            part, self._file = open_part(self._path)
            self._opened.enter_context(self._file)
        except OSError as error:
            raise StoreError(f"'{place}' cannot be written: {error.strerror or error}") from error
        self._part = part

    def write(self, batch: pa.RecordBatch) -> None:
        """Write a batch.

        Raises:
            StoreError: its columns differ from those of the first, or the disk is full.
        """
        try:
            batch = carried(batch, self.form)
            if self._sink is None:
                self._schema = batch.schema
                self._sink = begin(self._file, self.form, batch.schema, self._opened)
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
            with held(self._file):
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
        if self.place in _STANDARD_OUTPUT:
            raise StoreError(f"'{self.place}' is standard output; write it as '-'")
        if self._path.is_dir():
            raise StoreError(f"'{self.place}' is a directory; expected the name of a file")
        if self._path.is_symlink():
            raise StoreError(
                f"'{self.place}' is a symbolic link to '{self._path.readlink()}'; give that name, "
                "since a link is not replaced"
            )
        if self._path.exists() and not self._path.is_file():
            raise StoreError(
                f"'{self.place}' is a device or a pipe; expected the name of a file, or '-' for "
                "standard output"
            )
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
