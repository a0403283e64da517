"""Made-up inputs for the probe: from what the fitted objects know, else from the signature."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, zip_longest
from math import prod

import numpy as np

from bundleserver.bundle.steps import Plan, PlannedStep
from bundleserver.tensors import NUMPY_DTYPES, Array, NamedTensor, TensorSpec, datatype_of

MOST_MADE_UP = 1 << 22
"""The most values of an input that is made up: a manifest may say any number in a few bytes."""

_MOST_NAMED = 10_000
_KINDS = ("normal", "zeros", "ones")
_UNKNOWN_SHAPES = ((-1, 1), (-1,), (-1, -1, 1))
"""What stands for a shape of which nothing is known."""


@dataclass(frozen=True)
class Sample:
    """The inputs of one call of a bundle, by name.

    ``guessed``: inputs whose shape or datatype is not known, so that a step that takes them may
    refuse both and still answer others.
    """

    inputs: Mapping[str, NamedTensor]
    guessed: frozenset[str] = frozenset()

    @property
    def values(self) -> frozenset[str]:
        """The values, as strings; of very many the first ones."""
        flat = (value for tensor in self.inputs.values() for value in tensor.values.flat)
        return frozenset(str(value) for value in islice(flat, _MOST_NAMED))

    def __str__(self) -> str:
        described = (
            f"'{tensor.name}' {datatype_of(tensor.values)} {list(tensor.values.shape)}"
            for tensor in self.inputs.values()
        )
        return ", ".join(described)


def samples_of(plan: Plan, rows: int) -> Iterator[Sample]:
    """Yield inputs for calls of so many different rows, the most plausible call first."""
    choices = [_choices(spec, plan, rows) for spec in plan.signature.inputs]
    if not choices:
        return
    for chosen in zip_longest(*choices):
        # An input with fewer choices goes on with its last one.
        parts = [part or choice[-1] for part, choice in zip(chosen, choices, strict=True) if choice]
        tensors = {tensor.name: tensor for part in parts for tensor in part.inputs.values()}
        yield Sample(tensors, frozenset().union(*(part.guessed for part in parts)))


def recorded_samples_of(plan: Plan) -> Iterator[Sample]:
    """Yield the inputs that were recorded with the only component, which nothing else may call."""
    if len(plan.steps) == 1:
        for tensors in plan.steps[0].samples(1):
            yield Sample({tensor.name: tensor for tensor in tensors})


def _choices(spec: TensorSpec, plan: Plan, rows: int) -> list[Sample]:
    """Return what may stand for one input; nothing for one that may be omitted."""
    taker = next((step for step in plan.steps if spec.name in step.inputs), None)
    known = _known_by(taker, spec, rows) if taker is not None else []
    is_known = spec.shape is not None and spec.kinds_known
    guessed = frozenset() if is_known else frozenset({spec.name})
    if known:
        return [Sample({tensor.name: tensor for tensor in each}, guessed) for each in known]
    return [] if spec.optional else list(_from_spec(spec, rows))


def _known_by(taker: PlannedStep, spec: TensorSpec, rows: int) -> list[Sequence[NamedTensor]]:
    """Ask the component that takes an input first; as the request has it, under its own name."""
    found: list[Sequence[NamedTensor]] = []
    for tensors in taker.samples(rows):
        if not taker.signature.rowwise:
            named = [tensor for tensor in tensors if tensor.name == spec.name]
        elif len(taker.inputs) == 1:
            # Several tensors are the columns of the only input.
            alone = len(tensors) == 1
            named = [_coerced(t, spec) if alone else t for t in tensors]
        else:
            # Optional inputs, which are the last, may be left out.
            place = taker.inputs.index(spec.name)
            named = [_coerced(tensor, spec) for tensor in tensors[place : place + 1]]
        if named:
            found.append(named)
    return found


def _coerced(tensor: NamedTensor, spec: TensorSpec) -> NamedTensor:
    """Give a sample the input's name, and its declared datatype and columns."""
    values = tensor.values
    if spec.datatype is not None and values.dtype.kind != "O":
        target = NUMPY_DTYPES[spec.datatype]
        values = values.astype(str).astype(object) if target.kind == "O" else values.astype(target)
    return NamedTensor(spec.name, values, spec.columns or tensor.columns)


def _from_spec(spec: TensorSpec, rows: int) -> Iterator[Sample]:
    is_known = spec.shape is not None and -1 not in spec.shape[1:]
    guessed = frozenset() if is_known else frozenset({spec.name})
    for shape in (spec.shape,) if spec.shape is not None else _UNKNOWN_SHAPES:
        sizes = tuple(rows if i == 0 else abs(size) for i, size in enumerate(shape))
        if prod(sizes) > MOST_MADE_UP:
            return
        for kind in _KINDS:
            values = _values(kind, sizes, spec.datatype or "FP64")
            yield Sample({spec.name: NamedTensor(spec.name, values, spec.columns)}, guessed)


def _values(kind: str, sizes: tuple[int, ...], datatype: str) -> Array:
    if datatype == "BYTES":
        return np.full(sizes, {"normal": "a", "zeros": "0", "ones": "1"}[kind], dtype=object)
    if kind == "normal":
        drawn = np.random.default_rng(0).normal(size=sizes)
        return (np.abs(drawn) if datatype.startswith("UINT") else drawn).astype(
            NUMPY_DTYPES[datatype]
        )
    return np.full(sizes, kind == "ones").astype(NUMPY_DTYPES[datatype])
