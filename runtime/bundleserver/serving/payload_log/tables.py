"""Logged requests as tables: one row for each row of a request, with its inputs and outputs.

Of a model that is not rowwise, such as a forecaster, a request or an instance is one row, and its
tensors are lists. Every column of an input or output says in its metadata which tensor it is of.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import orjson
import pyarrow as pa

from bundleserver.bundle.warming.examples import validate_values
from bundleserver.serving.codecs import content_types
from bundleserver.serving.execution.predict import INSTANCE_PARAMETERS
from bundleserver.serving.payload_log.columns import PLAIN_KINDS, arrow_column, type_of
from bundleserver.serving.payload_log.entries import Entry, Taker
from bundleserver.tensors import NUMPY_DTYPES, Array, NamedTensor, TensorSpec

ALL = "all"
"""Instead of names of columns: every input."""

MOST_COLUMNS = 2_000
"""A tensor with more columns is one column, of lists."""

FORMAT = "1"
"""The number of this format, in the metadata of every file."""


class Column(NamedTuple):
    """A tensor for some rows, which are the first axis of ``values``, or named columns of it.

    ``role`` is ``input`` or ``output``; with ``columns``, ``values`` has one more axis for them.
    """

    role: str
    tensor: str
    columns: tuple[str, ...] | None
    values: Array

    @property
    def key(self) -> tuple[object, ...]:
        """What columns of one table have in common."""
        dtype = self.values.dtype
        return self.role, self.tensor, self.columns, _dtype_name(dtype), self.values.ndim


class Block(NamedTuple):
    """Some rows of one entry.

    Attributes:
        entry: the request.
        first_row: the number of the first of the rows in the request.
        height: how many rows.
        columns: their inputs and outputs.
        parameters: the request's parameters as JSON; None if there are none, or they are not
            logged.
        is_complete: with these inputs the request can be sent again.
    """

    entry: Entry
    first_row: int
    height: int
    columns: tuple[Column, ...]
    parameters: str | None = None
    is_complete: bool = False

    @property
    def kind(self) -> tuple[object, ...]:
        """What blocks of one table have in common."""
        return (self.is_complete, *(column.key for column in self.columns))


def blocks_of(entry: Entry, wanted: Collection[str]) -> Iterator[Block]:
    """Yield the rows of a request; a failed one is one row without inputs and outputs.

    Args:
        entry: the request.
        wanted: names of inputs, or of columns of inputs, to log; or ``ALL``.

    Raises:
        BundleServerError, ValueError: its inputs cannot be read.
    """
    response, request = entry.response, entry.request
    if response is None:
        yield Block(entry, 0, 1, ())
        return
    takes = entry.taker if wanted else None
    if response.answers is not None:
        for index, answer in enumerate(response.answers):
            own: tuple[Column, ...] = ()
            parameters, is_complete = dict(request.parameters), False
            if takes is not None and request.rows is not None:
                inputs, more = _instance(request.rows[index], takes)
                parameters |= more
                own, is_complete = _inputs(inputs, takes, wanted, alone=True)
            outputs = _answered(answer, entry.taker)
            said, is_logged = _parameters(parameters, wanted)
            yield Block(entry, index, 1, (*own, *outputs), said, is_complete and is_logged)
        return
    own, is_complete, alone = (), False, not response.rowwise
    if takes is not None:
        inputs = _validated(entry, takes).values()
        own, is_complete = _inputs(inputs, takes, wanted, alone=alone)
    outputs = tuple(_whole("output", n, a, alone) for n, a in response.outputs.items())
    count = 1 if alone else entry.row_count
    columns = (*own, *outputs)
    if not alone and outputs:
        count = len(outputs[0].values)
    if any(len(column.values) != count for column in columns):
        raise ValueError("its inputs and outputs have different numbers of rows")
    said, is_logged = _parameters(request.parameters, wanted)
    if count:
        yield Block(entry, 0, count, columns, said, is_complete and is_logged)


def table_of(
    blocks: Sequence[Block], ids: Sequence[str], metadata: Mapping[str, str] | None = None
) -> pa.Table:
    """Make a table of blocks of one kind.

    Args:
        blocks: at least one.
        ids: the id of each block's request.
        metadata: of the file; whether the inputs are complete is added.
    """
    counts = np.array([block.height for block in blocks])
    each = np.repeat(np.arange(len(blocks)), counts)
    entries = [block.entry for block in blocks]
    first = np.cumsum(counts) - counts
    starts = np.array([block.first_row for block in blocks])
    row = np.arange(counts.sum()) - np.repeat(first - starts, counts)
    moments = np.array([round(entry.at * 1e6) for entry in entries], dtype=np.int64)
    about = {
        "timestamp": pa.array(moments, pa.int64()).cast(pa.timestamp("us", "UTC")),
        "request_id": pa.array(ids, pa.string()),
        "rows": pa.array([entry.row_count for entry in entries], pa.int32()),
        "protocol": pa.array([entry.protocol for entry in entries], pa.string()),
        "routing_key": pa.array([_hashed(e.request.routing_key) for e in entries], pa.string()),
        "outcome": pa.array([entry.outcome for entry in entries], pa.string()),
        "seconds": pa.array([entry.seconds for entry in entries], pa.float64()),
        "parameters": pa.array([block.parameters for block in blocks], pa.string()),
    }
    names = ["row", *about]
    shared = list(about.values())
    if len(each) != len(blocks):
        shared = [column.take(pa.array(each)) for column in shared]
    arrays = [pa.array(row.astype(np.int32)), *shared]
    fields = [pa.field(name, array.type) for name, array in zip(names, arrays, strict=True)]
    taken = set(names)
    for at in range(len(blocks[0].columns)):
        for column, parts in _columns([block.columns[at] for block in blocks]):
            kind = type_of(parts[0])
            arrays.append(arrow_column(parts, kind))
            told = {
                "role": column.role,
                "tensor": column.tensor,
                "dtype": _dtype_name(parts[0].dtype),
            }
            if column.columns is not None:
                told["column"] = column.columns[0]
            fields.append(pa.field(_name(column, taken), kind, metadata=told))
    said = {"bundleserver.format": FORMAT, **(metadata or {})}
    response = entries[0].response
    said["bundleserver.rows"] = "rows" if response is None or response.rowwise else "requests"
    if response is None:
        said["bundleserver.inputs"] = "none"
    else:
        said["bundleserver.inputs"] = "complete" if blocks[0].is_complete else "not complete"
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields, metadata=said))


def _columns(parts: Sequence[Column]) -> Iterator[tuple[Column, list[Array]]]:
    """Yield each column of a tensor, and its values in each part."""
    if parts[0].columns is None:
        yield parts[0], [part.values for part in parts]
        return
    whole = np.concatenate([part.values for part in parts])
    for i, name in enumerate(parts[0].columns):
        yield parts[0]._replace(columns=(name,)), [whole[:, i]]


def _dtype_name(dtype: np.dtype[Any]) -> str:
    return dtype.str if dtype.kind in PLAIN_KINDS else "object"


def _validated(entry: Entry, taker: Taker) -> Mapping[str, NamedTensor]:
    """Return a request's inputs as its model got them."""
    request = entry.request
    if request.rows is not None:
        return taker.signature.validate_rows(request.rows, taker.identity)
    content_type = request.parameters.get("content_type")
    if content_type is not None:
        content_type = content_types.of_request(content_type)
    return taker.signature.validate_tensors(request.tensors or (), taker.identity, content_type)


