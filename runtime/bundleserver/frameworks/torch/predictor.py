"""A torch program behind named arrays: validates the inputs, runs it and converts the outputs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from bundleserver.documents.forms import quoted
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
"""The protocol's datatype for each dtype; numpy has no bfloat16."""

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
_OWN_FAULTS = ("device", "scalar type", "dtype")
_REFUSALS = (RuntimeError, IndexError, ValueError, AssertionError, torch.jit.Error)


@dataclass(frozen=True)
class ProgramInput:
    """One input of a program; in ``shape`` -1 is any size, None: unknown."""

    name: str
    dtype: torch.dtype = torch.float32
    shape: tuple[int, ...] | None = None
    optional: bool = False

    @property
    def datatype(self) -> str:
        """The protocol's datatype."""
        return DATATYPES[self.dtype]


@dataclass(frozen=True)
class Program:
    """A loaded model.

    ``single_row``: it was exported for exactly one row, so that rows run one by one. ``sequence``:
    rows ``[n, f]`` are sequences of length 1.
    """

    run: Callable[[Sequence[torch.Tensor]], object]
    inputs: tuple[ProgramInput, ...]
    device: torch.device
    outputs: tuple[TensorSpec, ...] = ()
    single_row: bool = False
    sequence: bool = False
    metadata: Mapping[str, object] = field(default_factory=dict)


class TorchPredictor:
    """A program; its methods ``predict`` and ``forward`` are the same; any thread may call them."""

    def __init__(self, program: Program) -> None:
        self._program: Program | None = program
        inputs = tuple(
            TensorSpec(
                declared.name,
                declared.datatype,
                None if program.sequence else any_rows(declared.shape, program.single_row),
                optional=declared.optional,
            )
            for declared in program.inputs
        )
        signature = Signature(inputs, program.outputs)
        self.methods: Mapping[str, Signature] = {"predict": signature, "forward": signature}
        self.metadata: Mapping[str, object] = {"device": str(program.device), **program.metadata}

    def call(
        self, method: str, inputs: Sequence[NamedTensor], parameters: Mapping[str, object]
    ) -> Sequence[Array]:
        """Run the program on the inputs, by position, and return its outputs in its own order.

        Tuples, lists and dicts are flattened, without ``None``; bfloat16 becomes FP32. Zero rows
        return zero rows.

        Raises:
            InvalidInput: number, datatype or shape of the inputs are not valid.
        """
        program = self._program
        if program is None:
            raise RuntimeError("the predictor is closed")
        _check_count(program, inputs)
        pairs = list(zip(inputs, program.inputs, strict=False))
        arrays = [_convert(tensor, declared) for tensor, declared in pairs]
        added = program.sequence and all(array.ndim == 2 for array in arrays)
        if added:
            arrays = [array[:, np.newaxis, :] for array in arrays]
        for array, (tensor, declared) in zip(arrays, pairs, strict=True):
            _check_shape(array, tensor, declared, program)
        outputs = _run_rows(program, arrays, [tensor for tensor, _ in pairs])
        if not added:
            return outputs
        return [out[:, 0, :] if out.ndim == 3 and out.shape[1] == 1 else out for out in outputs]

    def close(self) -> None:
        """Release the model, and the GPU memory that torch caches for it."""
        on_gpu = self._program is not None and self._program.device.type == "cuda"
        self._program = None
        if on_gpu:
            torch.cuda.empty_cache()


def any_rows(shape: tuple[int, ...] | None, single_row: bool) -> tuple[int, ...] | None:
    """Allow any number of rows for a program that runs row by row."""
    return (-1, *shape[1:]) if shape is not None and single_row else shape


def _check_count(program: Program, inputs: Sequence[NamedTensor]) -> None:
    fewest = sum(not declared.optional for declared in program.inputs)
    if fewest <= len(inputs) <= len(program.inputs):
        return
    got = quoted(tensor.name for tensor in inputs)
    expected = quoted(declared.name for declared in program.inputs)
    raise InvalidInput(f"got {len(inputs)} inputs: {got}; the model expects {expected}")


