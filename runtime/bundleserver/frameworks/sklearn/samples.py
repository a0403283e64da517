"""Samples: tables of different rows that a fitted estimator is likely to take."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import cycle, islice
from typing import Any

import numpy as np
from sklearn.preprocessing import LabelBinarizer, LabelEncoder

from bundleserver.frameworks.sklearn.columns import words_of
from bundleserver.frameworks.tables.columns import MOST_MADE_UP, UNKNOWN, Column
from bundleserver.frameworks.tables.intake import Intake
from bundleserver.tensors import Array, NamedTensor

_WORDS_PER_TEXT = 3


def samples_of(model: Any, first: Any, intake: Intake, rows: int) -> Iterator[NamedTensor]:
    """Yield tables of so many rows, the most plausible first.

    There is none if nothing is known, or if rows would be too wide.

    Args:
        model: the estimator.
        first: the part of it that gets the input.
        intake: the estimator's input.
        rows: the number of rows.
    """
    if intake.text:
        yield NamedTensor("input-0", _texts(words_of(first), rows))
    elif isinstance(model, LabelEncoder | LabelBinarizer):
        yield NamedTensor("input-0", np.array(list(islice(cycle(model.classes_), rows))))
    elif 0 < (width := intake.width or _width_of(model) or 0) <= MOST_MADE_UP:
        known = intake.known or (UNKNOWN,) * width
        for draw in _DRAWS:
            numbers = draw(rows, width)
            yield NamedTensor("input-0", _table(known, numbers), intake.columns)
            if all(column.categories for column in known):
                return
        if any(column.kind is None for column in known):
            numbers = _normal(rows, width)
            yield NamedTensor("input-0", _table(known, numbers, strings=True), intake.columns)


def _texts(words: tuple[object, ...], rows: int) -> Array:
    known = words or ("word",)
    texts = [
        " ".join(str(known[(i + j) % len(known)]) for j in range(_WORDS_PER_TEXT))
        for i in range(rows)
    ]
    return np.fromiter(texts, object, rows)


def _width_of(model: Any) -> int | None:
    """Guess the width of an estimator that does not say it from what else is fitted."""
    for name in ("feature_names_in_", "feature_importances_", "coef_"):
        values = getattr(model, name, None)
        if values is not None and np.ndim(values):
            return int(np.shape(values)[-1])
    return None


def _table(known: tuple[Column, ...], numbers: Array, *, strings: bool = False) -> Array:
    """Make a table of numbers and what is known; with ``strings``, strings where nothing is."""
    is_plain = all(c.kind in ("numbers", None) and not c.categories for c in known)
    if is_plain and not strings:
        return numbers
    table = numbers.astype(object)
    for place, column in enumerate(known):
        kind = column.kind or ("strings" if strings else "")
        if column.is_used and (values := column.categories or _EXAMPLES.get(kind)):
            table[:, place] = [values[(i + place) % len(values)] for i in range(len(table))]
    return table


_EXAMPLES: dict[str, tuple[object, ...]] = {"strings": ("a", "b"), "booleans": (False, True)}


def _normal(rows: int, width: int) -> Array:
    return np.random.default_rng(0).normal(size=(rows, width))


def _positive(rows: int, width: int) -> Array:
    return np.abs(_normal(rows, width))


def _binary(rows: int, width: int) -> Array:
    return np.random.default_rng(0).integers(0, 2, (rows, width)).astype(np.float64)


_DRAWS: tuple[Callable[[int, int], Array], ...] = (_normal, _positive, _binary)
"""Numbers of either sign; others for estimators that refuse negative ones, or fractions."""
