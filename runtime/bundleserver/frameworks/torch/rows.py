"""Whether a program's rows are independent, and on which axes they are: it is tried at load."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import torch

from bundleserver.errors import LoadError
from bundleserver.frameworks.torch.layout import (
    for_single_rows,
    placed,
    swapped,
    with_rows_first,
)
from bundleserver.frameworks.torch.program import Layout, Program
from bundleserver.frameworks.torch.samples import (
    Example,
    arrays_of,
    declared_examples,
    other_ranks,
    sequences,
)
from bundleserver.frameworks.torch.values import flat

_MOST_INTEGERS = 4
"""Maximum inputs that are tried as integers."""

DEPENDENT = "dependent"
ROWS = ("independent", DEPENDENT)
"""What ``options.rows`` may be."""


class _Refused(Exception):
    """The program does not take the example, so that nothing is known."""


class _Depends(Exception):
    """A row's result depends on the other rows; the message says how it shows."""

    example: Example = ()


@dataclass(frozen=True)
class _Attempt:
    """One reading of the rows: examples in groups, their axis in rank 3, whether steps are added.

    ``only``: other ranks are refused if rows depend on each other there.
    """

    groups: Iterable[tuple[Example, ...]]
    axis: int = 0
    steps: bool = False
    only: bool = False


def settled(path: Path, program: Program, sequence: bool | None) -> Program:
    """Return a program that knows where its rows are.

    Args:
        path: its file, for the message.
        program: with the axes in its own order.
        sequence: whether rows ``[n, f]`` are sequences of one step; None: if it is recurrent.

    Raises:
        LoadError: rows depend on each other, and ``one_sequence`` is false.
    """
    found = _settled(path, program, sequence)
    if found.layout.example or program.dtypes_known:
        return found
    for other in _with_integers(program):
        with suppress(LoadError):
            settled_other = _settled(path, other, sequence)
            if settled_other.layout.example:
                return settled_other
    return found


def _with_integers(program: Program) -> Iterator[Program]:
    """Yield the program with some of its inputs INT64, the fewest first."""
    floats = [i for i, each in enumerate(program.inputs) if each.dtype.is_floating_point]
    for count in range(1, min(len(floats), _MOST_INTEGERS) + 1):
        for chosen in combinations(floats[:_MOST_INTEGERS], count):
            inputs = (
                replace(each, dtype=torch.int64) if i in chosen else each
                for i, each in enumerate(program.inputs)
            )
            yield replace(program, inputs=tuple(inputs))


def _settled(path: Path, program: Program, sequence: bool | None) -> Program:
    steps = program.recurrent if sequence is None else sequence
    if program.single_row and not program.one_sequence:
        return for_single_rows(program, steps)
    depends: list[_Depends] = []
    for attempt in _attempts(program, sequence, steps):
        try:
            layout = _layout_of(program, attempt)
        except _Depends as found:
            depends.append(found)
            continue
        if layout is not None:
            keeps = sequence is True or layout.steps
            return placed(program, replace(layout, steps=keeps), attempt.only and bool(depends))
    if program.one_sequence or not depends:
        default = steps and not program.one_sequence and _takes_sequences(program)
        example = depends[0].example if depends else ()
        return placed(program, Layout(steps=default, example=example), only=False)
    raise LoadError(
        f"'{path}': rows of a request depend on each other: {depends[0]}; each row must give the "
        "same result alone. If the rows of a request are one sequence, set "
        f'"options": {{"rows": "{DEPENDENT}"}} for this component in the manifest'
    )


def _attempts(program: Program, sequence: bool | None, steps: bool) -> Iterator[_Attempt]:
    axes = (0, 1) if program.recurrent else (0,)
    if all(declared.shape is not None for declared in program.inputs):
        for axis in axes:
            yield _Attempt(declared_examples(program, axis), axis, steps)
        return
    if sequence is not True:
        yield _Attempt(other_ranks(program))
    if steps:
        for axis in axes:
            yield _Attempt(sequences(program, axis), axis, steps=True)
    if not steps and not program.one_sequence:
        yield _Attempt(sequences(program, 0), only=True)


def _layout_of(program: Program, attempt: _Attempt) -> Layout | None:
    """Return the layout of the first group that the program takes; None: it takes none.

    Raises:
        _Depends: rows depend on each other in it.
    """
    for group in attempt.groups:
        taken: dict[Example, tuple[int, ...]] = {}
        for example in group:
            try:
                taken[example] = _axes_of_rows(program, example, attempt.axis)
            except _Refused:
                continue
            except _Depends as found:
                found.example = example
                raise
        if taken:
            example, outputs = next(iter(taken.items()))
            single = any(len(s) == 3 and s[1 - attempt.axis] == 1 for s in example)
            shapes = tuple(swapped(shape, attempt.axis) for shape in example)
            return Layout(attempt.steps and single, attempt.axis, outputs, shapes)
    return None


def _axes_of_rows(program: Program, example: Example, axis: int) -> tuple[int, ...]:
    """Compare rows together with each alone; return the axis of the rows in each output.

    Raises:
        _Refused: the program does not take so many rows of these shapes.
        _Depends: a row's result differs.
    """
    calls = [_Call(program, example, axis, rows) for rows in _counts(program, example, axis)]
    if not calls:
        raise _Refused
    names = [name for name, _ in calls[0].answer]
    if not calls[-1].is_repeatable():
        return (0,) * len(names)
    axes = tuple(_axis_of_rows(position, name, calls) for position, name in enumerate(names))
    for call in calls:
        for row in range(call.rows):
            call.compare(row, axes)
    return axes


