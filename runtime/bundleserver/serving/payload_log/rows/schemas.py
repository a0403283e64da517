"""The columns of a version's files: what its signature declares, and what came beside it.

They are the same in every file of the version, so that all of them are one table: a number that
JSON has as ``3`` now and as ``3.5`` then is a double both times.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

import pyarrow as pa

from bundleserver.serving.payload_log.rows.columns import PLAIN_KINDS, TEXT, arrow_column
from bundleserver.tensors import NUMPY_DTYPES, Array, TensorSpec
from bundleserver.tensors.signature import Signature

ALL = "all"
"""Instead of names of columns: every input."""

MOST_COLUMNS = 2_000
"""A tensor with more columns is one column, of lists."""

MOST_ADDED = 64
"""Columns of a version that no signature declares: an open one takes any names."""

BASE = (
    pa.field("row", pa.int32()),
    pa.field("timestamp", pa.timestamp("us", "UTC")),
    pa.field("request_id", pa.string()),
    pa.field("rows", pa.int32()),
    pa.field("protocol", pa.string()),
    pa.field("routing_key", pa.string()),
    pa.field("outcome", pa.string()),
    pa.field("seconds", pa.float64()),
    pa.field("parameters", pa.string()),
    pa.field("form", pa.int32()),
)
"""The columns that every file has."""

_MOST_SEEN = 32  # signatures
_ENDINGS = {"b": "flag", "t": "text", "n": "number"}

_Key = tuple[str, str, str | None]


class TooManyColumns(Exception):
    """A version has as many columns as it may have."""


class Slot(NamedTuple):
    """A column of the files: of a tensor, or of one column of it.

    ``leaf`` is the type of plain values, ``depth`` how many lists these are in.
    """

    name: str
    key: _Key
    leaf: pa.DataType
    depth: int

    @property
    def field(self) -> pa.Field:
        """It, for Arrow."""
        kind = self.leaf
        for _ in range(self.depth):
            kind = pa.list_(kind)
        role, tensor, column = self.key
        told = {"role": role, "tensor": tensor}
        return pa.field(
            self.name, kind, metadata=told if column is None else {**told, "column": column}
        )


class VersionSchema:
    """The columns of one version; some may be added, and none is ever taken away or changed."""

    def __init__(self, wanted: Collection[str]) -> None:
        """Begin with the columns of every file; ``wanted`` names the inputs to log, or is ALL."""
        self._wanted = wanted
        self.slots: list[Slot] = []
        self._by_key: dict[_Key, list[Slot]] = {}
        self._names = {field.name for field in BASE}
        self._owners: dict[str, str] = {}
        self._seen: dict[int, Signature] = {}
        self._added = 0

    def declare(self, signature: Signature) -> None:
        """Add the columns of a signature that are not there yet."""
        if id(signature) in self._seen:
            return
        if len(self._seen) >= _MOST_SEEN:
            self._seen.clear()
        # Held, since its identity could be another's otherwise.
        self._seen[id(signature)] = signature
        for spec in signature.inputs:
            for column, datatype, depth in _declared(spec, signature.rowwise, self._wanted):
                if signature.lenient and column is not None:
                    self._owners.setdefault(column, spec.name)
                self._declare(("input", spec.name, column), datatype or "FP64", depth)
        for spec in signature.outputs:
            datatype = spec.datatype or spec.likely
            if datatype is not None and spec.shape is not None:
                depth = len(spec.shape) - signature.rowwise
                self._declare(("output", spec.name, None), datatype, max(depth, 0))

    def column_of(
        self, role: str, tensor: str, column: str | None, arrays: Sequence[Array]
    ) -> tuple[Slot, pa.Array]:
        """Return values as a column of Arrow, and which one; adds it if none can have them.

        Raises:
            TooManyColumns: there is no room for another one.
            ValueError: the values are neither numbers nor texts, or are nested differently.
        """
        key = self._key(role, tensor, column)
        for slot in self._by_key.get(key, ()):
            if (made := arrow_column(arrays, slot.leaf, slot.depth)) is not None:
                return slot, made
        leaf, depth = _leaf_of(arrays), arrays[0].ndim - 1
        made = arrow_column(arrays, leaf, depth)
        if made is None:
            raise ValueError(f"{role} '{tensor}' has values of different kinds")
        if self._added >= MOST_ADDED:
            raise TooManyColumns
        self._added += 1
        return self._add(key, leaf, depth), made

    def schema(self) -> pa.Schema:
        """Return it as it is now."""
        return pa.schema([*BASE, *(slot.field for slot in self.slots)])

    def _key(self, role: str, tensor: str, column: str | None) -> _Key:
        """Find a tensor that is a column of a table: clients send tables in either form."""
        name = tensor if column is None else column
        if role == "input" and (role, tensor, column) not in self._by_key and name in self._owners:
            return role, self._owners[name], name
        return role, tensor, column

    def _declare(self, key: _Key, datatype: str, depth: int) -> None:
        leaf = TEXT
        if datatype != "BYTES":
            # Hardly a reader knows half floats; every one of them is a float.
            leaf = pa.from_numpy_dtype(NUMPY_DTYPES["FP32" if datatype == "FP16" else datatype])
        if not any((s.leaf, s.depth) == (leaf, depth) for s in self._by_key.get(key, ())):
            self._add(key, leaf, depth)

    def _add(self, key: _Key, leaf: pa.DataType, depth: int) -> Slot:
        role, tensor, column = key
        others = self._by_key.setdefault(key, [])
        own = tensor if column is None else column
        names = [f"{role}_{own}", f"{role}_{tensor}_{own}"]
        if others:
            kind = "t" if leaf == TEXT else "b" if pa.types.is_boolean(leaf) else "n"
            is_list = all(slot.depth != depth for slot in others)
            names = [f"{names[0]}_{'list' if is_list else _ENDINGS[kind]}"]
        names += [f"{names[0]}_{number}" for number in range(2, 3 + len(self._names))]
        name = next(name for name in names if name not in self._names)
        slot = Slot(name, key, leaf, depth)
        self._names.add(name)
        others.append(slot)
        self.slots.append(slot)
        return slot


def _declared(
    spec: TensorSpec, rowwise: bool, wanted: Collection[str]
) -> Iterator[tuple[str | None, str | None, int]]:
    """Yield the wanted columns of an input: name, datatype, and depth of its lists."""
    is_whole = ALL in wanted or spec.name in wanted
    shape = spec.shape
    if shape is None:
        return
    if not rowwise or len(shape) != 2 or not spec.columns or len(spec.columns) > MOST_COLUMNS:
        if is_whole:
            yield None, spec.datatype, max(len(shape) - rowwise, 0)
        return
    kinds: Mapping[str, str] = dict(zip(spec.columns, spec.column_datatypes, strict=False))
    for column in spec.columns:
        if is_whole or column in wanted:
            yield column, kinds.get(column, spec.datatype), 0


def _leaf_of(arrays: Sequence[Array]) -> pa.DataType:
    """Return the type of a column that nothing declares: a double for all numbers."""
    kinds = {array.dtype.kind for array in arrays}
    if kinds == {"b"}:
        return pa.bool_()
    if kinds <= set(PLAIN_KINDS):
        return pa.float64()
    values = [value for array in arrays for value in array.ravel().tolist() if value is not None]
    if kinds == {"O"} and values and not any(isinstance(v, (str, bytes)) for v in values):
        return pa.float64()
    return TEXT
