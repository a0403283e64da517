"""Opens a table for reading by its format."""

from __future__ import annotations

from pathlib import Path

from bundleserver.batch.tables.formats import ARROW, PARQUET, Format
from bundleserver.batch.tables.pieces import Reader
from bundleserver.errors import InvalidInput


def open_reader(place: str, form: Format) -> Reader:
    """Open a file, or standard input; the caller closes the reader.

    Raises:
        InvalidInput: it is of another format, or damaged.
        OSError: it cannot be read.
    """
    path = Path(place)
    if form in (PARQUET, ARROW) and path.exists() and not path.is_file():
        raise InvalidInput(
            f"'{place}' is not a regular file, and '{form.name}' is read by position; use a file, "
            "or 'arrows', 'csv' or 'jsonl' for a pipe"
        )
    if form.name == "parquet":
        from bundleserver.batch.tables.columnar import ParquetReader

        return ParquetReader(place)
    if form.name == "csv":
        from bundleserver.batch.tables.csv_text import CsvReader

        return CsvReader(place, form)
    if form.name == "jsonl":
        from bundleserver.batch.tables.json_lines import JsonLinesReader

        return JsonLinesReader(place, form)
    from bundleserver.batch.tables.columnar import ArrowReader

    return ArrowReader(place, form)
