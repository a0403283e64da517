"""A loaded torch program as a value: its inputs and outputs, and where its rows are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from bundleserver.tensors import NUMPY_DTYPES, TensorSpec

DTYPES: Mapping[str, torch.dtype] = {
    datatype: torch.from_numpy(np.empty(0, dtype)).dtype
    for datatype, dtype in NUMPY_DTYPES.items()
    if datatype != "BYTES"
}
"""The dtype for each of the protocol's datatypes."""

DATATYPES: Mapping[torch.dtype, str] = {
    **{dtype: datatype for datatype, dtype in DTYPES.items()},
    torch.bfloat16: "FP32",
}
"""The protocol's datatype for each dtype; numpy has no bfloat16."""


@dataclass(frozen=True)
class ProgramInput:
    """One input of a program.

    In ``shape`` -1 is any size, None: unknown. ``limits``: the least and the greatest size of each
    dimension that is -1, as far as they are known.
    """

    name: str
    dtype: torch.dtype = torch.float32
    shape: tuple[int, ...] | None = None
    optional: bool = False
    limits: Mapping[int, tuple[int, int]] = field(default_factory=dict)

    @property
    def datatype(self) -> str:
        """The protocol's datatype."""
        return DATATYPES[self.dtype]


@dataclass(frozen=True)
class Layout:
    """Where a program has its rows; requests and responses always have them first.

    Attributes:
        steps: rows ``[n, f]`` get an axis of one step, so that they are ``[n, 1, f]``.
        inputs: the axis of the rows in inputs of rank 3.
        outputs: the axis of the rows in each output; empty: the first in all of them.
        example: shapes of inputs that the program took, in requests' order of axes; -1 is the rows.
    """

    steps: bool = False
    inputs: int = 0
    outputs: tuple[int, ...] = ()
    example: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True)
class Program:
    """A loaded model.

    Attributes:
        single_row: it was exported for exactly one row, so that rows run one by one.
        recurrent: it has a recurrent network.
        sizes: the shapes of its weights, in order, which say what inputs of unknown shape may be.
        one_sequence: all rows of a request are one sequence, because they depend on each other.
        dtypes_known: false where an input may be one of integers although it is declared otherwise.
    """

    run: Callable[[Sequence[torch.Tensor]], object]
    inputs: tuple[ProgramInput, ...]
    device: torch.device
    outputs: tuple[TensorSpec, ...] = ()
    single_row: bool = False
    recurrent: bool = False
    sizes: tuple[tuple[int, ...], ...] = ()
    one_sequence: bool = False
    dtypes_known: bool = True
    layout: Layout = Layout()
    metadata: Mapping[str, object] = field(default_factory=dict)
