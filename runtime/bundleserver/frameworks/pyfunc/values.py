"""Conversions between named tensors and the inputs and outputs of ``mlflow.pyfunc``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from bundleserver.frameworks.sklearn.tables import dense
from bundleserver.tensors import Array, NamedTensor, TensorSpec, datatype_of

_COLUMN_TYPES = {
    "boolean": "BOOL",
    "integer": "INT32",
    "long": "INT64",
    "float": "FP32",
    "double": "FP64",
    "string": "BYTES",
    "binary": "BYTES",
    "datetime": "BYTES",
}


def specs_of(schema: Any, kind: str) -> tuple[TensorSpec, ...]:
    """Declare the tensors of an MLflow schema; none without a schema.

    Args:
        schema: an ``mlflow.types.Schema``: columns, or tensors.
        kind: ``input`` or ``output``, for tensors without a name.
    """
    if schema is None:
        return ()
    specs = []
    for index, entry in enumerate(schema.inputs):
        name = str(entry.name) if entry.name not in (None, "") else f"{kind}-{index}"
        if schema.is_tensor_spec():
            dtype = np.dtype(entry.type)
            specs.append(TensorSpec(name, datatype_of(np.empty(0, dtype)), tuple(entry.shape)))
        else:
            datatype = _COLUMN_TYPES.get(str(getattr(entry.type, "name", "")))
            shape = (-1,) if datatype else None
            # The model handles an optional column that is missing.
            specs.append(TensorSpec(name, datatype, shape, optional=not entry.required))
    return tuple(specs)


def request_parameters(schema: Any) -> tuple[str, ...]:
    """Return the names of a model's parameters."""
    return () if schema is None else tuple(str(parameter.name) for parameter in schema.params)


def model_input(inputs: Sequence[NamedTensor], schema: Any) -> object:
    """Convert inputs to a model's type: a DataFrame, an array, or arrays by name."""
    if schema is not None and schema.is_tensor_spec():
        if schema.has_input_names():
            return {tensor.name: tensor.values for tensor in inputs}
        return inputs[0].values
    if schema is not None:
        return _frame(inputs, schema)
    if len(inputs) == 1:
        tensor = inputs[0]
        if tensor.columns and tensor.values.ndim == 2:
            return pd.DataFrame(tensor.values, columns=list(tensor.columns))
        return tensor.values
    if all(tensor.values.ndim == 1 for tensor in inputs):
        return pd.DataFrame({tensor.name: tensor.values for tensor in inputs})
    return {tensor.name: tensor.values for tensor in inputs}


def answers(given: object, outputs: Sequence[TensorSpec]) -> list[Array]:
    """Convert a model's result to one array for each declared output, or a single one."""
    names = [spec.name for spec in outputs]
    if isinstance(given, Mapping):
        ordered = names if set(names) <= given.keys() and names else list(given)
        return [_array(given[name]) for name in ordered]
    if isinstance(given, pd.DataFrame) and len(names) > 1 and set(names) <= {*given.columns}:
        return [_array(given[name]) for name in names]
    if isinstance(given, tuple) and len(given) == len(names) > 1:
        return [_array(part) for part in given]
    return [_array(given)]


def fit_output(values: Array, spec: TensorSpec) -> Array:
    """Drop or add the axis of length 1 that distinguishes a table's column from an array."""
    if spec.shape is None:
        return values
    if values.ndim == 2 and len(spec.shape) == 1 and values.shape[1] == 1:
        return values[:, 0]
    if values.ndim == 1 and spec.shape[1:] == (1,):
        return values[:, np.newaxis]
    return values


def _array(value: object) -> Array:
    array = dense(value)
    return array.reshape(1) if array.ndim == 0 else array


def _frame(inputs: Sequence[NamedTensor], schema: Any) -> pd.DataFrame:
    types = [str(getattr(entry.type, "name", "")) for entry in schema.inputs]
    names = [str(name) for name in schema.input_names()] if schema.has_input_names() else []
    columns: dict[object, object] = {}
    for index, tensor in enumerate(inputs):
        name: object = tensor.name if tensor.name in names else index
        kind = types[names.index(tensor.name)] if tensor.name in names else ""
        values = tensor.values
        if kind == "datetime":
            columns[name] = pd.to_datetime(list(values))
        elif kind == "binary":
            columns[name] = [v.encode() if isinstance(v, str) else v for v in values]
        else:
            columns[name] = list(values) if values.ndim > 1 else values
    if not names and len(inputs) == 1 and inputs[0].values.ndim == 2:
        return pd.DataFrame(inputs[0].values)
    return pd.DataFrame(columns)
