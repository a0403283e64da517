"""The columns that a formula uses, as the library's own model of the formula says."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from bundleserver.errors import LoadError
from bundleserver.frameworks.statsmodels.columns import Column

_Levels = dict[str, tuple[object, ...]]
"""The columns that a formula uses; with values where a column is a category by itself."""

ENGINES = ("patsy", "formulaic")
"""The packages that statsmodels reads formulas with."""


def training_table(model: Any, where: str) -> pd.DataFrame | None:
    """Return the table that a model was fitted on by formula; None for a model without one.

    Raises:
        LoadError: the table was removed.
    """
    if getattr(model, "formula", None) is None:
        return None
    frame = getattr(model.data, "frame", None)
    if frame is None:
        raise LoadError(f"{where}: the formula's data were removed; save without remove_data")
    return pd.DataFrame(frame)


def formula_columns(model: Any, table: pd.DataFrame, where: str) -> tuple[Column, ...]:
    """Return the columns of the training table that the formula uses, in its order.

    Raises:
        LoadError: a column's values cannot be sent.
    """
    design = _design(model)
    uses = _uses_of_patsy if hasattr(design, "factor_infos") else _uses_of_formulaic
    levels = uses(design, table)
    right = str(model.formula).partition("~")[2]
    ordered = sorted(levels, key=lambda name: _position(name, right))
    return tuple(Column.of(table[name], levels[name], where) for name in ordered)


def _design(model: Any) -> Any:
    """Find the design, whose name and place differ between versions of statsmodels."""
    places = ((model, "model_spec"), (model.data, "model_spec"), (model.data, "design_info"))
    return next(filter(None, (getattr(owner, name, None) for owner, name in places)), None)


def _position(name: str, formula: str) -> int:
    found = re.search(rf"(?<!\w){re.escape(name)}(?!\w)", formula)
    return found.start() if found else len(formula)


class _Seen(Mapping[str, Any]):
    """A table that remembers which columns are taken; the rest of a formula is code."""

    def __init__(self, table: pd.DataFrame) -> None:
        self._table = table
        self.names: list[str] = []

    def __getitem__(self, name: str) -> pd.Series[Any]:
        column = self._table[name]
        self.names.append(name)
        return column

    def __iter__(self) -> Iterator[str]:
        return iter(self._table.columns)

    def __len__(self) -> int:
        return len(self._table.columns)


def _uses_of_patsy(design: Any, table: pd.DataFrame) -> _Levels:
    levels: _Levels = {}
    for factor, info in design.factor_infos.items():
        seen = _Seen(table)
        values = factor.eval(info.state, seen)
        levels |= {name: () for name in seen.names if name not in levels}
        names = set(seen.names)
        if info.categories and len(names) == 1 and _is_same(values, table[(name := names.pop())]):
            levels[name] = tuple(info.categories)
    return levels


def _is_same(values: Any, column: pd.Series[Any]) -> bool:
    # C(column) is the column in a box with its contrast.
    plain = values.data if hasattr(values, "contrast") else values
    return pd.Series(list(plain), dtype=object).equals(pd.Series(list(column), dtype=object))


def _uses_of_formulaic(spec: Any, table: pd.DataFrame) -> _Levels:
    from formulaic import Formula

    levels: _Levels = {str(name): () for name in spec.required_variables if name in table.columns}
    for expression, (_, state) in spec.encoder_state.items():
        categories = tuple(state.get("categories", ()))
        names = [str(n) for n in Formula(expression).required_variables if n in table.columns]
        if len(names) == 1 and set(table[names[0]].dropna()) <= set(categories):
            levels[names[0]] = categories
    return levels
