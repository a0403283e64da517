"""A model's outputs as Arrow columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from bundleserver.errors import BundleError, InvalidInput
from bundleserver.serving.codecs.tensor_json import flat_objects
from bundleserver.tensors import NUMPY_DTYPES, Array, TensorSpec

KEPT = {
    "model": b"bundleserver.model",
    "version": b"bundleserver.version",
    "digest": b"bundleserver.digest",
}
"""The keys of a table's metadata that say who made it."""


def column_of(values: Array, name: str, rows: int) -> pa.Array:
    """Make a column of an output: ``[n]`` one value a row, ``[n, m]`` a list of m, and so on.

    Numbers keep their bits; NaN stays NaN and is not null. Strings and dates are as in V2.

    Args:
        values: the output; its first axis is the batch.
        name: its name, for messages.
        rows: how many rows there must be.

    Raises:
        BundleError: it has another number of rows.
        InvalidInput: it has bytes that are not UTF-8.
    """
    if not values.ndim or len(values) != rows:
        raise BundleError(
            f"output '{name}' has shape {list(values.shape)} for {rows} rows; expected one entry "
            "for each row"
        )
    column = _flat(values, name)
    for size in reversed(values.shape[1:]):
        count = len(column) // size if size else int(np.prod(values.shape[:-1]))
        offsets = np.arange(count + 1, dtype=np.int64) * size
        if offsets[-1] > np.iinfo(np.int32).max:
            raise BundleError(f"output '{name}' has more than 2³¹ values; use smaller batches")
        column = pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), column)
    return column


def _flat(values: Array, name: str) -> pa.Array:
    if values.dtype.kind not in "OSUTMm":
        flat = np.ascontiguousarray(values).reshape(-1)
        return pa.array(flat.astype(flat.dtype.newbyteorder("="), copy=False))
    strings = [None if value is None else _text(value, name) for value in flat_objects(values)]
    return pa.array(strings, pa.string())


def _text(value: object, name: str) -> str:
    if not isinstance(value, bytes):
        return str(value)
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise InvalidInput(
            f"output '{name}' has bytes that are not UTF-8; a table has strings"
        ) from error


def type_of(spec: TensorSpec) -> pa.DataType | None:
    """Return the type of an output's column, if its datatype and rank are known."""
    datatype = spec.datatype or spec.likely
    if datatype is None or spec.shape is None:
        return None
    kind = pa.string() if datatype == "BYTES" else pa.from_numpy_dtype(NUMPY_DTYPES[datatype])
    for _ in spec.shape[1:]:
        kind = pa.list_(kind)
    return kind


def with_identity(
    columns: Mapping[str, Any], facts: Mapping[str, str], known: pa.Schema | None = None
) -> pa.RecordBatch:
    """Make a batch of columns, with the model, version and digest in its schema's metadata.

    Args:
        columns: the columns.
        facts: the model, version and digest.
        known: fields that say more about a column than its type.
    """
    said = {} if known is None else {field.name: field for field in known}
    fields = [said.get(name) or pa.field(name, column.type) for name, column in columns.items()]
    return pa.RecordBatch.from_arrays(
        list(columns.values()), schema=pa.schema(fields, facts_of(facts))
    )


def facts_of(facts: Mapping[str, str]) -> dict[bytes, bytes]:
    """Return a schema's metadata for model, version and digest."""
    return {KEPT[key]: value.encode() for key, value in facts.items()}
