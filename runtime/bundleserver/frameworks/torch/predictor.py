"""A torch program behind named arrays: validates the inputs, runs it and converts the outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch

from bundleserver.documents.forms import quoted
from bundleserver.errors import InvalidInput
from bundleserver.frameworks.torch.files import HOW_TO_EXPORT
from bundleserver.frameworks.torch.layout import with_rows_first
from bundleserver.frameworks.torch.program import Program, ProgramInput
from bundleserver.frameworks.torch.samples import arrays_of
from bundleserver.frameworks.torch.values import REFUSALS, converted, flat, reason_of, to_array
from bundleserver.tensors import Array, NamedTensor, TensorSpec
from bundleserver.tensors.signature import Signature

_Parts = list[tuple[str, object]]
"""Outputs in order, each with its name if it has one."""


class TorchPredictor:
    """A program; its methods ``predict`` and ``forward`` are the same; any thread may call them."""

    def __init__(self, program: Program) -> None:
        self._program: Program | None = program
        inputs = tuple(
            TensorSpec(
                declared.name,
                declared.datatype,
                None if _takes_two_ranks(program, declared) else declared.shape,
                optional=declared.optional,
            )
            for declared in program.inputs
        )
        outputs = program.outputs
        if program.layout.steps or program.one_sequence:
            outputs = tuple(replace(output, shape=None) for output in outputs)
        signature = Signature(inputs, outputs)
        self.methods: Mapping[str, Signature] = {"predict": signature, "forward": signature}
        self.metadata: Mapping[str, object] = {"device": str(program.device), **program.metadata}

    def call(
        self, method: str, inputs: Sequence[NamedTensor], parameters: Mapping[str, object]
    ) -> Sequence[Array] | Mapping[str, Array]:
        """Run the program on the inputs, by position; a dict of outputs keeps its keys as names.

        Tuples and lists are flattened, without ``None``, in order; what is nested in a dict has its
        path as its name. bfloat16 becomes FP32. Zero rows return zero rows.

        Raises:
            InvalidInput: number, datatype or shape of the inputs are not valid.
        """
        program = self._program
        if program is None:
            raise RuntimeError("the predictor is closed")
        _check_count(program, inputs)
        pairs = list(zip(inputs, program.inputs, strict=False))
        arrays = [converted(tensor, declared) for tensor, declared in pairs]
        if program.one_sequence:
            parts = _run_sequence(program, arrays, inputs)
        else:
            parts = _run_request(program, arrays, inputs)
        names = [name for name, _ in parts]
        arrays = [to_array(part) for _, part in parts]
        is_named = all(names) and len(set(names)) == len(names)
        return dict(zip(names, arrays, strict=True)) if is_named and names else arrays

    def samples(self, method: str, rows: int) -> Sequence[Sequence[NamedTensor]]:
        """Return inputs of the shapes that the program took when it was loaded."""
        program = self._program
        if program is None or not program.layout.example:
            return []
        example = program.layout.example
        examples = [example]
        if program.layout.steps or program.one_sequence:
            examples = [tuple(_as_rows(shape) for shape in example)]
            examples += [] if program.one_sequence else [example]
        return [
            [
                NamedTensor(declared.name, array)
                for declared, array in zip(
                    program.inputs, arrays_of(program, one, rows), strict=False
                )
            ]
            for one in examples
        ]

    def close(self) -> None:
        """Release the model, and the GPU memory that torch caches for it."""
        on_gpu = self._program is not None and self._program.device.type == "cuda"
        self._program = None
        if on_gpu:
            torch.cuda.empty_cache()


def _takes_two_ranks(program: Program, declared: ProgramInput) -> bool:
    """Ask whether an input takes rows ``[n, f]`` as well as sequences."""
    may = program.layout.steps or program.one_sequence
    return may and (declared.shape is None or len(declared.shape) == 3)


def _as_rows(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (-1, shape[2]) if len(shape) == 3 else shape


def _check_count(program: Program, inputs: Sequence[NamedTensor]) -> None:
    fewest = sum(not declared.optional for declared in program.inputs)
    if fewest <= len(inputs) <= len(program.inputs):
        return
    got = quoted(tensor.name for tensor in inputs)
    expected = quoted(declared.name for declared in program.inputs)
    raise InvalidInput(f"got {len(inputs)} inputs: {got}; the model expects {expected}")


def _run_request(program: Program, arrays: list[Array], named: Sequence[NamedTensor]) -> _Parts:
    """Run a request whose rows are independent; add the axis of one step where that is missing."""
    added = False
    lacking = _lacking_steps(program, arrays)
    for index, (array, declared) in enumerate(zip(arrays, program.inputs, strict=False)):
        if index in lacking:
            arrays[index], added = array[:, np.newaxis, :], True
        _check_shape(arrays[index], named[index], declared, program)
    parts = _run_rows(program, arrays, named)
    return [(name, _without_step(part)) for name, part in parts] if added else parts


def _lacking_steps(program: Program, arrays: Sequence[Array]) -> set[int]:
    """Return the positions of inputs that are rows ``[n, f]`` where the program has sequences."""
    example = program.layout.example
    if not program.layout.steps or (not example and len({array.ndim for array in arrays}) > 1):
        # Of several inputs, some may be sequences and others not.
        return set()
    return {
        index
        for index, (array, declared) in enumerate(zip(arrays, program.inputs, strict=False))
        if array.ndim == 2
        and _takes_two_ranks(program, declared)
        and (index >= len(example) or len(example[index]) == 3)
    }


def _without_step(part: object) -> object:
    if isinstance(part, torch.Tensor) and part.ndim == 3 and part.shape[1] == 1:
        return part.squeeze(1)
    return part


def _run_sequence(program: Program, arrays: list[Array], named: Sequence[NamedTensor]) -> _Parts:
    """Run a request whose rows are one sequence, in a batch of one if the program has batches."""
    axis = program.layout.inputs
    added = None
    for index, (array, declared) in enumerate(zip(arrays, program.inputs, strict=False)):
        wants = program.layout.steps if declared.shape is None else len(declared.shape) == 3
        if wants and array.ndim == 2:
            added = _batch_axis(declared, array, axis)
            arrays[index] = np.expand_dims(array, added)
        _check_shape(arrays[index], named[index], declared, program)
    parts = _run(program, arrays, named)
    if added is None:
        return parts
    steps = arrays[0].shape[1 - added]
    return [(name, _without_batch(part, added, steps)) for name, part in parts]


def _batch_axis(declared: ProgramInput, array: Array, axis: int) -> int:
    shape = declared.shape
    if shape is None or (shape[axis] in (1, -1) and shape[1 - axis] in (-1, len(array))):
        return axis
    return 1 - axis


def _without_batch(part: object, axis: int, steps: int) -> object:
    """Return an output of one entry for each step as such; others as they are."""
    if not isinstance(part, torch.Tensor) or part.ndim < 2:
        return part
    has_steps = part.shape[axis] == 1 and part.shape[1 - axis] == steps
    return part.squeeze(axis) if has_steps and part.ndim > 2 else part


def _check_shape(
    array: Array, tensor: NamedTensor, declared: ProgramInput, program: Program
) -> None:
    wanted = declared.shape
    if wanted is None:
        return
    if array.ndim == len(wanted) and all(
        w in (-1, c) for c, w in zip(array.shape, wanted, strict=True)
    ):
        return
    hint = ""
    if _takes_two_ranks(program, declared):
        hint = f", or rows {[-1, wanted[2]]}"
    elif wanted and array.shape[1:] == wanted[1:]:
        hint = f", the only number of rows of its export; for any number: {HOW_TO_EXPORT}"
    raise InvalidInput(
        f"input '{tensor.name}' has shape {list(tensor.values.shape)}; the model expects "
        f"{list(wanted)}{hint}"
    )


def _run_rows(program: Program, arrays: Sequence[Array], named: Sequence[NamedTensor]) -> _Parts:
    """Run all rows together, one by one for ``single_row``, or one blank row for none."""
    if arrays and all(array.shape[:1] == (0,) for array in arrays):
        blank = [np.zeros((1, *array.shape[1:]), array.dtype) for array in arrays]
        return [(name, _none_of(part)) for name, part in _run_laid(program, blank, named)]
    if not program.single_row:
        return _run_laid(program, arrays, named)
    rows = {len(array) for array in arrays}
    if len(rows) > 1:
        raise InvalidInput(f"inputs differ in their number of rows: {_shapes(named)}")
    each = [_run(program, [array[i : i + 1] for array in arrays], named) for i in range(rows.pop())]
    return [
        (parts[0][0], torch.cat([part for _, part in parts if isinstance(part, torch.Tensor)]))
        for parts in zip(*each, strict=True)
    ]


def _none_of(part: object) -> object:
    return part[:0] if isinstance(part, torch.Tensor) and part.ndim else part


def _run_laid(program: Program, arrays: Sequence[Array], named: Sequence[NamedTensor]) -> _Parts:
    """Run a program with its rows where it has them; return outputs with their rows first."""
    layout = program.layout
    moved = [
        np.ascontiguousarray(np.swapaxes(array, 0, 1))
        if layout.inputs and array.ndim == 3
        else array
        for array in arrays
    ]
    parts = _run(program, moved, named)
    if len(parts) != len(layout.outputs) or not arrays or not arrays[0].ndim:
        return parts
    rows = len(arrays[0])
    return [
        (name, with_rows_first(torch.as_tensor(part), axis, rows))
        for (name, part), axis in zip(parts, layout.outputs, strict=True)
    ]


def _run(program: Program, arrays: Sequence[Array], named: Sequence[NamedTensor]) -> _Parts:
    with torch.inference_mode():
        tensors = [
            torch.from_numpy(array).to(program.device, declared.dtype)
            for array, declared in zip(arrays, program.inputs, strict=False)
        ]
        try:
            answer = program.run(tensors)
        except REFUSALS as error:
            reason = reason_of(error)
            if reason is None:
                raise
            raise InvalidInput(f"the model rejects inputs {_shapes(named)}: {reason}") from error
        return flat(answer)


def _shapes(named: Sequence[NamedTensor]) -> str:
    return ", ".join(f"'{tensor.name}' {list(tensor.values.shape)}" for tensor in named)