def _counts(program: Program, example: Example, axis: int) -> list[int]:
    """Return the numbers of rows to try, of which every one is more than one."""
    if not any(-1 in shape for shape in example):
        counts = {shape[axis if len(shape) == 3 else 0] for shape in example if shape}
    else:
        limits = [d.limits.get(_axis_in(d.shape or (), axis)) for d in program.inputs]
        least = max((limit[0] for limit in limits if limit), default=0)
        most = min((limit[1] for limit in limits if limit), default=3)
        counts = {min(max(2, least), most), min(max(3, least), most)}
    return sorted(count for count in counts if count > 1)


def _axis_in(shape: Sequence[int], axis: int) -> int:
    return axis if len(shape) == 3 else 0


class _Call:
    """A call with some rows of an example, and what it returned."""

    def __init__(self, program: Program, example: Example, axis: int, rows: int) -> None:
        self.rows = rows
        self._program = program
        self._tensors = [
            torch.from_numpy(array).to(program.device, declared.dtype)
            for array, declared in zip(
                arrays_of(program, example, rows), program.inputs, strict=False
            )
        ]
        self._axes = [_axis_in(shape, axis) for shape in example]
        self.answer = self._run(self._tensors)

    def is_repeatable(self) -> bool:
        """Ask whether the same call returns the same again; one that draws numbers does not."""
        again = self._run(self._tensors)
        return all(_equal(a, b, b) for (_, a), (_, b) in zip(self.answer, again, strict=True))

    def compare(self, row: int, axes: Sequence[int]) -> None:
        """Raise _Depends if a row alone has another result than among the others."""
        alone, times = self._alone(row)
        for (name, whole), (_, part), axis in zip(self.answer, alone, axes, strict=True):
            mine = whole.select(axis, row)
            single = with_rows_first(part, axis, times)[0]
            if not _equal(single, mine, whole.movedim(axis, 0)):
                raise _Depends(
                    f"{name} of row {row} differs between a call of {self.rows} rows and one of "
                    "this row alone"
                )

    def _alone(self, row: int) -> tuple[list[tuple[str, torch.Tensor]], int]:
        for times in (1, self.rows):
            # A program for exactly n rows gets the row n times.
            index = torch.tensor([row] * times, device=self._program.device)
            tensors = [
                tensor.index_select(axis, index) if tensor.ndim > axis else tensor
                for tensor, axis in zip(self._tensors, self._axes, strict=True)
            ]
            try:
                return self._run(tensors), times
            except _Refused:
                continue
        raise _Depends(f"it takes {self.rows} rows, but not one of them alone")

    def _run(self, tensors: Sequence[torch.Tensor]) -> list[tuple[str, torch.Tensor]]:
        with torch.inference_mode():
            try:
                found = flat(self._program.run([tensor.clone() for tensor in tensors]))
            except Exception as error:  # the model's own code may raise anything
                raise _Refused from error
        return [
            (f"output '{name or f'output-{index}'}'", torch.as_tensor(part))
            for index, (name, part) in enumerate(found)
            if isinstance(part, (torch.Tensor, bool, int, float))
        ]


def _axis_of_rows(position: int, name: str, calls: Sequence[_Call]) -> int:
    shapes = [call.answer[position][1].shape for call in calls]
    for axis in range(min(map(len, shapes))):
        if all(shape[axis] == call.rows for shape, call in zip(shapes, calls, strict=True)):
            return axis
    raise _Depends(f"{name} has shape {list(shapes[-1])} for {calls[-1].rows} rows, no entry each")


def _equal(one: torch.Tensor, other: torch.Tensor, whole: torch.Tensor) -> bool:
    """Compare results but for rounding; ``whole`` is the output that they are of, rows first."""
    if one.shape != other.shape:
        return False
    if not whole.is_floating_point():
        return torch.equal(one, other)
    apart = (one.double() - other.double()).abs()
    same = (apart <= _tolerance(whole)) | (one == other) | (one.isnan() & other.isnan())
    return bool(same.all())


def _tolerance(whole: torch.Tensor) -> torch.Tensor:
    """Return how far apart rounding may put two results, for each column of an output."""
    eps = 4 * torch.finfo(whole.dtype).eps
    numbers = whole.double()
    finite = torch.where(numbers.isfinite(), numbers, 0.0)
    largest = finite.abs().amax()
    if whole.device.type != "cpu":
        # A GPU may multiply with fewer digits for another number of rows.
        return max(1e-3, eps) * largest + 1e-3 * (finite.amax() - finite.amin())
    column = finite.abs().flatten(0, -2).amax(0) if whole.ndim > 1 else largest
    return max(1e-4, eps) * column + eps * largest


def _takes_sequences(program: Program) -> bool:
    return any(
        declared.dtype.is_floating_point
        and (declared.shape is None or (len(declared.shape) == 3 and declared.shape[1] in (-1, 1)))
        for declared in program.inputs
    )
