"""Estimators' results: from whatever a method returns to arrays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from bundleserver.tensors import Array

Outputs = tuple[Array, ...] | dict[str, Array]
"""Several outputs, by position or by name."""


def several_outputs(answer: Any, method: str) -> Outputs | None:
    """Return the outputs of a tuple by position, those of a dict or a table by name.

    None for a single output: an array, a series, the table of a transformer whose columns are of
    one kind, or a list with an equally shaped array for each target of a classifier.
    """
    if isinstance(answer, Mapping):
        return _repeated({str(name): dense(part) for name, part in answer.items()})
    if names := _keys_of_rows(answer):
        return {str(name): dense([row[name] for row in answer]) for name in names}
    if isinstance(answer, tuple):
        return tuple(dense(part) for part in answer)
    if isinstance(answer, list) and len({np.shape(part) for part in answer}) > 1:
        arrays = all(isinstance(part, np.ndarray) for part in answer)
        return tuple(dense(part) for part in answer) if arrays else None
    if hasattr(answer, "columns") and hasattr(answer, "to_numpy"):
        kinds = {dtype.kind in "biuf" for dtype in answer.dtypes}
        if method != "transform" or len(kinds) > 1:
            return {str(name): dense(answer[name]) for name in answer.columns}
    return None


def _repeated(outputs: dict[str, Array]) -> dict[str, Array]:
    """Repeat a single value beside arrays for each of their rows, as a table does."""
    rows = next((len(array) for array in outputs.values() if array.ndim), None)
    if rows is None:
        return outputs
    return {k: v if v.ndim else np.repeat(v[np.newaxis], rows) for k, v in outputs.items()}


def _keys_of_rows(answer: Any) -> list[object]:
    """Return the keys of a list with a dict for each row; nothing for anything else."""
    is_list = isinstance(answer, list) or (isinstance(answer, np.ndarray) and answer.ndim == 1)
    if not is_list or not len(answer) or not all(isinstance(row, Mapping) for row in answer):
        return []
    keys = list(answer[0])
    return keys if all(row.keys() == answer[0].keys() for row in answer) else []


def dense(answer: object) -> Array:
    """Convert an estimator's result to one array of a datatype of the protocol.

    Sparse matrices become dense, DataFrames arrays, and a list with an array ``[n, k]`` per output
    (``predict_proba`` of several outputs) becomes ``[n, outputs, k]``. Strings, dates and
    categories become an object array of ``str``.

    Raises:
        ValueError: the arrays of several outputs differ in shape.
        TypeError: what was returned has no datatype.
    """
    if answer is None:
        raise TypeError("the model returned None; expected an array, or several in a dict")
    if type(answer) is np.ndarray and answer.dtype.kind in "biufc":
        return answer
    if hasattr(answer, "toarray"):
        return np.asarray(answer.toarray())
    if hasattr(answer, "to_numpy"):
        return _protocol_values(answer.to_numpy())
    if isinstance(answer, list) and answer and all(isinstance(part, np.ndarray) for part in answer):
        return _protocol_values(_stacked(answer))
    if isinstance(answer, list | tuple):
        # As objects: numpy's own strings lose NULs at their end, and bytes beside strings fail.
        return _protocol_values(np.array(answer, dtype=object))
    return _protocol_values(np.asarray(answer))


def _stacked(outputs: Sequence[Array]) -> Array:
    shapes = [list(output.shape) for output in outputs]
    if any(shape != shapes[0] for shape in shapes):
        raise ValueError(
            f"the outputs have the shapes {shapes}, which do not make one tensor; use 'predict', "
            "or save a model for each output"
        )
    return np.stack(outputs, axis=1)


def _protocol_values(values: Array) -> Array:
    if values.dtype.kind == "O" and not any(isinstance(v, str | bytes) for v in values.flat):
        # Numbers stay numbers in an object column; beside strings they become strings.
        values = np.asarray(values.tolist()).reshape(values.shape)
    if values.dtype.kind not in "OSUMmT":
        return values
    if values.dtype.kind in "Mm":
        values = values.astype(str)  # as objects, dates of nanoseconds would be integers
    strings = [_string(value) for value in values.astype(object, copy=False).flat]
    return np.array(strings, dtype=object).reshape(values.shape)


_NO_VALUES = (Mapping, Iterator, set, frozenset, list, tuple)
"""What has no datatype in the protocol; its representation would be a string that says nothing."""


def _string(value: object) -> object:
    if not isinstance(value, bytes):
        if isinstance(value, _NO_VALUES):
            raise TypeError(
                f"the model returned a {type(value).__name__}, which is neither a number nor a "
                "string; return an array, or several of them in a dict"
            )
        return str(value)
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value
