"""What breaks the clients of a version when another takes its place: what its inputs take."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bundleserver.tensors import NUMPY_DTYPES, TensorSpec, describe, is_widening
from bundleserver.tensors.positions import fewest_columns, fewest_inputs, input_of_rows
from bundleserver.tensors.signature import Signature

MOST_SAID = 20
"""Names in a sentence, and sentences."""


def quoted(names: Sequence[str]) -> str:
    """List names for a sentence, the first ones of many."""
    more = f" and {len(names) - MOST_SAID} more" if len(names) > MOST_SAID else ""
    return ", ".join(f"'{name}'" for name in names[:MOST_SAID]) + more or "none"


@dataclass(frozen=True)
class InputBreaks:
    """The inputs of two versions."""

    old: Signature
    new: Signature
    was: str
    now: str

    def all(self) -> tuple[str, ...]:
        """Return what requests meet that were answered, each a sentence."""
        return tuple(self._by_names()) or tuple(self._by_position())

    def _by_position(self) -> Iterator[str]:
        """Compare what the values of a row are, where no name says it."""
        old, new = _in_a_row(self.old), _in_a_row(self.new)
        is_whole = len(old) == len(new) or _fewest_in_a_row(self.new) <= len(old) < len(new)
        if old and new and not (is_whole and old == new[: len(old)]):
            yield (
                f"requests without column names have {quoted(old)} in {self.was}, and "
                f"{quoted(new)} in {self.now}"
            )

    def _by_names(self) -> Iterator[str]:
        old, new = self.old.inputs, self.new.inputs
        if not old:
            return
        if _takes_any_name(self.new):
            yield from self._pair(old[0], new[0]) if len(old) == 1 else self._in_one_table()
        elif _takes_any_name(self.old):
            why = "" if self.new.lenient else ", as its manifest declares 'inputs'"
            yield (
                f"{self.was} takes its input under any name and of any numeric datatype, and "
                f"{self.now} only {_listed(new)}{why}"
            )
            if len(new) == 1:
                yield from self._pair(old[0], new[0])
        else:
            yield from self._by_name()

    def _by_name(self) -> Iterator[str]:
        came = {spec.name: spec for spec in self.new.inputs}
        known = {spec.name: spec for spec in self.old.inputs}
        for name, spec in known.items():
            if name in came:
                yield from self._pair(spec, came[name])
            elif name in self.new.refused:
                why = self.new.refused[name]
                yield f"{self.was} takes the input '{name}', and {self.now} does not: {why}"
            elif not self.new.ignores_others:
                taken = quoted(list(came))
                yield f"{self.now} lacks the input '{name}' of {self.was}; its inputs: {taken}"
        for name, spec in came.items():
            if not spec.optional and (name not in known or known[name].optional):
                lack = "takes requests without it" if name in known else "does not know"
                yield f"{self.now} requires the input {describe(spec)}, which {self.was} {lack}"
        if self.old.lenient and self.old.rowwise and not self.new.lenient:
            yield (
                f"{self.was} takes inputs of any numeric datatype, and {self.now} only "
                f"{_listed(self.new.inputs)}, as its manifest declares 'inputs'"
            )

    def _in_one_table(self) -> Iterator[str]:
        """Compare inputs with the columns of a table that they may be given as."""
        table, came = self.new.inputs[0], [spec.name for spec in self.old.inputs]
        required = table.required_columns or table.columns
        if not table.columns or not {*came} & {*table.columns}:
            yield (
                f"{self.was} takes the inputs {_listed(self.old.inputs)}, and {self.now} only one, "
                f"{describe(table)}"
            )
            return
        needed = {spec.name for spec in self.old.inputs if not spec.optional}
        for name in required:
            if name not in needed:
                yield f"{self.now} requires the column '{name}', which {self.was} does not require"
        datatypes = _datatypes(table)
        for spec in self.old.inputs:
            datatype = datatypes.get(spec.name)
            if table.kinds_known and datatype and _is_other_kind(_announced(spec), datatype):
                yield (
                    f"column '{spec.name}' is {datatype} in {self.now}, and the input of that name "
                    f"is {_announced(spec)} in {self.was}"
                )

    def _pair(self, old: TensorSpec, new: TensorSpec) -> Iterator[str]:
        what = f"input '{old.name}'"
        is_eased = self.new.lenient and self.new.rowwise
        if not self.old.lenient and _is_narrowed(old, new, is_eased=is_eased):
            yield self._differs(what, "of any datatype", f"only {new.datatype}")
        elif not _is_accepted(old, new, is_eased=is_eased):
            yield self._differs(what, _announced(old) or "any datatype", _announced(new))
        elif old.nullable and not new.nullable and not str(new.datatype).startswith("FP"):
            yield f"{what} may have null in {self.was}, and not in {self.now}"
        said = list(self._columns(what, old, new))
        yield from said
        if said or old.shape is None or new.shape is None:
            return
        shape, width = new.shape, old.shape[-1] if old.shape else 0
        fewest = fewest_columns(new) if _takes_any_name(self.new) else len(new.columns)
        if new.columns and (old.columns or fewest <= width < len(new.columns)):
            shape = (*shape[:-1], width)  # the others are optional
        if not _fits(old.shape, shape, is_rows=self.new.rowwise):
            yield self._differs(what, list(old.shape), list(new.shape))

    def _differs(self, what: str, old: object, new: object) -> str:
        return f"{what} is {old} in {self.was}, and {new} in {self.now}"

    def _columns(self, what: str, old: TensorSpec, new: TensorSpec) -> Iterator[str]:
        required = new.required_columns or new.columns
        after = _datatypes(new) if new.kinds_known else {}
        if not old.columns:
            strings = [name for name in required if after.get(name) == "BYTES"]
            if strings and _announced(old) not in (None, "BYTES"):
                said = f"the columns {quoted(strings)} of strings"
                yield self._differs(what, _announced(old), f"a table with {said}")
            return
        if not new.columns:
            yield (
                f"{what} has the columns {quoted(old.columns)} in {self.was}, and {self.now} "
                "knows none by name"
            )
            return
        known, came = set(old.columns), set(new.columns)
        if gone := [name for name in old.columns if name not in came]:
            yield f"{what} has the columns {quoted(gone)} in {self.was}, and not in {self.now}"
        needed = set(old.required_columns or old.columns)
        if more := [name for name in required if name not in needed]:
            yield f"{self.now} requires columns of {what} that {self.was} does not: {quoted(more)}"
        order = [name for name in new.columns if name in known]
        if not gone and order != list(old.columns):
            yield (
                f"{what} has its columns in the order {quoted(old.columns)} in {self.was}, and "
                f"{quoted(order)} in {self.now}"
            )
        before = _datatypes(old) if old.kinds_known else {}
        for name in required:
            if _is_other_kind(before.get(name), after.get(name)):
                yield self._differs(f"column '{name}' of {what}", before[name], after[name])


def _in_a_row(signature: Signature) -> tuple[str, ...]:
    """Return what the values of a row without names are, in order; empty where nothing says it."""
    inputs = signature.inputs
    # Rows of forecasts give every input, and a forecast takes either a horizon or dates.
    if not inputs or (not signature.rowwise and sum(spec.optional for spec in inputs) > 1):
        return ()
    row = input_of_rows(inputs)
    return tuple(spec.name for spec in inputs) if row is None else row.columns


def _fewest_in_a_row(signature: Signature) -> int:
    """Return how many values without names are enough."""
    row = input_of_rows(signature.inputs)
    if row is None:
        return fewest_inputs(signature.inputs)
    return fewest_columns(row) if _takes_any_name(signature) else len(row.columns)


def _takes_any_name(signature: Signature) -> bool:
    return signature.lenient and signature.rowwise and len(signature.inputs) == 1


def _listed(specs: tuple[TensorSpec, ...]) -> str:
    more = f" and {len(specs) - MOST_SAID} more" if len(specs) > MOST_SAID else ""
    return ", ".join(map(describe, specs[:MOST_SAID])) + more


def _announced(spec: TensorSpec) -> str | None:
    return spec.datatype or spec.likely


def _datatypes(spec: TensorSpec) -> dict[str, str | None]:
    """Return the datatype of each column."""
    each = spec.column_datatypes or (_announced(spec),) * len(spec.columns)
    return dict(zip(spec.columns, each, strict=False))


def _is_other_kind(one: str | None, other: str | None) -> bool:
    """Ask whether one datatype is of strings, and the other is not."""
    return None not in (one, other) and (one == "BYTES") != (other == "BYTES")


def _is_narrowed(old: TensorSpec, new: TensorSpec, *, is_eased: bool) -> bool:
    """Ask whether numbers of any datatype were valid, and only those of one are."""
    took_any = old.datatype is None and old.likely != "BYTES" and not old.columns
    return took_any and new.datatype not in (None, "BYTES") and not is_eased


def _is_accepted(old: TensorSpec, new: TensorSpec, *, is_eased: bool) -> bool:
    """Ask whether a tensor of the old datatype is valid for the new spec."""
    came, wanted = _announced(old), new.datatype
    if came is None or came == wanted:
        return True
    if wanted is None:
        return bool(old.columns or new.columns) or not _is_other_kind(came, new.likely)
    if "BYTES" in (came, wanted):
        return False
    if is_eased and NUMPY_DTYPES[wanted].kind == "f":
        return True
    return is_widening(came, wanted) or (is_eased and came == "BOOL")


def _fits(old: tuple[int, ...], new: tuple[int, ...], *, is_rows: bool) -> bool:
    """Ask whether a tensor of the old shape has the new one."""
    if is_rows and len(old) == 2 and old[1] == 1 and len(new) == 1:
        return True  # a column is taken as its values
    pairs = zip(old, new, strict=False)
    return len(old) == len(new) and all(wanted in (-1, size) for size, wanted in pairs)
