"""Estimators' tables: from named tensors to an array or a DataFrame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from bundleserver.documents.forms import quoted
from bundleserver.errors import InvalidInput
from bundleserver.frameworks.tables.column_values import (
    column_values,
    numbers_of,
    without_gaps_as_none,
)
from bundleserver.frameworks.tables.columns import NUMBERS, UNKNOWN, Column
from bundleserver.frameworks.tables.results import dense as dense
from bundleserver.tensors import Array, NamedTensor, TensorSpec, datatype_of
from bundleserver.tensors.columns import column_problems

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Intake:
    """The table that one estimator expects: its width, columns and kind.

    ``taker`` is the estimator's name in messages. A ``width`` of ``None`` is unknown: then nothing
    is validated, and a table with column names becomes a DataFrame. ``text``: one string per row.
    ``numeric``: strings are rejected. ``known`` has what fitting recorded of each column.
    ``as_array``: it never gets a DataFrame, but an array with its columns in their order.
    """

    taker: str
    width: int | None = None
    columns: tuple[str, ...] = ()
    text: bool = False
    numeric: bool = False
    known: tuple[Column, ...] = ()
    as_array: bool = False

    @cached_property
    def accepts_arrays(self) -> bool:
        """Whether an array of numbers of the right width is passed on unchanged."""
        by_place = not self.columns or self.as_array
        return not self.text and by_place and self.width is not None and self._is_plain

    @cached_property
    def spec(self) -> TensorSpec:
        """The table as one tensor; numbers may have any datatype."""
        if self.text:
            return TensorSpec("input-0", "BYTES", (-1,))
        if self.width is None:
            return TensorSpec("input-0")
        datatypes = tuple(column.datatype for column in self.known)
        used = tuple(self.columns[i] for i in self._used) if self.columns else ()
        return TensorSpec(
            "input-0",
            None,
            (-1, self.width),
            self.columns,
            column_datatypes=() if set(datatypes) <= {"FP64"} else datatypes,
            required_columns=used if len(used) < len(self.columns) else (),
            kinds_known=self.numeric
            or all(c.kind or not c.is_used for c in self.known or (UNKNOWN,)),
        )

    def table(self, inputs: Sequence[NamedTensor]) -> Array | pd.DataFrame:
        """Convert one tensor with the rows, or several tensors ``[n]`` with a column each.

        Estimators that were fitted with column names get a DataFrame, others an array. Columns that
        they do not use may be missing, and others are ignored.

        Raises:
            InvalidInput: shape, columns or datatype are not valid for the estimator.
        """
        if len(inputs) > 1 or (not self.text and self._is_column(inputs[0])):
            return self._from_columns(inputs)
        if self.text:
            return self._strings(inputs[0])
        return self._from_rows(inputs[0])

    @cached_property
    def _is_plain(self) -> bool:
        """Whether numbers of any datatype are values of every column."""
        return all(
            column.is_used
            and column.kind in ("numbers", None)
            and not (column.is_category or column.is_object)
            for column in self.known
        )

    @cached_property
    def _has_only_numbers(self) -> bool:
        return bool(self.known) and all(column == NUMBERS for column in self.known)

    @cached_property
    def _used(self) -> tuple[int, ...]:
        known = self.known or (UNKNOWN,) * len(self.columns)
        return tuple(i for i, column in enumerate(known) if column.is_used)

    def _is_column(self, tensor: NamedTensor) -> bool:
        is_one = tensor.values.ndim == 1 or tensor.values.shape[1:] == (1,)
        return is_one and not tensor.columns and tensor.name in self.columns

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
            if len(tensor.columns) == 1 and values.ndim == 1:
                values = values[:, np.newaxis]
            if tensor.columns and values.shape[1:] == (len(tensor.columns),):
                return _unknown_frame(values, tensor.columns)
            return without_gaps_as_none(values)
        if self.numeric:
            values = self._numbers(tensor)
        if values.ndim == 1 and 1 in (self.width, len(tensor.columns)):
            values = values[:, np.newaxis]
        order = self._order(tensor.columns, f"input '{tensor.name}'")
        if values.ndim != 2 or values.shape[1] != (len(tensor.columns) if order else self.width):
            raise self._wrong_shape(tensor, [-1, self.width])
        if self._is_plain and values.dtype.kind in "biuf":
            return self._framed(values[:, [i for i in order if i is not None]] if order else values)
        places = order or range(self.width)
        return self._assembled([None if i is None else values[:, i] for i in places], len(values))

    def _from_columns(self, inputs: Sequence[NamedTensor]) -> Array | pd.DataFrame:
        if self.text:
            raise InvalidInput(f"got {len(inputs)} inputs; {self.taker} expects one, of strings")
        if self.columns:
            order = self._order(tuple(tensor.name for tensor in inputs), "the request")
            taken = [None if i is None else inputs[i] for i in order]
        elif self.width in (None, len(inputs)):
            taken = list(inputs)
        else:
            raise InvalidInput(
                f"got {len(inputs)} inputs, one per column; {self.taker} expects {self.width}"
            )
        columns = [None if tensor is None else self._column(tensor) for tensor in taken]
        pairs = zip(taken, columns, strict=True)
        lengths = {tensor.name: len(c) for tensor, c in pairs if tensor and c is not None}
        if len(set(lengths.values())) > 1:
            listed = ", ".join(f"'{name}' {length}" for name, length in lengths.items())
            raise InvalidInput(f"inputs differ in their number of rows: {listed}")
        if self.width is None:
            return _unknown_columns([tensor.name for tensor in inputs], columns)
        return self._assembled(columns, max(lengths.values(), default=0))

    def _assembled(self, columns: Sequence[Array | None], rows: int) -> Array | pd.DataFrame:
        """Make the whole table of training, with its columns in their order."""
        arrays = [np.full(rows, np.nan) if column is None else column for column in columns]
        names = self.columns or tuple(map(str, range(len(arrays))))
        known = self.known or (UNKNOWN,) * len(arrays)
        if not (self._has_only_numbers and all(array.dtype.kind in "biuf" for array in arrays)):
            parts = zip(arrays, known, names, strict=True)
            arrays = [column_values(array, c, name, self.taker) for array, c, name in parts]
        if self.columns and not self._has_only_numbers and not self.as_array:
            return _frame_of(self.columns, arrays)
        if any(array.dtype.kind not in "biuf" for array in arrays):
            arrays = [array.astype(object, copy=False) for array in arrays]
        return self._framed(np.column_stack(arrays))

    def _framed(self, values: Array) -> Array | pd.DataFrame:
        return with_columns(values, () if self.as_array else self.columns)

    def _column(self, tensor: NamedTensor) -> Array:
        values = self._numbers(tensor) if self.numeric and not self.columns else tensor.values
        if values.ndim == 2 and values.shape[1] == 1:
            return values[:, 0]
        if values.ndim != 1:
            raise self._wrong_shape(tensor, [-1])
        return values

    def _numbers(self, tensor: NamedTensor) -> Array:
        """Return a tensor's numbers; booleans count, and nulls are NaN."""
        if tensor.values.dtype.kind in "biuf":
            return tensor.values
        numbers = numbers_of(tensor.values)
        if numbers is None:
            raise InvalidInput(
                f"input '{tensor.name}' has datatype {datatype_of(tensor.values)}; "
                f"{self.taker} expects numbers"
            )
        return numbers

    def _order(self, came: tuple[str, ...], where: str) -> list[int | None]:
        """Return the place of each of the estimator's columns; empty if either has no names.

        Raises:
            InvalidInput: a column that the estimator uses is missing, or one is there twice.
        """
        if not came or not self.columns:
            return []
        required = [self.columns[i] for i in self._used]
        if problems := column_problems(came, self.columns, required):
            raise InvalidInput(
                f"{problems[0]} in {where}; {self.taker} expects the columns {quoted(required)}"
                + problems[1]
            )
        places = {name: i for i, name in enumerate(came)}
        return [places.get(name) for name in self.columns]

    def _wrong_shape(self, tensor: NamedTensor, wanted: list[int]) -> InvalidInput:
        came = list(tensor.values.shape)
        return InvalidInput(
            f"input '{tensor.name}' has shape {came}; {self.taker} expects {wanted}"
        )


def _unknown_frame(values: Array, columns: Sequence[str]) -> pd.DataFrame:
    """Make a DataFrame of columns of which nothing is known."""
    if values.dtype.kind != "O":
        return _frame(values, columns)
    return _unknown_columns(columns, list(values.T))


def _unknown_columns(names: Sequence[str], columns: Sequence[Array | None]) -> pd.DataFrame:
    known = (column for column in columns if column is not None)
    return _frame_of(names, [column_values(column, UNKNOWN, "", "") for column in known])


def _frame_of(names: Sequence[str], columns: Sequence[Any]) -> pd.DataFrame:
    """Make a DataFrame of columns, each with a datatype of its own."""
    import pandas as pd

    return pd.DataFrame(dict(zip(names, columns, strict=True)))


def _frame(values: Array, columns: Sequence[str]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(values, columns=list(columns))


def with_columns(rows: Array, columns: Sequence[str]) -> Array | pd.DataFrame:
    """Make numbers a model's table: a DataFrame if it has column names."""
    return _frame(rows, columns) if columns else rows
