"""A torch program behind named arrays: what it takes is checked, converted, run and given back."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from bundleserver.errors import InvalidInput
from bundleserver.frameworks.torch.files import HOW_TO_EXPORT
from bundleserver.tensors import NUMPY_DTYPES, Array, NamedTensor, TensorSpec, datatype_of
from bundleserver.tensors.signature import Signature

_DTYPES_OF_NUMPY = {
    torch.from_numpy(np.empty(0, dtype)).dtype: datatype
    for datatype, dtype in NUMPY_DTYPES.items()
    if datatype != "BYTES"
}

DATATYPES: Mapping[torch.dtype, str] = {**_DTYPES_OF_NUMPY, torch.bfloat16: "FP32"}
"""The datatype in which a tensor of each dtype comes and goes; numpy has no bfloat16."""

_SHAPE_COMPLAINTS = (
    "shapes cannot be multiplied",
    "size mismatch",
    "sizes of tensors must match",
    "must match the size",
    "must have same reduction dim",
    "must be equal to input_size",
    "is invalid for input of size",
    "index out of range",
    "dimension out of range",
    "guard failed",
    "expected",
)
_NOT_THE_CALLERS = ("device", "scalar type", "dtype")
_REFUSALS = (RuntimeError, IndexError, ValueError, AssertionError, torch.jit.Error)


@dataclass(frozen=True)
class Taken:
    """One input of a program; ``shape`` has -1 where any length goes, None: nothing is known."""

    name: str
    dtype: torch.dtype = torch.float32
    shape: tuple[int, ...] | None = None
    optional: bool = False

    @property
    def datatype(self) -> str:
        """The protocol's name of the dtype."""
        return DATATYPES[self.dtype]


@dataclass(frozen=True)
class Program:
    """A loaded model as the predictor sees it.

    ``single_row``: it was exported for exactly one row, so that rows run one by one. ``sequence``:
    rows ``[n, f]`` are sequences of length 1. ``facts`` are for the metadata.
    """

    run: Callable[[Sequence[torch.Tensor]], object]
    inputs: tuple[Taken, ...]
    device: torch.device
    outputs: tuple[TensorSpec, ...] = ()
    single_row: bool = False
    sequence: bool = False
    facts: Mapping[str, object] = field(default_factory=dict)


class TorchPredictor:
    """A program whose methods ``predict`` and ``forward`` are one; any thread may call them."""

    def __init__(self, program: Program) -> None:
        self._program: Program | None = program
        inputs = tuple(
            TensorSpec(
                taken.name,
                taken.datatype,
                None if program.sequence else any_rows(taken.shape, program.single_row),
                optional=taken.optional,
            )
            for taken in program.inputs
        )
        signature = Signature(inputs, program.outputs)
        self.methods: Mapping[str, Signature] = {"predict": signature, "forward": signature}
        self.metadata: Mapping[str, object] = {"device": str(program.device), **program.facts}

    def call(
        self, method: str, inputs: Sequence[NamedTensor], parameters: Mapping[str, object]
    ) -> Sequence[Array]:
        """Run the program on the inputs, by position, and return its outputs in its own order.

        Tuples, lists and dicts are taken apart, ``None`` in them left out; bfloat16 comes back as
        FP32. No rows give no rows.

        Raises:
            InvalidInput: number, datatype or shape of the inputs do not fit.
        """
        program = self._program
        if program is None:
            raise RuntimeError("the predictor is closed")
        _check_count(program, inputs)
        pairs = list(zip(inputs, program.inputs, strict=False))
        arrays = [_convert(tensor, taken) for tensor, taken in pairs]
        added = program.sequence and all(array.ndim == 2 for array in arrays)
        if added:
            arrays = [array[:, np.newaxis, :] for array in arrays]
        for array, (tensor, taken) in zip(arrays, pairs, strict=True):
            _check_shape(array, tensor, taken, program)
        outputs = _run_rows(program, arrays, [tensor for tensor, _ in pairs])
        return [_without_step(output) if added else output for output in outputs]

    def close(self) -> None:
        """Let go of the model, and of the memory that torch keeps on a GPU for it."""
        on_gpu = self._program is not None and self._program.device.type == "cuda"
        self._program = None
        if on_gpu:
            torch.cuda.empty_cache()


def any_rows(shape: tuple[int, ...] | None, single_row: bool) -> tuple[int, ...] | None:
    """Open the first dimension of a program that runs row by row."""
    return (-1, *shape[1:]) if shape is not None and single_row else shape


def _check_count(program: Program, inputs: Sequence[NamedTensor]) -> None:
    fewest = sum(not taken.optional for taken in program.inputs)
    if fewest <= len(inputs) <= len(program.inputs):
        return
    came = ", ".join(f"'{tensor.name}'" for tensor in inputs) or "none"
    takes = ", ".join(f"'{taken.name}'" for taken in program.inputs)
    raise InvalidInput(f"{len(inputs)} inputs came: {came}; the model takes {takes}")


