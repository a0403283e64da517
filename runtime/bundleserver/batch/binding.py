"""Which columns of a table become which inputs of a model: decided once, before any row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from bundleserver.batch.kinds import check_kind, depth_of
from bundleserver.batch.uses import Use
from bundleserver.bundle import Bundle
from bundleserver.documents.forms import quoted
from bundleserver.errors import InvalidInput
from bundleserver.tensors import TensorSpec, describe
from bundleserver.tensors.columns import column_problems
from bundleserver.tensors.signature import Signature


@dataclass(frozen=True)
class Binding:
    """The columns that a model takes, and how they become its inputs.

    Attributes:
        uses: the columns, in the model's order.
        stacked: the one input whose columns they are; None where each is a tensor of its own.
        is_complete: whether a stacked input has all of its columns.
        questions: whether each row is a question of its own, as a forecaster's are.
    """

    uses: tuple[Use, ...]
    stacked: TensorSpec | None = None
    is_complete: bool = True
    questions: bool = False


def bind(
    bundle: Bundle,
    table: pa.Schema,
    *,
    keep: Sequence[str] = (),
    columns: Sequence[str] = (),
    is_text: bool = False,
) -> Binding:
    """Decide which columns of a table a model takes, and refuse a table that lacks some.

    Args:
        bundle: the model.
        table: the table's columns and their types.
        keep: columns to carry through, which a model without column names does not take.
        columns: the columns that a model without column names takes, in its order.
        is_text: whether the table's types say nothing, as those of CSV.

    Raises:
        InvalidInput: a column is missing or there twice, or has values of another kind.
    """
    names = list(table.names)
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise InvalidInput(f"the table has the columns {quoted(twice)} more than once")
    for what, wanted in (("keep", keep), ("columns", columns)):
        if twice := [name for name, count in Counter(wanted).items() if count > 1]:
            raise InvalidInput(f"{what} has {quoted(twice)} more than once")
        if missing := [name for name in wanted if name not in names]:
            raise InvalidInput(
                f"{what}: the table has no column {quoted(missing)}; it has {quoted(names[:20])}"
            )
    binder = _Binder(bundle, table, keep, columns)
    binding = binder.bind()
    if columns and not binder.took_columns:
        raise InvalidInput(
            f"columns: {bundle.identity} takes its columns by name, "
            f"{quoted(use.column for use in binding.uses)}; leave 'columns' out"
        )
    for use in binding.uses:
        check_kind(use.column, table.field(use.column).type, use, bundle.identity, is_text=is_text)
    return binding


class _Binder:
    def __init__(
        self, bundle: Bundle, table: pa.Schema, keep: Sequence[str], columns: Sequence[str]
    ) -> None:
        self._taker = bundle.identity
        self._signature: Signature = bundle.signature
        self._announced: Mapping[str, TensorSpec] = {
            spec.name: spec for spec in bundle.probe.signature.inputs
        }
        self._table = table
        self._names = set(table.names)
        self._columns = tuple(columns)
        self._others = tuple(columns) or tuple(n for n in table.names if n not in set(keep))
        self.took_columns = False

    def bind(self) -> Binding:
        inputs = self._signature.inputs
        if not self._signature.rowwise:
            return self._questions()
        if not inputs:
            self.took_columns = True
            return Binding(tuple(Use(name, shape=None) for name in self._others))
        if len(inputs) > 1:
            return Binding(self._by_name(inputs))
        (spec,) = inputs
        return self._named(spec) if spec.columns else self._unnamed(spec)

    def _named(self, spec: TensorSpec) -> Binding:
        """Take the columns of a model that knows their names; those without effect may lack."""
        required = spec.required_columns or spec.columns
        if problems := column_problems(self._names, spec.columns, required):
            said, meant = problems
            raise InvalidInput(f"{said}; {self._taker} expects {quoted(required)}{meant}")
        datatypes = self._datatypes(spec, len(spec.columns))
        has_nulls = spec.datatype is None or spec.nullable
        uses = tuple(
            Use(column, spec.datatype, text_datatype=datatype, has_nulls=has_nulls)
            for column, datatype in zip(spec.columns, datatypes, strict=True)
            if column in (self._names & set(required) if spec.required_columns else self._names)
        )
        if self._signature.lenient:
            return Binding(uses)
        return Binding(uses, spec, len(uses) == len(spec.columns))

    def _unnamed(self, spec: TensorSpec) -> Binding:
        """Take one column that is the whole input, or the columns that are not kept, in order."""
        row = None if spec.shape is None else spec.shape[1:]
        is_whole = spec.name in self._names and not self._columns
        if is_whole and (row is None or len(row) == depth_of(self._type(spec.name))):
            return Binding((self._use(spec, spec.name),))
        self.took_columns = True
        lists = [name for name in self._others if depth_of(self._type(name))]
        is_list = len(self._others) == 1 and (lists or row == ())
        if is_list:
            return Binding((self._use(spec, self._others[0]),))
        if lists or (row is not None and len(row) != 1) or not self._others:
            raise InvalidInput(
                f"{self._taker} expects {describe(spec)}: a column '{spec.name}' with "
                f"{'a plain value' if row == () else 'a list'} in each row, or one such column "
                f"that is not kept; the table has {quoted(self._others[:20])}"
            )
        if row not in (None, (-1,), (len(self._others),)):
            raise InvalidInput(
                f"{self._taker} expects {describe(spec)}, without names of columns, and the table "
                f"has {len(self._others)} columns beside those that are kept: "
                f"{quoted(self._others[:20])}; say which ones, and in which order, by 'columns'"
            )
        datatypes = self._datatypes(spec, len(self._others))
        pairs = zip(self._others, datatypes, strict=True)
        has_nulls = spec.datatype is None or spec.nullable
        uses = tuple(
            Use(name, spec.datatype, text_datatype=kind, has_nulls=has_nulls)
            for name, kind in pairs
        )
        return Binding(uses, spec)

    def _by_name(self, inputs: Sequence[TensorSpec]) -> tuple[Use, ...]:
        required = [spec.name for spec in inputs if not spec.optional]
        known = [spec.name for spec in inputs]
        if problems := column_problems(self._names, known, required):
            said, meant = problems
            raise InvalidInput(f"{said}; {self._taker} expects {quoted(required)}{meant}")
        return tuple(self._use(spec, spec.name) for spec in inputs if spec.name in self._names)

    def _questions(self) -> Binding:
        """Take a question from each row: inputs by name, and the parameters of forecasts."""
        inputs = self._signature.inputs
        known = [spec.name for spec in inputs if spec.name in self._names]
        if not known:
            listed = ", ".join(map(describe, inputs))
            raise InvalidInput(
                f"the table has none of the inputs of {self._taker}: {listed}; each row is a "
                f"question of its own, and the table has {quoted(list(self._names)[:20])}"
            )
        lacking = [s.name for s in inputs if not s.optional and s.name not in self._names]
        if lacking:
            raise InvalidInput(f"missing column {quoted(lacking)}; {self._taker} expects it")
        uses = [
            Use(spec.name, None, None, text_datatype=spec.datatype)
            for spec in inputs
            if spec.name in self._names
        ]
        for name, datatype in (("level", "FP64"), ("history_start", "BYTES")):
            if name in self._names and name not in known:
                uses.append(Use(name, None, None, text_datatype=datatype))
        return Binding(tuple(uses), questions=True)

    def _use(self, spec: TensorSpec, column: str) -> Use:
        (datatype,) = self._datatypes(spec, 1)
        strict = spec.datatype == "BYTES" and not (spec.optional or spec.nullable)
        return Use(
            column,
            spec.datatype,
            None if spec.shape is None else spec.shape[1:],
            text_datatype=datatype,
            has_nulls=spec.nullable or (spec.datatype == "BYTES" and not strict),
            is_flag=spec.is_flag,
        )

    def _datatypes(self, spec: TensorSpec, count: int) -> tuple[str | None, ...]:
        """Return what is known for certain of each column's datatype."""
        announced = self._announced.get(spec.name, spec)
        if spec.datatype is not None:
            return (spec.datatype,) * count
        if not spec.kinds_known:
            return (None,) * count
        if len(spec.column_datatypes) == count:
            return spec.column_datatypes
        return (announced.datatype,) * count

    def _type(self, name: str) -> pa.DataType:
        return self._table.field(name).type
