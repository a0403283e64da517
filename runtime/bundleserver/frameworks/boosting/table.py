"""A booster's table: numbers for its library, with the places of categories in their stead."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from bundleserver.documents.forms import quoted
from bundleserver.errors import InvalidInput
from bundleserver.frameworks.tables.columns import (
    MOST_MADE_UP,
    NUMBERS,
    Column,
    is_gap,
    of_values,
)
from bundleserver.frameworks.tables.intake import Intake
from bundleserver.tensors import Array, NamedTensor, TensorSpec

if TYPE_CHECKING:
    import pandas as pd

_PLACES = Column("places")


class NumberTable:
    """The table of one booster: which columns it has, and how a request becomes its numbers.

    Immutable, so any thread may use it.
    """

    def __init__(
        self,
        taker: str,
        width: int,
        names: Sequence[str] = (),
        categories: Mapping[int, Sequence[object]] | None = None,
        by_place: Collection[int] = (),
    ) -> None:
        """Describe a table.

        Args:
            taker: what takes it, for messages.
            width: how many columns it has.
            names: their names, if it was trained with any.
            categories: the recorded categories of columns, by place, in the library's order.
            by_place: the columns of categories that are not recorded, which take numbers.
        """
        self._taker = taker
        self._categories = categories or {}
        self._places = {
            column: {value: place for place, value in enumerate(values)}
            for column, values in self._categories.items()
        }
        known: tuple[Column, ...] = ()
        if width <= MOST_MADE_UP and (self._categories or by_place or names):
            known = tuple(
                of_values(self._categories[i])
                if i in self._categories
                else (_PLACES if i in by_place else NUMBERS)
                for i in range(width)
            )
        is_numeric = not self._categories and not by_place
        self._intake = Intake(taker, width, tuple(names), numeric=is_numeric, known=known)

    @property
    def spec(self) -> TensorSpec:
        """The table as one tensor."""
        return self._intake.spec

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns."""
        return self._intake.columns

    @property
    def width(self) -> int:
        """The number of columns."""
        return self._intake.width or 0

    @property
    def categories(self) -> Mapping[int, Sequence[object]]:
        """The recorded categories of columns."""
        return self._categories

    def numbers(self, inputs: Sequence[NamedTensor]) -> Array:
        """Convert one tensor with the rows, or a tensor ``[n]`` for each column, to ``[n, f]``.

        A gap is NaN, a category its place in the recorded ones.

        Raises:
            InvalidInput: shape, columns or datatype are not valid, or a category is not known.
        """
        values = inputs[0].values
        is_plain = (
            len(inputs) == 1
            and not self._categories
            and values.ndim == 2
            and values.shape[1] == self._intake.width
            and values.dtype.kind in "biuf"
            and inputs[0].columns in ((), self._intake.columns)
        )
        if is_plain:
            return values
        table = self._intake.table(inputs)
        if self._categories:
            return self._coded(table)
        return table if isinstance(table, np.ndarray) else table.to_numpy()

    def _coded(self, table: Array | pd.DataFrame) -> Array:
        numbers = np.empty(table.shape)
        for place in range(table.shape[1]):
            found = table[:, place] if isinstance(table, np.ndarray) else table.iloc[:, place]
            column = np.asarray(found)
            numbers[:, place] = self._codes(column, place) if place in self._places else column
        return numbers

    def _codes(self, column: Array, place: int) -> Array:
        known = self._places[place]
        codes = [np.nan if is_gap(value) else known.get(value, -1) for value in column.tolist()]
        if -1 in codes:
            name = self.columns[place] if self.columns else str(place)
            odd = column[codes.index(-1)]
            shown = f"'{odd:.40}'" if isinstance(odd, str) else json.dumps(np.asarray(odd).item())
            raise InvalidInput(
                f"column '{name}' has the category {shown}, which {self._taker} was not trained "
                f"with; it knows {quoted(map(str, known))}"
            )
        return np.array(codes, np.float64)
