"""Columns of JSON lines that are carried through: as they were written, or typed without loss."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
import pyarrow as pa

from bundleserver.batch.tables.json_columns import Bad

Part = tuple[object, str]
"""A value, its integers exact, and its text."""
Parts = Mapping[str, Part]

JSON_TEXT = b"bundleserver.json_text"
"""The key in the metadata of a field whose strings are JSON, for a writer of JSON."""

_EXACT = 1 << 53
_SHOWN = 60
_DECODER = json.JSONDecoder()
_SPACE = re.compile(r"[ \t\n\r]*")
_BETWEEN = re.compile(r"[ \t\n\r]*:[ \t\n\r]*")


def parts_of(line: str) -> dict[str, Part]:
    """Return an object's values and their texts; of a key that is there twice the last one.

    Args:
        line: an object that is known to be valid JSON.

    Raises:
        RecursionError: its values are nested too deep.
    """
    parts: dict[str, Part] = {}
    at = _after_space(line, line.index("{") + 1)
    while line[at] != "}":
        name, at = _DECODER.raw_decode(line, at)
        at = _BETWEEN.match(line, at).end()  # type: ignore[union-attr]  # it is valid
        value, end = _DECODER.raw_decode(line, at)
        parts[name] = (value, line[at:end])
        at = _after_space(line, end)
        if line[at] == ",":
            at = _after_space(line, at + 1)
    return parts


def _after_space(line: str, at: int) -> int:
    return _SPACE.match(line, at).end()  # type: ignore[union-attr]  # it matches nothing, too


class KeptColumns:
    """Makes the columns that are carried through to an output.

    JSON lines get the text of each value. CSV gets strings as they are, and the text of others.
    Formats with types get the type of the first rows: booleans, strings, integers of 64 bits,
    floating-point numbers of 64 bits, or lists of one of them; and else the text of each value.
    """

    def __init__(self, names: Sequence[str], form: str, first: Sequence[Parts]) -> None:
        """Decide the columns' types.

        Args:
            names: the columns.
            form: the name of the output's format.
            first: the first rows.
        """
        self._form = form
        self._kinds: dict[str, pa.DataType | None] = dict.fromkeys(names)
        if form not in ("jsonl", "csv"):
            for name in names:
                self._kinds[name] = _kind_of([row[name][0] for row in first if name in row])
        mark = {JSON_TEXT: b""} if form == "jsonl" else None
        self._schema = pa.schema(
            [
                pa.field(name, kind or pa.string(), metadata=mark)
                for name, kind in self._kinds.items()
            ]
        )

    def batch(self, rows: Sequence[Parts], bad: Bad) -> pa.RecordBatch:
        """Make the columns of some rows; ``bad`` is told of values that a type has not."""
        columns = [self._column(name, rows, bad) for name in self._kinds]
        return pa.RecordBatch.from_arrays(columns, schema=self._schema)

    def _column(self, name: str, rows: Sequence[Parts], bad: Bad) -> pa.Array:
        kind = self._kinds[name]
        values: list[object] = []
        for at, row in enumerate(rows):
            value, text = row.get(name, (None, "null"))
            if kind is not None and not _fits(value, kind):
                bad.setdefault(
                    at,
                    f"column '{name}' has {text[:_SHOWN]}; expected {kind}, as in the first rows",
                )
                value = None
            values.append(value if kind is not None else self._text(value, text))
        return pa.array(values, kind or pa.string())

    def _text(self, value: object, text: str) -> str | None:
        if self._form == "csv" and isinstance(value, str):
            return value
        return None if value is None else text


def _kind_of(values: Sequence[object]) -> pa.DataType | None:
    """Return a type that has all the values as they are; None if there is none."""
    present = [value for value in values if value is not None]
    kinds = {type(value) for value in present}
    if kinds == {list}:
        inner = _kind_of([one for value in present for one in value])  # type: ignore[attr-defined]  # lists
        return None if inner is None else pa.list_(inner)
    simple = (pa.bool_(), pa.string(), pa.int64(), pa.float64())
    fitting = (kind for kind in simple if all(_fits(value, kind) for value in present))
    return next(fitting, None) if kinds else None


def _fits(value: object, kind: pa.DataType) -> bool:
    """Ask whether a type has a value as it is."""
    types = pa.types
    if value is None:
        return True
    if types.is_list(kind):
        return isinstance(value, list) and all(_fits(one, kind.value_type) for one in value)
    if types.is_boolean(kind) or isinstance(value, bool):
        return types.is_boolean(kind) and isinstance(value, bool)
    if types.is_string(kind):
        return isinstance(value, str)
    if types.is_integer(kind):
        return isinstance(value, int) and -(1 << 63) <= value < 1 << 63
    return isinstance(value, float) or (isinstance(value, int) and -_EXACT <= value <= _EXACT)


def json_rows(batch: Any) -> list[dict[str, object]]:
    """Return a batch's rows, in which columns of JSON's text are written as they are."""
    rows: list[dict[str, object]] = batch.to_pylist()
    written = [field.name for field in batch.schema if JSON_TEXT in (field.metadata or {})]
    for name in written:
        for row in rows:
            text = row[name]
            row[name] = orjson.Fragment(text) if isinstance(text, str) else None
    return rows
