"""The table of a CatBoost model: its columns, their kinds, and rows to try it with."""

from __future__ import annotations

import numpy as np

from bundleserver.frameworks import cbm
from bundleserver.frameworks.tables.columns import NUMBERS, Column
from bundleserver.frameworks.tables.intake import Intake
from bundleserver.tensors import NamedTensor

_KINDS = {
    "number": NUMBERS,
    "category": Column("categories"),
    "text": Column("texts"),
    "embedding": Column(),
}
_LEFT = Column("numbers", is_used=False)
"""A column that was dropped from the model, and still has its place in the table."""

_EXAMPLES = ("a", "b", "c")


def intake_of(taker: str, said: cbm.Model) -> Intake:
    """Return the table that a model takes.

    Columns without names are taken by their place.
    """
    features = {feature.place: feature for feature in said.features}
    places = range(said.width)
    known = tuple(_KINDS[features[i].kind] if i in features else _LEFT for i in places)
    # The library makes numbers of places the names of columns without one.
    names = tuple((features[i].name if i in features else "") or str(i) for i in places)
    are_names = set(names) != set(map(str, places)) and len(set(names)) == len(names)
    return Intake(
        taker,
        said.width,
        names if are_names else (),
        numeric=all(column.kind == "numbers" for column in known),
        known=known,
        as_array=True,
    )


def samples_of(intake: Intake, rows: int) -> NamedTensor:
    """Return a table of so many different rows; a model takes any category and any text."""
    numbers = np.random.default_rng(0).normal(size=(rows, intake.width or 0))
    columns = intake.columns
    if intake.numeric:
        return NamedTensor("input-0", numbers, columns)
    table = numbers.astype(object)
    for place, column in enumerate(intake.known):
        if column.kind in ("categories", "texts"):
            table[:, place] = [_EXAMPLES[(i + place) % len(_EXAMPLES)] for i in range(rows)]
    return NamedTensor("input-0", table, columns)
