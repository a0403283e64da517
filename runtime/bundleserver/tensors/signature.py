"""A model's inputs and outputs, and how a request's tensors or rows are bound to them.

A *strict* signature (of a manifest with ``inputs``) requires exactly its named inputs. A *lenient*
one (of any other) is a drop-in for KServe's sklearn server: a single input accepts any tensor name
and any numeric datatype, and several tensors are the columns of one table.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice

import numpy as np

from bundleserver.errors import InvalidInput
from bundleserver.tensors import (
    NUMPY_DTYPES,
    Array,
    NamedTensor,
    TensorSpec,
    array_from_rows,
    datatype_of,
    describe,
)
from bundleserver.tensors.columns import MOST_COMPARED, column_problems, nearest
from bundleserver.tensors.narrowing import narrowed
from bundleserver.tensors.positions import (
    input_of_rows,
    tensors_of_rows,
    without_last_columns,
)
from bundleserver.tensors.row_objects import depth_of, merged_columns, table_of_objects

DEFAULT_INPUT = "input-0"
DEFAULT_OUTPUT = "output-0"
"""The default names of tensors; the output's is KServe's."""

_MOST_SAID = 20
"""Names of a request that a message has."""


@dataclass(frozen=True)
class Signature:
    """Named inputs and outputs of a method or of a whole bundle.

    Empty ``inputs`` or ``outputs`` allow any tensors. ``rowwise``: the first axis of every tensor
    is the batch, n rows in and n rows out; false for a forecaster. ``refused``: inputs that similar
    models support and this one does not, each with the reason. ``ignores_others``: inputs that it
    does not know have no effect.
    """

    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()
    lenient: bool = False
    rowwise: bool = True
    refused: Mapping[str, str] = field(default_factory=dict)
    ignores_others: bool = False

    def validate_tensors(
        self, tensors: Sequence[NamedTensor], taker: str, content_type: str | None = None
    ) -> dict[str, NamedTensor]:
        """Validate a V2 request's tensors and key them by the model's input names.

        Args:
            tensors: the request's tensors in their order.
            taker: the model, for messages: ``'fraud' version 7``.
            content_type: the request's parameter of that name; ``pd`` makes all tensors one table.

        Raises:
            InvalidInput: a name, datatype, shape or column differs, or an input is missing.
        """
        single = self._lenient_input
        if not self.inputs or (single and len(tensors) > 1):
            return {tensor.name: tensor for tensor in tensors}
        if single:
            return _validate_single(tensors, single, taker, content_type == "pd")
        if self.refused:
            self._refuse(tensor.name for tensor in tensors)
        bound: dict[str, NamedTensor] = {}
        if self.ignores_others:
            self._check_others([tensor.name for tensor in tensors], taker)
        for tensor in tensors:
            spec = self._specs.get(tensor.name)
            if spec is None and self.ignores_others:
                continue
            if spec is None:
                raise InvalidInput(_unknown_input(tensor.name, self.inputs, taker))
            values = spec.validate(self._eased(tensor.values, spec, taker), taker)
            bound[spec.name] = NamedTensor(spec.name, values, tensor.columns or spec.columns)
        if len(bound) < len(self.inputs):
            self._check_complete(bound, taker, [tensor.name for tensor in tensors])
        if self.rowwise and len(bound) > 1:
            _check_equal_rows(bound, taker)
        return bound

    def validate_rows(self, rows: Sequence[object], taker: str) -> dict[str, NamedTensor]:
        """Convert V1 rows to inputs: arrays, plain values, or objects keyed by input or column.

        Arrays of objects are several rows each, as in KServe's sklearn server.

        Raises:
            InvalidInput: rows are ragged, of mixed kinds, or lack a column.
        """
        if not rows:
            raise InvalidInput(f"'instances' is an empty array; {taker} expects at least one row")
        first = rows[0]
        if isinstance(first, list) and first and isinstance(first[0], dict):
            rows = [row for part in rows for row in (part if isinstance(part, list) else [part])]
            first = rows[0]
        if isinstance(first, dict):
            return self._validate_objects(rows, taker)
        inputs = self.inputs or (TensorSpec(DEFAULT_INPUT),)
        spec = input_of_rows(inputs)
        if spec is None:
            return self.validate_tensors(tensors_of_rows(rows, inputs, taker), taker)
        values = array_from_rows(rows, spec, taker)
        return self.validate_tensors((NamedTensor(spec.name, values),), taker)

    def _is_row(self, spec: TensorSpec, rows: Sequence[object]) -> bool:
        """Ask whether an array in an object is the value of one row, and not several rows."""
        if not self.rowwise or spec.shape is None:
            return self.rowwise
        first = rows[0].get(spec.name) if isinstance(rows[0], dict) else None
        return len(self.inputs) > 1 and len(spec.shape) > 1 and depth_of(first) < len(spec.shape)

    def _with_gaps(self, rows: Sequence[object]) -> Sequence[object]:
        """Put null where a row lacks an optional column that another row has."""
        optional = {spec.name for spec in self.inputs if spec.optional}
        if not optional or not self.rowwise or not all(isinstance(row, dict) for row in rows):
            return rows
        objects = [row for row in rows if isinstance(row, dict)]
        came = {name: None for row in objects for name in row if name in optional}
        return [{**came, **row} for row in objects]

    def _eased(self, values: Array, spec: TensorSpec, taker: str) -> Array:
        """Accept a column as ``[n, 1]``; a lenient signature also numbers of another datatype."""
        if not self.rowwise:
            return values
        if spec.shape == (-1,):
            values = _flat(values)
        return _converted(values, spec, taker) if self.lenient else values

    def _refuse(self, names: Iterable[str]) -> None:
        for name in names:
            if name in self.refused:
                raise InvalidInput(f"input '{name}' is not supported: {self.refused[name]}")

    def _check_others(self, came: Collection[str], taker: str) -> None:
        """Refuse an unknown name that is probably one of those that did not come, misspelt."""
        lacking = [spec for spec in self.inputs if spec.name not in came]
        unknown = (name for name in came if name not in self._specs) if lacking else ()
        for name in islice(unknown, MOST_COMPARED):
            if nearest(name, [spec.name for spec in lacking]):
                raise InvalidInput(_unknown_input(name, lacking, taker))

    def _check_complete(
        self, bound: Mapping[str, NamedTensor], taker: str, came: Sequence[str]
    ) -> None:
        missing = [spec for spec in self.inputs if not spec.optional and spec.name not in bound]
        if missing:
            listed = ", ".join(describe(spec) for spec in missing)
            got = ", ".join(f"'{name}'" for name in came[:_MOST_SAID]) or "none"
            got += f" and {len(came) - _MOST_SAID} more" if len(came) > _MOST_SAID else ""
            names = [spec.name for spec in missing]
            _, meant = column_problems(came, self._specs, names) or ("", "")
            raise InvalidInput(
                f"missing inputs for {taker}: {listed}; the request has {got}{meant}"
            )

    @cached_property
    def _specs(self) -> dict[str, TensorSpec]:
        return {spec.name: spec for spec in self.inputs}

    @cached_property
    def _lenient_input(self) -> TensorSpec | None:
        """The one input of a drop-in for KServe's sklearn server; accepts what that accepts."""
        if self.lenient and self.rowwise and len(self.inputs) == 1:
            return self.inputs[0]
        return None

    def _validate_objects(self, rows: Sequence[object], taker: str) -> dict[str, NamedTensor]:
        """Bind rows whose keys are input names, or the column names of the only input."""
        single = self.inputs[0] if len(self.inputs) == 1 else None
        required: Sequence[str] = ()
        if single is not None:
            required = single.required_columns or single.columns
        if self.ignores_others:
            required = required or [spec.name for spec in self.inputs if not spec.optional]
        whole = {spec.name for spec in self.inputs if self._is_row(spec, rows)}
        table = table_of_objects(
            self._with_gaps(rows), taker, expand=self.lenient, required=required, whole=whole
        )
        self._refuse(table)
        if self.ignores_others and not self._specs.keys().isdisjoint(table):
            self._check_others(table, taker)
            table = {name: column for name, column in table.items() if name in self._specs}
        specs = {spec.name: spec for spec in self.inputs}
        if single is not None and table.keys() != {single.name}:
            if single.columns and not self.lenient:
                return {single.name: merged_columns(table, single, taker)}
            if self.lenient:
                specs = {}
        tensors = [
            NamedTensor(name, array_from_rows(column, specs.get(name, TensorSpec(name)), taker))
            for name, column in table.items()
        ]
        if specs:
            return self.validate_tensors(tensors, taker)
        return {t.name: NamedTensor(t.name, t.values, (t.name,)) for t in tensors}