def _instance(row: object, taker: Taker) -> tuple[Iterable[NamedTensor], dict[str, object]]:
    """Return the inputs of one instance and its own parameters, as ``predict`` takes them."""
    values = dict(row) if isinstance(row, dict) else {}
    names = {spec.name for spec in taker.signature.inputs}
    own = {n: values.pop(n) for n in INSTANCE_PARAMETERS if n in values and n not in names}
    return validate_values(values, taker.signature, taker.identity).values(), own


def _inputs(
    tensors: Iterable[NamedTensor], taker: Taker, wanted: Collection[str], *, alone: bool
) -> tuple[tuple[Column, ...], bool]:
    """Return the wanted columns of inputs, and whether these are all."""
    found: list[Column] = []
    is_complete = True
    specs = {spec.name: spec for spec in taker.signature.inputs}
    for tensor in tensors:
        values, columns = tensor.values, tensor.columns
        whole = ALL in wanted or tensor.name in wanted
        if alone or values.ndim != 2 or len(columns) != values.shape[1]:
            columns = ()
        if whole and not 0 < len(columns) <= MOST_COLUMNS:
            found.append(_whole("input", tensor.name, values, alone))
            continue
        listed = [i for i, name in enumerate(columns) if whole or name in wanted]
        is_complete = is_complete and 0 < len(columns) == len(listed)
        spec = specs.get(tensor.name, TensorSpec(tensor.name))
        kinds = dict(zip(spec.columns, spec.column_datatypes, strict=False))
        if listed and values.dtype.kind in PLAIN_KINDS:
            names = columns if len(listed) == len(columns) else tuple(columns[i] for i in listed)
            part = values if len(listed) == len(columns) else values[:, listed]
            found.append(Column("input", tensor.name, names, part))
            continue
        for i in listed:
            part = _unmixed(values[:, i : i + 1], kinds.get(columns[i]))
            found.append(Column("input", tensor.name, columns[i : i + 1], part))
    return tuple(found), is_complete


