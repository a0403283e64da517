"""Calls made of the input example that MLflow saved with a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from bundleserver.tensors import NUMPY_DTYPES, Array, NamedTensor, TensorSpec
from bundleserver.tensors.signature import DEFAULT_INPUT


def tensors_of_example(
    example: object, inputs: Sequence[TensorSpec], rows: int
) -> list[NamedTensor]:
    """Convert an example to so many rows, its own rows in turn; empty if it has none.

    Raises:
        Exception: it does not match the inputs; what numpy and pandas raise.
    """
    if not inputs and isinstance(example, pd.DataFrame):
        return [_rows(example.to_numpy(), None, rows, DEFAULT_INPUT, tuple(example.columns))]
    if not inputs:
        return [_rows(np.asarray(example), None, rows, DEFAULT_INPUT)]
    by_name = _by_name(example, [spec.name for spec in inputs])
    return [
        _rows(np.asarray(by_name[spec.name]), spec.datatype, rows, spec.name)
        for spec in inputs
        if spec.name in by_name or not spec.optional
    ]


def _by_name(example: object, names: Sequence[str]) -> Mapping[str, object]:
    if isinstance(example, pd.DataFrame):
        columns = names if len(names) == example.shape[1] else [*map(str, example.columns)]
        unnamed = not {*names} & {*map(str, example.columns)}
        return {
            name: example.iloc[:, index]
            for index, name in enumerate(columns if unnamed else map(str, example.columns))
        }
    if isinstance(example, Mapping):
        return {str(name): value for name, value in example.items()}
    return {names[0]: example}


def _rows(
    values: Array, datatype: str | None, rows: int, name: str, columns: tuple[str, ...] = ()
) -> NamedTensor:
    values = np.atleast_1d(values)
    if values.dtype.kind == "M":
        values = values.astype(str).astype(object)
    if datatype is not None:
        values = values.astype(NUMPY_DTYPES[datatype])
    return NamedTensor(name, np.resize(values, (rows, *values.shape[1:])), columns)
