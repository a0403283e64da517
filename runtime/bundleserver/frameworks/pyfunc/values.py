"""Conversions between named tensors and the inputs and outputs of ``mlflow.pyfunc``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from bundleserver.errors import InvalidInput
from bundleserver.frameworks.tables.results import dense, several_outputs
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

_INTEGERS = ("integer", "long")


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
            # The model handles an optional column that is missing or null; of the others, MLflow
            # has null among strings and booleans.
            is_nullable = not entry.required or datatype in ("BYTES", "BOOL")
            spec = TensorSpec(name, datatype, shape, optional=not entry.required)
            specs.append(replace(spec, nullable=is_nullable and datatype is not None))
    return tuple(specs)


def request_parameters(schema: Any) -> tuple[str, ...]:
    """Return the names of a model's parameters."""
    return () if schema is None else tuple(str(parameter.name) for parameter in schema.params)


def model_input(inputs: Sequence[NamedTensor], schema: Any) -> object:
    """Convert inputs to a model's type: a DataFrame, an array, or arrays by name.

    Raises:
        InvalidInput: a value is not a date where the schema has one.
    """
    if schema is not None and schema.is_tensor_spec():
        if schema.has_input_names():
            dtypes = {str(entry.name): np.dtype(entry.type) for entry in schema.inputs}
            return {t.name: _typed(t, dtypes[t.name]) for t in inputs if t.name in dtypes}
        return _typed(inputs[0], np.dtype(schema.inputs[0].type))
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


def answers(given: object, outputs: Sequence[TensorSpec]) -> list[Array] | dict[str, Array]:
    """Convert a model's result to one array for each declared output, or a single one.

    Columns, or the parts of a dict, are outputs of their own; by name if they are not the declared.
    """
    names = [spec.name for spec in outputs]
    if isinstance(given, tuple) and len(given) == len(names) > 1:
        return [_array(part) for part in given]
    several = several_outputs(given, "predict")
    if not isinstance(several, dict):
        return [_array(given)]
    parts = {name: _array(part) for name, part in several.items()}
    if not names:
        return parts
    if set(names) <= parts.keys():
        return [parts[name] for name in names]
    return [_array(given)] if isinstance(given, pd.DataFrame) else [*parts.values()]


def as_answered(outputs: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
    """Return what of declared outputs certainly holds, since MLflow enforces none of them.

    A signature has integers where a regression was fitted to integers, and answers fractions.
    """
    return tuple(
        replace(
            spec,
            datatype=spec.datatype if spec.datatype in ("FP32", "FP64", "BYTES") else None,
            shape=None if spec.shape == (-1,) else spec.shape,
            likely=spec.datatype,
        )
        for spec in outputs
    )


def told_by(model: object, method: str) -> tuple[TensorSpec, ...]:
    """Return what the fitted classes of a classifier tell of its answers; none for other models."""
    get_raw_model = getattr(model, "get_raw_model", None)
    try:
        classes = getattr(get_raw_model() if get_raw_model else None, "classes_", None)
    except Exception:  # noqa: BLE001  # a model's own attributes may raise anything
        return ()
    if not isinstance(classes, np.ndarray) or classes.ndim != 1:
        return ()
    if method == "predict":
        return (TensorSpec("output-0", None, (-1,), likely=datatype_of(classes[:0])),)
    return (TensorSpec("output-0", None, (-1, len(classes)), likely="FP64"),)


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


def _typed(tensor: NamedTensor, dtype: np.dtype[Any]) -> Array:
    """Convert strings to a tensor's dtype, where numpy has another than objects for it."""
    values = tensor.values
    if dtype.kind == "M":
        return np.asarray(dates(tensor.name, values.ravel())).reshape(values.shape).astype(dtype)
    return values.astype(dtype) if dtype.kind in "SU" else values


def _frame(inputs: Sequence[NamedTensor], schema: Any) -> pd.DataFrame:
    types = [str(getattr(entry.type, "name", "")) for entry in schema.inputs]
    names = [str(name) for name in schema.input_names()] if schema.has_input_names() else []
    if not names and len(inputs) == 1 and inputs[0].values.ndim == 2:
        return pd.DataFrame(inputs[0].values)
    if not names:
        pairs = zip(inputs, types, strict=False)
        return pd.DataFrame({i: _column(t, kind) for i, (t, kind) in enumerate(pairs)})
    kinds = dict(zip(names, types, strict=True))
    # MLflow has no null among integers: without any other value, the column is missing.
    there = [t for t in inputs if kinds.get(t.name) not in _INTEGERS or not _is_null(t.values)]
    columns = {t.name: _column(t, kinds.get(t.name, "")) for t in there}
    return pd.DataFrame(columns, index=range(len(inputs[0].values) if inputs else 0))


def _is_null(values: Array) -> bool:
    return values.dtype.kind == "O" and all(value is None for value in values)


def _column(tensor: NamedTensor, kind: str) -> object:
    values = tensor.values
    if kind == "datetime":
        return dates(tensor.name, values)
    if kind == "binary":
        return [v.encode() if isinstance(v, str) else v for v in values]
    return list(values) if values.ndim > 1 else values


def dates(name: str, values: Array) -> pd.DatetimeIndex:
    """Parse ISO 8601 dates, to UTC if they have an offset; null is NaT.

    Raises:
        InvalidInput: a value is something else; names it.
    """
    parsed = pd.to_datetime(list(values), format="ISO8601", utc=True, errors="coerce")
    # pandas knows words such as 'now', and calls an empty string NaT.
    invalid = [
        value
        for value, date in zip(values, parsed, strict=True)
        if value is not None
        and not (isinstance(value, str) and value[:1].isdigit() and not pd.isna(date))
    ]
    if invalid:
        raise InvalidInput(
            f"column '{name}' has the value {invalid[0]!r}, which is not a valid date; expected "
            "ISO 8601 such as '2025-03-05T00:00:00'"
        )
    return parsed.tz_localize(None)