def _convert(tensor: NamedTensor, declared: ProgramInput) -> Array:
    """Copy an input to the model's dtype, where no value changes but by rounding."""
    values, target = tensor.values, NUMPY_DTYPES[declared.datatype]
    if values.dtype.kind not in "biuf":
        raise InvalidInput(
            f"input '{tensor.name}' has datatype {datatype_of(values)}; the model expects "
            f"{declared.datatype}"
        )
    with np.errstate(over="ignore", invalid="ignore"):
        # Always a copy: the model may change it, and later steps read the same input.
        array = np.array(values, dtype=target, order="C")
    overflows = np.isinf(array) & np.isfinite(values)
    changed = overflows if target.kind == "f" else array != values
    if changed.any():
        value = values[changed][0]
        raise InvalidInput(
            f"input '{tensor.name}' has the value {value!s}, which is not a valid "
            f"{declared.datatype}"
        )
    return array


def _check_shape(
    array: Array, tensor: NamedTensor, declared: ProgramInput, program: Program
) -> None:
    wanted = any_rows(declared.shape, program.single_row)
    if wanted is None:
        return
    if array.ndim == len(wanted) and all(
        w in (-1, c) for c, w in zip(array.shape, wanted, strict=True)
    ):
        return
    hint = ""
    if wanted and array.shape[1:] == wanted[1:]:
        hint = f", the only number of rows of its export; for any number: {HOW_TO_EXPORT}"
    elif program.sequence and len(wanted) == 3:
        hint = f", or rows {[wanted[0], wanted[2]]}"
    raise InvalidInput(
        f"input '{tensor.name}' has shape {list(tensor.values.shape)}; the model expects "
        f"{list(wanted)}{hint}"
    )


def _run_rows(
    program: Program, arrays: Sequence[Array], named: Sequence[NamedTensor]
) -> list[Array]:
    """Run all rows together, one by one for ``single_row``, or one blank row for none."""
    if arrays and all(array.shape[:1] == (0,) for array in arrays):
        blank = [np.zeros((1, *array.shape[1:]), array.dtype) for array in arrays]
        return [output[:0] for output in _run(program, blank, named)]
    if not program.single_row:
        return _run(program, arrays, named)
    rows = {len(array) for array in arrays}
    if len(rows) > 1:
        raise InvalidInput(f"inputs differ in their number of rows: {_shapes(named)}")
    each = [_run(program, [array[i : i + 1] for array in arrays], named) for i in range(rows.pop())]
    return [np.concatenate(parts) for parts in zip(*each, strict=True)]


def _run(program: Program, arrays: Sequence[Array], named: Sequence[NamedTensor]) -> list[Array]:
    with torch.inference_mode():
        tensors = [
            torch.from_numpy(array).to(program.device, declared.dtype)
            for array, declared in zip(arrays, program.inputs, strict=False)
        ]
        try:
            answer = program.run(tensors)
        except _REFUSALS as error:
            reason = _reason(error)
            if reason is None:
                raise
            raise InvalidInput(f"the model rejects inputs {_shapes(named)}: {reason}") from error
        return [_to_array(part) for part in _flat(answer)]


def _shapes(named: Sequence[NamedTensor]) -> str:
    return ", ".join(f"'{tensor.name}' {list(tensor.values.shape)}" for tensor in named)


def _reason(error: Exception) -> str | None:
    """Say in one line why a model rejects a shape or a value; None for a failure of its own.

    TorchScript puts its traceback first and the reason last.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return None
    scripted = "TorchScript" in str(error)
    line = re.sub(r"^[\w.]*(Error|Exception): ", "", lines[-1] if scripted else lines[0])
    lower = line.lower()
    if any(word in lower for word in _OWN_FAULTS):
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
        raise TypeError(f"the model returned a {type(part).__name__}; expected tensors or numbers")
    if part.is_floating_point() and part.dtype not in _DTYPES_OF_NUMPY:
        part = part.float()
    if part.dtype not in _DTYPES_OF_NUMPY:
        raise TypeError(f"the model returned a tensor of {part.dtype}, which has no datatype")
    array: Array = part.numpy(force=True)
    return array