def _whole(role: str, name: str, values: Array, alone: bool) -> Column:
    return Column(role, name, None, values[np.newaxis] if alone else values)


def _unmixed(values: Array, datatype: str | None) -> Array:
    """Return a column of a table of mixed objects as numbers, unless it has texts."""
    if values.dtype.kind != "O" or datatype == "BYTES":
        return values
    plain = values.tolist()
    if not all(value is None or isinstance(value, (bool, int, float)) for (value,) in plain):
        return values
    return np.array(plain, dtype=np.bool_ if datatype == "BOOL" else np.float64)


def _answered(answer: object, taker: Taker | None) -> tuple[Column, ...]:
    """Return the outputs of one instance's answer, which are plain values."""
    specs = {spec.name: spec for spec in taker.signature.outputs} if taker else {}
    found = []
    for name, plain in answer.items() if isinstance(answer, dict) else ():
        spec = specs.get(name)
        dtype = None if spec is None or spec.datatype is None else NUMPY_DTYPES[spec.datatype]
        values = np.array(plain, dtype=dtype)
        found.append(_whole("output", name, values, alone=True))
    return tuple(found)


def _parameters(
    parameters: Mapping[str, object], wanted: Collection[str]
) -> tuple[str | None, bool]:
    """Return parameters as JSON, where they are logged, and whether none is missing then."""
    kept = {name: value for name, value in parameters.items() if name != "binary_data_output"}
    if not kept or ALL not in wanted:
        return None, not kept
    return orjson.dumps(kept, default=str).decode(), True


def _hashed(key: str | None) -> str | None:
    """Return the half of a key's SHA-256: a key may be who asks."""
    if key is None:
        return None
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _name(column: Column, taken: set[str]) -> str:
    """Name a column of the table, as no other is named."""
    own = column.columns[0] if column.columns else column.tensor
    names = [f"{column.role}_{own}", f"{column.role}_{column.tensor}_{own}"]
    names += [f"{names[0]}_{number}" for number in range(2, 2 + len(taken))]
    name = next(name for name in names if name not in taken)
    taken.add(name)
    return name
