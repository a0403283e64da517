"""What goes into a torch program and comes out: numpy arrays to tensors and back."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import numpy as np
import torch

from bundleserver.errors import InvalidInput
from bundleserver.frameworks.torch.program import DTYPES, ProgramInput
from bundleserver.tensors import NUMPY_DTYPES, Array, NamedTensor, datatype_of, narrowing

_COMPLAINTS = re.compile(
    r"\b(shapes?|sizes?|dims?|dimensions?|dimensional|rank|length|index|indices|offsets?)\b|\d-?d\b"
    r"|must match|expected|guard failed|out of (range|bounds)|not enough values|too many values",
    re.IGNORECASE,
)
_OWN_FAULTS = ("device", "scalar type", "dtype")
REFUSALS = (RuntimeError, IndexError, ValueError, AssertionError, torch.jit.Error)
"""What torch raises for a shape or a value that a program does not take, among other things."""

_SERVED = frozenset(DTYPES.values())


def converted(tensor: NamedTensor, declared: ProgramInput) -> Array:
    """Copy an input to the model's dtype, where no value changes but by rounding.

    Raises:
        InvalidInput: it is not numeric, or a value is not valid in the model's datatype.
    """
    values, target = tensor.values, NUMPY_DTYPES[declared.datatype]
    if values.dtype.kind not in "biuf":
        raise InvalidInput(
            f"input '{tensor.name}' has datatype {datatype_of(values)}; the model expects "
            f"{declared.datatype}"
        )
    # Always a copy: the model may change it, and later steps read the same input.
    return narrowing.converted(values, target, f"input '{tensor.name}'", declared.datatype)


def reason_of(error: Exception) -> str | None:
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
    return line if _COMPLAINTS.search(line) else None


def flat(answer: object) -> list[tuple[str, object]]:
    """Return what a program returned as a flat list, without ``None``, each with its name.

    Names are the keys of a dict, else empty; what is nested in a dict has its path as its name.
    """
    return [part for part in _flat(answer, "") if part[1] is not None]


def _flat(answer: object, name: str) -> Iterator[tuple[str, object]]:
    if isinstance(answer, Mapping):
        for key, part in answer.items():
            yield from _flat(part, f"{name}-{key}" if name else str(key))
    elif isinstance(answer, (tuple, list)):
        for index, part in enumerate(answer):
            yield from _flat(part, f"{name}-{index}" if name else "")
    else:
        yield name, answer


def to_array(part: object) -> Array:
    """Convert one output: a tensor or a number; bfloat16 becomes FP32.

    Raises:
        TypeError: it is something else, or has no datatype.
    """
    if isinstance(part, (bool, int, float)):
        return np.asarray(part)
    if not isinstance(part, torch.Tensor):
        raise TypeError(f"the model returned a {type(part).__name__}; expected tensors or numbers")
    if part.is_floating_point() and part.dtype not in _SERVED:
        part = part.float()
    if part.dtype not in _SERVED:
        raise TypeError(f"the model returned a tensor of {part.dtype}, which has no datatype")
    array: Array = part.numpy(force=True)
    return array
