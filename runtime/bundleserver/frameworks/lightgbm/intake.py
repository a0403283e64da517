"""The table of a booster: from named tensors to the numbers that LightGBM gets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from bundleserver.errors import InvalidInput
from bundleserver.frameworks.lightgbm_text.model import ModelText
from bundleserver.frameworks.tables.column_values import column_values
from bundleserver.frameworks.tables.columns import NUMBERS, is_gap, of_values
from bundleserver.frameworks.tables.intake import Intake
from bundleserver.tensors import Array, NamedTensor

Numbers = npt.NDArray[np.float64]

TAKER = "the LightGBM booster"


def intake_of(model: ModelText) -> BoosterIntake:
    """Return the table of a booster: its columns, and the values of those of categories."""
    known = tuple(
        replace(of_values(model.categories[place]), is_category=True)
        if place in model.categories
        else NUMBERS
        for place in range(len(model.names))
    )
    return BoosterIntake(
        TAKER,
        len(model.names),
        model.columns,
        numeric=not model.categories,
        known=known,
        codes={
            place: {value: code for code, value in enumerate(values)}
            for place, values in model.categories.items()
        },
    )


@dataclass(frozen=True)
class BoosterIntake(Intake):
    """A table of numbers, and of pandas' categories, which the booster knows as their numbers.

    ``codes`` has the number of each value, by the column's position.
    """

    codes: Mapping[int, Mapping[object, int]] = field(default_factory=dict)

    def numbers(self, inputs: Sequence[NamedTensor]) -> Numbers:
        """Convert one tensor with the rows, or a tensor ``[n]`` for each column, to ``[n, f]``.

        Integers count as FP64, as in a DataFrame. Gaps, and values that no category has, are NaN.

        Raises:
            InvalidInput: shape, columns or datatype are not valid.
        """
        values, columns = inputs[0].values, inputs[0].columns
        is_table = (
            len(inputs) == 1
            and not self.codes
            and values.dtype.kind in "biuf"
            and values.shape[1:] == (self.width,)
            and columns in ((), self.columns)
        )
        table = values if is_table else self.table(self._as_recorded(inputs))
        return np.ascontiguousarray(table, np.float64)

    def _as_recorded(self, inputs: Sequence[NamedTensor]) -> Sequence[NamedTensor]:
        """Give columns that were trained with spaces in their names the recorded ones."""
        if len(inputs) == 1 and inputs[0].columns:
            return [inputs[0]._replace(columns=self._recorded(inputs[0].columns))]
        names = self._recorded([tensor.name for tensor in inputs])
        return [tensor._replace(name=name) for tensor, name in zip(inputs, names, strict=True)]

    def _recorded(self, names: Sequence[str]) -> tuple[str, ...]:
        """Return recorded names in place of those that came.

        Raises:
            InvalidInput: two that came can be the same column's in training.
        """
        known = set(self.columns)
        recorded: list[str] = []
        came: dict[str, str] = {}
        for name in names:
            new = name.replace(" ", "_")
            recorded.append(new if new in known else name)
            if (other := came.setdefault(recorded[-1], name)) != name:
                raise InvalidInput(
                    f"'{other}' and '{name}' both mean the column '{new}', as LightGBM records '_' "
                    "for a space; send one of them"
                )
        return tuple(recorded)

    def _framed(self, values: Array) -> Array:
        return values

    def _assembled(self, columns: Sequence[Array | None], rows: int) -> Array:
        table = np.full((rows, len(columns)), np.nan)
        names = self.columns or tuple(map(str, range(len(columns))))
        for place, values in enumerate(columns):
            if values is not None:
                known = self.known[place]
                plain = replace(known, is_category=False)
                converted = column_values(values, plain, names[place], self.taker)
                table[:, place] = self._coded(place, converted)
        return table

    def _coded(self, place: int, values: Array) -> Array:
        codes = self.codes.get(place)
        if codes is None:
            return values
        found = [np.nan if is_gap(v) else codes.get(v, np.nan) for v in values.tolist()]
        return np.array(found, np.float64)
