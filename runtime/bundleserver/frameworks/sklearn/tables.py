"""Estimators' tables: from named tensors to a table, from any result to an array."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from bundleserver.documents.forms import quoted
from bundleserver.errors import InvalidInput
from bundleserver.tensors import Array, NamedTensor, TensorSpec, datatype_of

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Intake:
    """The table that one estimator expects: its width, columns and kind.

    ``taker`` is the estimator's name in messages. A ``width`` of ``None`` is unknown: then nothing
    is validated, and a table with column names becomes a DataFrame. ``text``: one string per row.
    ``numeric``: strings are rejected.
    """

    taker: str
    width: int | None = None
    columns: tuple[str, ...] = ()
    text: bool = False
    numeric: bool = False

    @cached_property
    def accepts_arrays(self) -> bool:
        """Whether an array of numbers of the right width is passed on unchanged."""
        return not self.text and not self.columns and self.width is not None

    @property
    def spec(self) -> TensorSpec:
        """The table as one tensor; numbers may have any datatype."""
        if self.text:
            return TensorSpec("input-0", "BYTES", (-1,))
        if self.width is None:
            return TensorSpec("input-0")
        return TensorSpec("input-0", None, (-1, self.width), self.columns)

    def table(self, inputs: Sequence[NamedTensor]) -> Array | pd.DataFrame:
        """Convert one tensor with the rows, or several tensors ``[n]`` with a column each.

        Estimators that were fitted with column names get a DataFrame, others an array.

        Raises:
            InvalidInput: shape, columns or datatype are not valid for the estimator.
        """
        if len(inputs) > 1:
            return self._from_columns(inputs)
        if self.text:
            return self._strings(inputs[0])
        return self._from_rows(inputs[0])

    def _strings(self, tensor: NamedTensor) -> Array:
        values = tensor.values
        if values.ndim == 2 and values.shape[1] == 1:
            values = values[:, 0]
        if values.ndim != 1:
            raise self._wrong_shape(tensor, [-1])
        if not all(isinstance(value, str | bytes) for value in values):
            raise InvalidInput(
                f"input '{tensor.name}' has values that are not strings; {self.taker} expects BYTES"
            )
        return values

    def _from_rows(self, tensor: NamedTensor) -> Array | pd.DataFrame:
        values = tensor.values
        if self.width is None:
            if values.ndim == 0:
                raise self._wrong_shape(tensor, [-1, -1])
            named = tensor.columns and values.shape[1:] == (len(tensor.columns),)
            return _frame(values, tensor.columns) if named else values
        if values.dtype.kind not in "biuf":
            self._check_numeric(tensor)
        if values.ndim == 1 and self.width == 1:
            values = values[:, np.newaxis]
        order = self._order(tensor.columns, f"input '{tensor.name}'") if self.columns else []
        if values.ndim != 2 or values.shape[1] != self.width:
            raise self._wrong_shape(tensor, [-1, self.width])
        if not self.columns:
            return values
        return _frame(values[:, order] if order else values, self.columns)

    def _from_columns(self, inputs: Sequence[NamedTensor]) -> Array | pd.DataFrame:
        if self.text:
            raise InvalidInput(f"got {len(inputs)} inputs; {self.taker} expects one, of strings")
        names = tuple(tensor.name for tensor in inputs)
        columns = [self._column(tensor) for tensor in inputs]
        if len({len(column) for column in columns}) > 1:
            lengths = zip(names, map(len, columns), strict=True)
            listed = ", ".join(f"'{name}' {length}" for name, length in lengths)
            raise InvalidInput(f"inputs differ in their number of rows: {listed}")
        if self.columns or self.width is None:
            import pandas as pd

            order = self._order(names, "the request") or range(len(names))
            return pd.DataFrame({names[i]: columns[i] for i in order}).infer_objects()
        if len(columns) != self.width:
            raise InvalidInput(
                f"got {len(columns)} inputs, one per column; {self.taker} expects {self.width}"
            )
        return np.column_stack(columns)

    def _column(self, tensor: NamedTensor) -> Array:
        self._check_numeric(tensor)
        values = tensor.values
        if values.ndim == 2 and values.shape[1] == 1:
            return values[:, 0]
        if values.ndim != 1:
            raise self._wrong_shape(tensor, [-1])
        return values

    def _check_numeric(self, tensor: NamedTensor) -> None:
        if self.numeric and tensor.values.dtype.kind not in "biuf":
            raise InvalidInput(
                f"input '{tensor.name}' has datatype {datatype_of(tensor.values)}; "
                f"{self.taker} expects numbers"
            )

    def _order(self, came: tuple[str, ...], where: str) -> list[int]:
        """Return the position of each of the estimator's columns; empty if either has no names."""
        if not came or not self.columns:
            return []
        missing = [f"missing column '{name}'" for name in self.columns if name not in came]
        unknown = [f"unknown column '{name}'" for name in came if name not in self.columns]
        twice = [f"duplicate column '{name}'" for name in set(came) if came.count(name) > 1]
        if problems := missing + unknown + twice:
            expected = quoted(self.columns)
            raise InvalidInput(
                f"{', '.join(problems)} in {where}; {self.taker} expects the columns {expected}"
            )
        return [came.index(name) for name in self.columns]

    def _wrong_shape(self, tensor: NamedTensor, wanted: list[int]) -> InvalidInput:
        came = list(tensor.values.shape)
        return InvalidInput(
            f"input '{tensor.name}' has shape {came}; {self.taker} expects {wanted}"
        )


def _frame(values: Array, columns: tuple[str, ...]) -> pd.DataFrame:
    """Make a DataFrame; columns of numbers among strings get a numeric dtype again."""
    import pandas as pd

    frame = pd.DataFrame(values, columns=list(columns))
    return frame.infer_objects() if values.dtype.kind == "O" else frame


def with_columns(rows: Array, columns: Sequence[str]) -> Array | pd.DataFrame:
    """Make numbers a model's table: a DataFrame if it has column names."""
    return _frame(rows, tuple(columns)) if columns else rows


def dense(answer: object) -> Array:
    """Convert an estimator's result to one array of a datatype of the protocol.

    Sparse matrices become dense, DataFrames arrays, and a list with an array ``[n, k]`` per output
    (``predict_proba`` of several outputs) becomes ``[n, outputs, k]``. Strings, dates and
    categories become an object array of ``str``.

    Raises:
        ValueError: the arrays of several outputs differ in shape.
    """
    if type(answer) is np.ndarray and answer.dtype.kind in "biufc":
        return answer
    if hasattr(answer, "toarray"):
        return np.asarray(answer.toarray())
    if hasattr(answer, "to_numpy"):
        return _protocol_values(answer.to_numpy())
    if isinstance(answer, list) and answer and all(isinstance(part, np.ndarray) for part in answer):
        return _protocol_values(_stacked(answer))
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
    if values.dtype.kind == "O":
        # Numbers stay numbers in an object column; beside strings they become strings.
        values = np.asarray(values.tolist()).reshape(values.shape)
    if values.dtype.kind not in "OSUMmT":
        return values
    if values.dtype.kind in "Mm":
        values = values.astype(str)  # as objects, dates of nanoseconds would be integers
    strings = [_string(value) for value in values.astype(object, copy=False).flat]
    return np.array(strings, dtype=object).reshape(values.shape)


def _string(value: object) -> object:
    if not isinstance(value, bytes):
        return str(value)
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value
