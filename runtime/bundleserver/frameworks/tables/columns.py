"""What a fitted model knows of the columns of its table.

It is read from what fitting left in the model. What a request's values look like never decides: a
row alone would then be another table than the row among others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from bundleserver.tensors import Array

Kind = Literal["numbers", "strings", "booleans", "dates", "categories", "texts", "places"]

MOST_MADE_UP = 1 << 21
"""The columns of a row that may be made up; a file says any number of them, in a few bytes."""

MOST_TRIED = 1 << 14
"""The columns of an estimator that is tried with many rows at load, for faster ways to run it."""


@dataclass(frozen=True)
class Column:
    """What a fitted estimator knows of one column of its table.

    Attributes:
        kind: the kind of its values; None if nothing tells. ``categories`` are strings or integers,
            each the same as its text, and booleans, which are 1 and 0; ``texts`` are strings.
            Neither has gaps. ``places`` are numbers of categories: their places in training.
        is_used: whether its values have any effect.
        gap: what stood for a missing value in training.
        categories: the values that were seen in training, where they are recorded.
        is_category: whether it was a pandas column of categories, and must be one again.
        is_object: whether it had Python objects in training, which numbers and booleans beside gaps
            may be.
        is_passed: whether it is passed through to the next step as it is.
    """

    kind: Kind | None = None
    is_used: bool = True
    gap: object = np.nan
    categories: tuple[object, ...] = ()
    is_category: bool = False
    is_object: bool = False
    is_passed: bool = False

    @property
    def datatype(self) -> str:
        """The column's datatype in the protocol; FP64 if its kind is unknown."""
        if self.kind == "numbers" and self.categories:
            whole = all(isinstance(value, int | np.integer) for value in self.categories)
            return "INT64" if whole else "FP64"
        return _DATATYPES.get(self.kind or "", "FP64")


_DATATYPES = {
    **dict.fromkeys(("strings", "dates", "categories", "texts"), "BYTES"),
    "booleans": "BOOL",
}
UNKNOWN = Column()
NUMBERS = Column("numbers")


def of_values(values: Sequence[object] | Array) -> Column:
    """Return the column that these values of its training are from."""
    listed = list(values)
    known = [value for value in listed if not is_gap(value)]
    gaps = [value for value in listed if value is None or is_na(value)]
    has_nan = any(is_gap(value) and value is not None and not is_na(value) for value in listed)
    return Column(
        _kind_of(known),
        gap=gaps[0] if gaps and not has_nan else np.nan,
        categories=tuple(known),
        is_object=isinstance(values, np.ndarray) and values.dtype.kind == "O",
    )


def _kind_of(values: Sequence[object]) -> Kind | None:
    kinds: tuple[tuple[Kind, tuple[type, ...]], ...] = (
        ("strings", (str, bytes)),
        ("booleans", (bool, np.bool_)),
        ("numbers", (int, float, np.integer, np.floating)),
        ("dates", (np.datetime64,)),
    )
    for kind, types in kinds:
        # numpy counts spans of time among its integers.
        if values and all(
            isinstance(value, types) and not isinstance(value, np.timedelta64) for value in values
        ):
            return kind
    return None


def is_gap(value: object) -> bool:
    """Ask whether a value stands for a missing one: None, NaN or pandas' NA."""
    return value is None or is_na(value) or (isinstance(value, float) and value != value)


def is_na(value: object) -> bool:
    """Ask whether a value is pandas' NA or NaT."""
    return type(value).__name__ in ("NAType", "NaTType")
