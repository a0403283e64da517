"""Blocks of rows as tables of Arrow, and how each request is made again of its rows."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import orjson
import pyarrow as pa

from bundleserver.serving.payload_log.rows.blocks import Block
from bundleserver.serving.payload_log.rows.columns import dtype_name
from bundleserver.serving.payload_log.rows.schemas import BASE, VersionSchema
from bundleserver.tensors import Array

FORMAT = "1"
"""The number of this format, in the metadata of every file."""


class Made(NamedTuple):
    """A table, and the form of its requests, as JSON; without the column of forms."""

    table: pa.Table
    form: str | None
    starts: Array


def table_of(blocks: Sequence[Block], ids: Sequence[str], schema: VersionSchema) -> Made:
    """Make a table of blocks of one kind; it has no columns but those that they have values for.

    Args:
        blocks: at least one.
        ids: the id of each block's request.
        schema: of their version; columns that it lacks are added.

    Raises:
        TooManyColumns: it would have too many.
        ValueError: values are no column.
    """
    counts = np.array([block.height for block in blocks])
    each = np.repeat(np.arange(len(blocks)), counts)
    entries = [block.entry for block in blocks]
    first = np.cumsum(counts) - counts
    starts = np.array([block.first_row for block in blocks])
    row = np.arange(counts.sum()) - np.repeat(first - starts, counts)
    moments = np.array([round(entry.at * 1e6) for entry in entries], dtype=np.int64)
    shared = [
        pa.array(moments, pa.int64()).cast(pa.timestamp("us", "UTC")),
        pa.array(ids, pa.string()),
        pa.array([block.total for block in blocks], pa.int32()),
        pa.array([entry.protocol for entry in entries], pa.string()),
        pa.array([_hashed(e.request.routing_key) for e in entries], pa.string()),
        pa.array([entry.outcome for entry in entries], pa.string()),
        pa.array([entry.seconds for entry in entries], pa.float64()),
        pa.array([block.parameters for block in blocks], pa.string()),
    ]
    if len(each) != len(blocks):
        shared = [column.take(pa.array(each)) for column in shared]
    arrays = [pa.array(row.astype(np.int32)), *shared]
    fields, inputs = list(BASE[: len(arrays)]), []
    for at, column in enumerate(blocks[0].columns):
        parts = [block.columns[at].values for block in blocks]
        names = []
        for name, values in _split(column.columns, parts):
            slot, made = schema.column_of(column.role, column.tensor, name, values)
            arrays.append(made)
            fields.append(slot.field)
            names.append(slot.name)
        if column.role == "input":
            inputs.append([column.tensor, dtype_name(parts[0]), column.columns, names])
    table = pa.Table.from_arrays(arrays, schema=pa.schema(fields))
    return Made(table, _form(blocks[0], inputs), first)


def _split(
    columns: Sequence[str] | None, parts: Sequence[Array]
) -> Sequence[tuple[str | None, Sequence[Array]]]:
    """Return each column of a tensor: its name, and its values in each part."""
    if columns is None:
        return [(None, parts)]
    whole = np.concatenate(parts) if len(parts) > 1 else parts[0]
    return [(name, [whole[:, at]]) for at, name in enumerate(columns)]


def _form(block: Block, inputs: Sequence[object]) -> str | None:
    """Say how a request is made of its rows; None if it failed.

    ``inputs`` has the name, datatype, columns and columns of the file of each tensor, or is null
    where some are not logged.
    """
    response = block.entry.response
    if response is None:
        return None
    form = {
        "rowwise": response.rowwise,
        "outputs": [wanted.name for wanted in block.entry.request.outputs],
        "inputs": inputs if block.is_complete else None,
    }
    return orjson.dumps(form).decode()


def _hashed(key: str | None) -> str | None:
    """Return the half of a key's SHA-256: a key may be who asks."""
    if key is None:
        return None
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:32]
