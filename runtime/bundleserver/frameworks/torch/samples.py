"""Inputs that a program is likely to take, from its declared shapes or from its weights' sizes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np

from bundleserver.frameworks.torch.program import Program, ProgramInput
from bundleserver.tensors import NUMPY_DTYPES, Array

Shape = tuple[int, ...]
Example = tuple[Shape, ...]
"""One shape for each input; -1 is the rows."""

_STEPS = (1, 3)
_LENGTHS = (32, 16, 64, 28, 100, 128, 8, 10, 24, 48)
_SIDES = (32, 28, 64, 224, 16, 8, 96, 128)
_POOLED = (1, 2, 4)
_IDS = (4, 16, 64)
_WIDTHS = (3, 4, 1, 2, 8)
_MOST_STEPS = 4096
_MOST_EXAMPLES = 200
_MOST_WIDTHS = 24
_MOST_COUNTS = 8


def arrays_of(program: Program, example: Example, rows: int) -> list[Array]:
    """Return different rows of an example's shapes: normal numbers, or the integers 0 and 1."""
    rng = np.random.default_rng(rows)
    return [
        _values(rng, declared, tuple(rows if size == -1 else size for size in shape))
        for declared, shape in zip(program.inputs, example, strict=False)
    ]


def _values(rng: np.random.Generator, declared: ProgramInput, shape: Shape) -> Array:
    dtype = NUMPY_DTYPES[declared.datatype]
    if dtype.kind == "f":
        return np.asarray(rng.normal(size=shape), dtype)
    values = rng.integers(0, 2, size=shape)
    if values.ndim == 1:
        values = np.arange(len(values)) % 2
    return np.asarray(values, dtype)


def declared_examples(program: Program, axis: int) -> Iterator[tuple[Example, ...]]:
    """Yield examples of a program that declares its shapes, with one step and with several.

    Those of a group differ only in their number of steps.
    """
    yield tuple(
        dict.fromkeys(
            tuple(_sized(declared, axis, steps) for declared in program.inputs) for steps in _STEPS
        )
    )
    for steps in (8, 32):
        yield (tuple(_sized(declared, axis, steps) for declared in program.inputs),)


def _sized(declared: ProgramInput, axis: int, steps: int) -> Shape:
    shape = declared.shape or ()
    rows = axis if len(shape) == 3 else 0
    sizes = []
    for index, size in enumerate(shape):
        least, most = declared.limits.get(index, (0, steps))
        is_free = size == -1 and index != rows
        sizes.append(min(max(steps, least), most) if is_free else size)
    return tuple(sizes)


def sequences(program: Program, axis: int) -> Iterator[tuple[Example, ...]]:
    """Yield examples of rank 3 for a program of unknown shapes, in groups as above."""
    for width in _widths(program):
        for steps in (_STEPS, *((count,) for count in _step_counts(program))):
            shapes = [(-1, count, width) if axis == 0 else (count, -1, width) for count in steps]
            yield from _groups(program, [[shape] for shape in shapes])


def other_ranks(program: Program) -> Iterator[tuple[Example, ...]]:
    """Yield examples of any rank but 3, the likeliest first; convolutions may have rank 3."""
    kernel = next((size for size in program.sizes if len(size) > 1), ())
    counts = _step_counts(program)
    shapes: list[Shape] = []
    if len(kernel) == 5:
        shapes = [(-1, kernel[1], 16, 16, 16)]
    if len(kernel) == 4:
        sides = (math.isqrt(count) * pooled for count in counts for pooled in _POOLED)
        shapes = [(-1, kernel[1], side, side) for side in (*_SIDES, *sides)]
    if len(kernel) == 3:
        lengths = (count * pooled for count in counts for pooled in _POOLED)
        shapes = [(-1, kernel[1], length) for length in (*_LENGTHS, *lengths)]
    if len(kernel) >= 3 and kernel[1] == 1:
        shapes += [(-1, *shape[2:]) for shape in shapes]
    if len(kernel) < 3:
        shapes = [(-1, width) for width in (*_widths(program), *counts)]
    if len(kernel) < 3 and not program.recurrent:
        shapes += [(-1,), (-1, 3, 32, 32)]
    yield from _groups(program, [list(dict.fromkeys(shapes))])


def _groups(program: Program, floats: Sequence[Sequence[Shape]]) -> Iterator[tuple[Example, ...]]:
    """Combine the shapes of inputs: one group for each place in the lists, of all the lists."""
    yield from zip(*(_combined(program, shapes) for shapes in floats), strict=True)


def _combined(program: Program, shapes: Sequence[Shape]) -> list[Example]:
    """Give all inputs the same shape, integers those of indices; then every other combination."""
    wanted = [declared for declared in program.inputs if not declared.optional]
    integers = [*((-1, count) for count in _IDS), (-1,), (-1, 1)]
    kinds = [list(shapes) if each.dtype.is_floating_point else integers for each in wanted]
    alike = (
        tuple(kind[place % len(kind)] for kind in kinds)
        for place in range(max(map(len, kinds), default=0))
    )
    found = itertools.chain(alike, itertools.islice(itertools.product(*kinds), _MOST_EXAMPLES))
    return list(dict.fromkeys(found))


def _widths(program: Program) -> tuple[int, ...]:
    """Return how many numbers a step or a row may have: a weight's second size, or its first."""
    weights = [size for size in program.sizes if size]
    seconds = [size[1] for size in weights if len(size) > 1]
    return tuple(dict.fromkeys([*seconds, *(size[0] for size in weights), *_WIDTHS]))[:_MOST_WIDTHS]


def _step_counts(program: Program) -> tuple[int, ...]:
    """Return the numbers of steps for which a flattened sequence fits a later layer."""
    flattened = dict.fromkeys(size[1] for size in program.sizes if len(size) == 2)
    channels = dict.fromkeys(one for size in program.sizes for one in size[:2] if one > 1)
    found = [a // b for a, b in itertools.product(flattened, channels) if a % b == 0]
    counts = dict.fromkeys(count for count in found if 3 < count <= _MOST_STEPS)
    return tuple(counts)[:_MOST_COUNTS]
