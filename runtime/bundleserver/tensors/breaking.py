"""What breaks the clients of a version when another one answers in its place.

A break makes a request fail that was answered, or an answer be read wrongly. A new optional column
or input and a further output at the end are none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from bundleserver.tensors import NUMPY_DTYPES, TensorSpec, describe, is_widening
from bundleserver.tensors.signature import Signature

_MOST_SAID = 20


@dataclass(frozen=True)
class Interface:
    """What the clients of a version rely on.

    Attributes:
        signature: its inputs as requests are validated, with the announced datatype as ``likely``
            where any is valid; its outputs as they were seen.
        methods: the framework and the method that make each output.
        horizon: the most steps of a forecast.
        step: the step of a forecast.
        parameters: the parameters that its components have.
    """

    signature: Signature
    methods: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    horizon: int | None = None
    step: str | None = None
    parameters: tuple[str, ...] = ()


def find_breaks(before: Interface, after: Interface, was: str, now: str) -> tuple[str, ...]:
    """Return what breaks clients when ``after`` takes the place of ``before``, each a sentence.

    Args:
        before: what answers.
        after: what would answer in its place.
        was: what answers, for the sentences: ``version v1``.
        now: likewise: ``version v2``.
    """
    old, new = before.signature, after.signature
    if old.rowwise != new.rowwise:
        return (f"{was} {_kind(old)}, and {now} {_kind(new)}",)
    found = [*_Inputs(old, new, was, now).breaks(), *_outputs(before, after, was, now)]
    found += _of_forecasts(before, after, was, now)
    if gone := [name for name in before.parameters if name not in after.parameters]:
        found.append(f"{now} lacks the parameters {_quoted(gone)} of {was}")
    if len(found) > _MOST_SAID:
        found[_MOST_SAID:] = [f"and {len(found) - _MOST_SAID} more"]
    return tuple(found)


def _kind(signature: Signature) -> str:
    return "answers row by row" if signature.rowwise else "forecasts"


def _quoted(names: list[str] | tuple[str, ...]) -> str:
    more = f" and {len(names) - _MOST_SAID} more" if len(names) > _MOST_SAID else ""
    return ", ".join(f"'{name}'" for name in names[:_MOST_SAID]) + more or "none"


@dataclass(frozen=True)
class _Inputs:
    """The inputs of two versions."""

    old: Signature
    new: Signature
    was: str
    now: str

    def breaks(self) -> Iterator[str]:
        """Yield what requests meet that were answered."""
        old, new = self.old.inputs, self.new.inputs
        if not old:
            return
        if _takes_any_name(self.new):
            yield from self._pair(old[0], new[0]) if len(old) == 1 else self._in_one_table()
        elif _takes_any_name(self.old):
            yield (
                f"{self.was} takes its input under any name and of any numeric datatype, and "
                f"{self.now} only {_listed(new)}, as its manifest declares 'inputs'"
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
                taken = _quoted(list(came))
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
        if not _is_accepted(old, new, is_eased=self.new.lenient and self.new.rowwise):
            yield self._differs(what, _announced(old) or "any datatype", _announced(new))
        elif old.nullable and not new.nullable and not str(new.datatype).startswith("FP"):
            yield f"{what} may have null in {self.was}, and not in {self.now}"
        said = list(self._columns(what, old, new))
        yield from said
        if said or old.shape is None or new.shape is None:
            return
        shape = list(new.shape)
        if old.columns and set(old.columns) < set(new.columns):  # the others are optional
            shape[-1] = old.shape[-1]
        if not _fits(old.shape, tuple(shape), is_rows=self.new.rowwise):
            yield self._differs(what, list(old.shape), list(new.shape))

    def _differs(self, what: str, old: object, new: object) -> str:
        return f"{what} is {old} in {self.was}, and {new} in {self.now}"

    def _columns(self, what: str, old: TensorSpec, new: TensorSpec) -> Iterator[str]:
        required = new.required_columns or new.columns
        after = _datatypes(new) if new.kinds_known else {}
        if not old.columns:
            strings = [name for name in required if after.get(name) == "BYTES"]
            if strings and _announced(old) not in (None, "BYTES"):
                said = f"the columns {_quoted(strings)} of strings"
                yield self._differs(what, _announced(old), f"a table with {said}")
            return
        if not new.columns:
            yield (
                f"{what} has the columns {_quoted(old.columns)} in {self.was}, and {self.now} "
                "knows none by name"
            )
            return
        known = set(old.columns)
        if gone := [name for name in old.columns if name not in new.columns]:
            yield f"{what} has the columns {_quoted(gone)} in {self.was}, and not in {self.now}"
        needed = set(old.required_columns or old.columns)
        if more := [name for name in required if name not in needed]:
            yield f"{self.now} requires columns of {what} that {self.was} does not: {_quoted(more)}"
        order = [name for name in new.columns if name in known]
        if not gone and order != list(old.columns):
            yield (
                f"{what} has its columns in the order {_quoted(old.columns)} in {self.was}, and "
                f"{_quoted(order)} in {self.now}"
            )
        before = _datatypes(old) if old.kinds_known else {}
        for name in required:
            if _is_other_kind(before.get(name), after.get(name)):
                yield self._differs(f"column '{name}' of {what}", before[name], after[name])


def _outputs(before: Interface, after: Interface, was: str, now: str) -> Iterator[str]:
    names = [spec.name for spec in after.signature.outputs]
    came = {spec.name: spec for spec in after.signature.outputs}
    for index, old in enumerate(before.signature.outputs):
        what, new = f"output '{old.name}'", came.get(old.name)
        if new is None:
            yield f"{now} lacks the {what} of {was}; its outputs: {_quoted(names)}"
            continue
        if names.index(old.name) != index:
            yield f"{what} is number {index} in {was}, and number {names.index(old.name)} in {now}"
        if old.datatype and new.datatype and old.datatype != new.datatype:
            yield f"{what} is {old.datatype} in {was}, and {new.datatype} in {now}"
        if old.shape is not None and new.shape is not None and _is_other(old.shape, new.shape):
            yield f"{what} is {list(old.shape)} in {was}, and {list(new.shape)} in {now}"
        made, makes = before.methods.get(old.name), after.methods.get(old.name)
        # Other frameworks have other names for the same.
        if made and makes and made[0] == makes[0] and made[1] != makes[1]:
            yield f"{what} is made by '{made[1]}' in {was}, and by '{makes[1]}' in {now}"


def _of_forecasts(before: Interface, after: Interface, was: str, now: str) -> Iterator[str]:
    if before.horizon is not None and after.horizon is not None and before.horizon > after.horizon:
        yield f"{was} forecasts {before.horizon} steps at most, and {now} {after.horizon}"
    if before.step is not None and after.step is not None and before.step != after.step:
        yield f"a step of 'horizon' is '{before.step}' in {was}, and '{after.step}' in {now}"


def _takes_any_name(signature: Signature) -> bool:
    return signature.lenient and signature.rowwise and len(signature.inputs) == 1


def _listed(specs: tuple[TensorSpec, ...]) -> str:
    more = f" and {len(specs) - _MOST_SAID} more" if len(specs) > _MOST_SAID else ""
    return ", ".join(map(describe, specs[:_MOST_SAID])) + more


def _announced(spec: TensorSpec) -> str | None:
    return spec.datatype or spec.likely


def _datatypes(spec: TensorSpec) -> dict[str, str | None]:
    """Return the datatype of each column."""
    each = spec.column_datatypes or (_announced(spec),) * len(spec.columns)
    return dict(zip(spec.columns, each, strict=False))


def _is_other_kind(one: str | None, other: str | None) -> bool:
    """Ask whether one datatype is of strings, and the other is not."""
    return None not in (one, other) and (one == "BYTES") != (other == "BYTES")


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


def _is_other(old: tuple[int, ...], new: tuple[int, ...]) -> bool:
    """Ask whether outputs of two shapes certainly differ."""
    pairs = zip(old, new, strict=False)
    return len(old) != len(new) or any(-1 not in pair and pair[0] != pair[1] for pair in pairs)