def _convert(tensor: NamedTensor, taken: Taken) -> Array:
    """Copy an input into the dtype that the model takes, where no value changes but by rounding."""
    values, target = tensor.values, NUMPY_DTYPES[taken.datatype]
    if values.dtype.kind not in "biuf":
        raise InvalidInput(
            f"input '{tensor.name}' has datatype {datatype_of(values)}; the model takes "
            f"{taken.datatype}"
        )
    with np.errstate(over="ignore", invalid="ignore"):
        # Always a copy: the model may write into it, and later steps read the same input.
        array = np.array(values, dtype=target, order="C")
    overflown = np.isinf(array) & np.isfinite(values)
    changed = overflown if target.kind == "f" else array != values
    if changed.any():
        value = values[changed][0]
        raise InvalidInput(
            f"input '{tensor.name}' has the value {value!s}, which {taken.datatype} does not hold"
        )
    return array


def _check_shape(array: Array, tensor: NamedTensor, taken: Taken, program: Program) -> None:
    wanted = any_rows(taken.shape, program.single_row)
    if wanted is None:
        return
    if array.ndim == len(wanted) and all(
        w in (-1, c) for c, w in zip(array.shape, wanted, strict=True)
    ):
        return
    hint = ""
    if wanted and array.shape[1:] == wanted[1:]:
        hint = f", the only number of rows it was exported for; for any number: {HOW_TO_EXPORT}"
    elif program.sequence and len(wanted) == 3:
        hint = f", or rows {[wanted[0], wanted[2]]}"
    raise InvalidInput(
        f"input '{tensor.name}' has shape {list(tensor.values.shape)}; the model takes "
        f"{list(wanted)}{hint}"
    )


def _run_rows(
    program: Program, arrays: Sequence[Array], named: Sequence[NamedTensor]
) -> list[Array]:
    """Run all rows at once, one by one where the program was exported so, or one blank for none."""
    if arrays and all(array.shape[:1] == (0,) for array in arrays):
        blank = [np.zeros((1, *array.shape[1:]), array.dtype) for array in arrays]
        return [output[:0] for output in _run(program, blank, named)]
    if not program.single_row:
        return _run(program, arrays, named)
    rows = {len(array) for array in arrays}
    if len(rows) > 1:
        shapes = ", ".join(f"'{tensor.name}' {list(tensor.values.shape)}" for tensor in named)
        raise InvalidInput(f"inputs have different numbers of rows: {shapes}")
    each = [_run(program, [array[i : i + 1] for array in arrays], named) for i in range(rows.pop())]
    return [np.concatenate(parts) for parts in zip(*each, strict=True)]


def _run(program: Program, arrays: Sequence[Array], named: Sequence[NamedTensor]) -> list[Array]:
    with torch.inference_mode():
        tensors = [
            torch.from_numpy(array).to(program.device, taken.dtype)
            for array, taken in zip(arrays, program.inputs, strict=False)
        ]
        try:
            answer = program.run(tensors)
        except _REFUSALS as error:
            refusal = _refusal(error)
            if refusal is None:
                raise
            shapes = ", ".join(f"'{tensor.name}' {list(tensor.values.shape)}" for tensor in named)
            raise InvalidInput(f"the model refuses its inputs {shapes}: {refusal}") from error
        return [_to_array(part) for part in _flat(answer)]


def _refusal(error: Exception) -> str | None:
    """Say in one line why a model refuses a shape or a value; None for a failure of its own.

    TorchScript puts its traceback first and the reason last.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return None
    scripted = "TorchScript" in str(error)
    line = re.sub(r"^[\w.]*(Error|Exception): ", "", lines[-1] if scripted else lines[0])
    lower = line.lower()
    if any(word in lower for word in _NOT_THE_CALLERS):
        return None
    return line if any(complaint in lower for complaint in _SHAPE_COMPLAINTS) else None


def _flat(answer: object) -> Iterator[object]:
    if isinstance(answer, Mapping):
        answer = tuple(answer.values())
    if isinstance(answer, (tuple, list)):
        for part in answer:
            yield from _flat(part)
    elif answer is not None:
        yield answer


def _to_array(part: object) -> Array:
    if isinstance(part, (bool, int, float)):
        return np.asarray(part)
    if not isinstance(part, torch.Tensor):
        raise TypeError(f"the model gave a {type(part).__name__}; expected tensors or numbers")
    if part.is_floating_point() and part.dtype not in _DTYPES_OF_NUMPY:
        part = part.float()
    if part.dtype not in _DTYPES_OF_NUMPY:
        raise TypeError(f"the model gave a tensor of {part.dtype}, which no datatype holds")
    array: Array = part.numpy(force=True)
    return array


def _without_step(output: Array) -> Array:
    return output[:, 0, :] if output.ndim == 3 and output.shape[1] == 1 else output