def _validate_single(
    tensors: Sequence[NamedTensor], spec: TensorSpec, taker: str, is_table: bool
) -> dict[str, NamedTensor]:
    """Bind the only tensor, under any name and of any numeric datatype, to the only input.

    Where it is a table (``content_type: pd``), its name is the name of its one column.
    """
    if not tensors:
        raise InvalidInput(f"the request has no inputs; {taker} expects {describe(spec)}")
    values = tensors[0].values
    if (is_table or tensors[0].name in spec.columns) and _flat(values).ndim == 1:
        table = values.reshape(-1, 1)
        return {spec.name: NamedTensor(spec.name, table, (tensors[0].name,))}
    if spec.shape == (-1,):
        values = _flat(values)
    values = _converted(values, spec, taker)
    columns = tensors[0].columns or spec.columns
    if spec.required_columns and (fewer := without_last_columns(values, spec)):
        return {spec.name: NamedTensor(spec.name, values, tensors[0].columns or fewer)}
    return {spec.name: NamedTensor(spec.name, spec.validate(values, taker), columns)}


def _flat(values: Array) -> Array:
    """Return ``[n]`` for ``[n, 1]``, and anything else as it is."""
    return values.reshape(-1) if values.ndim == 2 and values.shape[1] == 1 else values


def _converted(values: Array, spec: TensorSpec, taker: str) -> Array:
    """Convert numbers to a spec's datatype, unless another number or boolean would come of it."""
    if spec.datatype is None or "BYTES" in (spec.datatype, datatype_of(values)):
        return values
    target = NUMPY_DTYPES[spec.datatype]
    converted = narrowed(values, target, f"input '{spec.name}'", taker)
    return converted if target.kind == "f" or np.array_equal(converted, values) else values


def _unknown_input(name: str, inputs: Sequence[TensorSpec], taker: str) -> str:
    near = nearest(name, [spec.name for spec in inputs])
    hint = f"; did you mean '{near}'?" if near else ""
    taken = ", ".join(describe(spec) for spec in inputs)
    return f"unknown input '{name}'; {taker} expects {taken}{hint}"


def _check_equal_rows(bound: Mapping[str, NamedTensor], taker: str) -> None:
    lengths = {name: t.values.shape[0] for name, t in bound.items() if t.values.ndim > 0}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"'{name}' has {length}" for name, length in lengths.items())
        raise InvalidInput(
            f"inputs differ in their number of rows: {listed}; {taker} expects equal numbers"
        )
