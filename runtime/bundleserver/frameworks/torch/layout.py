"""Rows come first in requests and responses: a program's shapes and outputs in that order."""

from __future__ import annotations

from dataclasses import replace

import torch

from bundleserver.frameworks.torch.program import Layout, Program, ProgramInput
from bundleserver.frameworks.torch.samples import declared_examples
from bundleserver.tensors import TensorSpec


def placed(program: Program, layout: Layout, only: bool) -> Program:
    """Return a program whose declared shapes have the rows first, as requests do."""
    if program.one_sequence:
        return replace(program, layout=layout)
    inputs = tuple(_swapped_input(declared, layout.inputs) for declared in program.inputs)
    if only:
        inputs = tuple(
            replace(declared, shape=(-1, -1, shape[2]) if len(shape) == 3 else None)
            for declared, shape in zip(inputs, layout.example, strict=True)
        )
    outputs = (
        tuple(
            _moved(output, axis)
            for output, axis in zip(program.outputs, layout.outputs, strict=False)
        )
        if layout.outputs
        else program.outputs
    )
    return replace(program, inputs=inputs, outputs=outputs, layout=layout)


def for_single_rows(program: Program, steps: bool) -> Program:
    """Return a program for one row that takes any number of them, one by one."""
    shapes = next(declared_examples(program, 0))[0]
    example = tuple((-1, *shape[1:]) for shape in shapes)
    inputs = tuple(replace(each, shape=_any_rows(each.shape)) for each in program.inputs)
    outputs = tuple(replace(each, shape=_any_rows(each.shape)) for each in program.outputs)
    fits = steps and any(len(shape) == 3 and shape[1] in (1, -1) for shape in shapes)
    layout = Layout(fits, example=example)
    return replace(program, inputs=inputs, outputs=outputs, layout=layout)


def swapped(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    """Return a shape with the axis of its rows first, or back again."""
    return (shape[1], shape[0], shape[2]) if axis == 1 and len(shape) == 3 else shape


def with_rows_first(output: torch.Tensor, axis: int, rows: int) -> torch.Tensor:
    """Move the axis of the rows to the front; for one row it may have been squeezed away."""
    if rows == 1 and (output.ndim <= axis or output.shape[axis] != 1):
        output = output.unsqueeze(min(axis, output.ndim))
    return output.movedim(axis, 0) if axis and axis < output.ndim else output


def _any_rows(shape: tuple[int, ...] | None) -> tuple[int, ...] | None:
    return shape and (-1, *shape[1:])


def _swapped_input(declared: ProgramInput, axis: int) -> ProgramInput:
    if declared.shape is None:
        return declared
    return replace(declared, shape=swapped(declared.shape, axis))


def _moved(output: TensorSpec, axis: int) -> TensorSpec:
    shape = output.shape
    if shape is None or axis >= len(shape):
        return output
    return replace(output, shape=(shape[axis], *shape[:axis], *shape[axis + 1 :]))
