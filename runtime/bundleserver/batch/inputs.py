"""A batch's columns as the tensors of a request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from bundleserver.batch.binding import Binding
from bundleserver.bundle import Bundle
from bundleserver.tensors import Array, NamedTensor


def tensors_of(
    bundle: Bundle, binding: Binding, columns: Sequence[Array]
) -> tuple[tuple[NamedTensor, ...], Mapping[str, NamedTensor] | None]:
    """Make the tensors of a request as a client of V2 would; and the inputs, if they are ready.

    Args:
        bundle: the model.
        binding: how it takes the columns.
        columns: their values, in the binding's order, of equal lengths.

    Returns:
        The tensors, and the validated inputs where a table lacks columns without effect: None
        where the request is validated as every other.
    """
    names = [use.column for use in binding.uses]
    spec = binding.stacked
    if spec is None:
        only = len(bundle.signature.inputs) == 1 and not bundle.signature.inputs[0].columns
        if only and len(columns) == 1:
            names = [bundle.signature.inputs[0].name]
        pairs = zip(names, columns, strict=True)
        return tuple(NamedTensor(name, values) for name, values in pairs), None
    tensor = NamedTensor(spec.name, _stack(columns), tuple(names) if spec.columns else ())
    if binding.is_complete:
        return (tensor,), None
    return (tensor,), {spec.name: tensor}


def _stack(columns: Sequence[Array]) -> Array:
    """Make ``[n, k]`` of k columns; numbers beside strings make an object array, as in V1."""
    if any(column.dtype.kind == "O" for column in columns):
        columns = [column.astype(object) for column in columns]
    return np.column_stack(list(columns))
