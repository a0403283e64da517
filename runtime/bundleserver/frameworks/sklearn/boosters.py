"""Categories that the boosting libraries recorded of pandas columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bundleserver.frameworks.interface import has_class_of
from bundleserver.frameworks.lightgbm_text.model import read_model
from bundleserver.frameworks.lightgbm_text.numbers import Malformed

_LOST = (
    "has categories of pandas, and does not tell in which columns; fit it again with unordered "
    "ones (table[name].cat.as_unordered()), all of them columns of categories, or save its "
    "'booster_', which takes their numbers"
)


def categories_of(model: Any) -> Mapping[int, Sequence[object]]:
    """Return the categories of each column that was one of pandas' categories, by position.

    LightGBM records them, and XGBoost since version 3.1. Empty: there are none, or nothing tells.
    """
    if has_class_of(model, "lightgbm"):
        return _of_lightgbm(model)
    if has_class_of(model, "xgboost"):
        return _of_xgboost(model)
    return {}


def why_not_served(model: Any) -> str | None:
    """Say why a fitted booster cannot be given its categories; None if it can.

    Their columns must be known: the library refuses a table with others, or with none.
    """
    if has_class_of(model, "lightgbm") and getattr(model, "booster_", None) is not None:
        is_lost = model.booster_.pandas_categorical and not _of_lightgbm(model)
        return _LOST if is_lost else None
    if has_class_of(model, "xgboost") and (odd := _cut_by_xgboost(model)):
        return (
            f"was fitted on the categories of column '{odd}', which have letters beyond ASCII: "
            "XGBoost records them incompletely and does not find them again; fit it again with "
            "others, or save 'get_booster()', which takes their places in training"
        )
    return None


def _cut_by_xgboost(model: Any) -> str:
    """Return the name or place of a column whose categories XGBoost cut; empty: there is none."""
    try:
        recorded = _recorded_by_xgboost(model)
        names = model.get_booster().feature_names
    except Exception:  # noqa: BLE001 - not fitted, or without pyarrow: nothing is known
        return ""
    for place, values in recorded.items():
        try:
            is_cut = any(isinstance(v, str) and not v.isascii() for v in values.to_pylist())
        except UnicodeDecodeError:
            is_cut = True
        if is_cut:
            return str(names[place] if names else place)
    return ""


def _of_lightgbm(model: Any) -> Mapping[int, Sequence[object]]:
    booster = model.booster_
    recorded = booster.pandas_categorical or []
    positions = sorted(booster.params.get("categorical_column") or [])
    # A column that was named categorical and is none of pandas' has no recorded categories.
    if len(positions) >= len(recorded):
        return (
            dict(zip(positions, recorded, strict=True)) if len(positions) == len(recorded) else {}
        )
    try:
        return read_model(booster.model_to_string(-1).encode()).categories
    except Malformed:
        return {}


def _of_xgboost(model: Any) -> Mapping[int, Sequence[object]]:
    return {i: column.to_pylist() for i, column in _recorded_by_xgboost(model).items()}


def _recorded_by_xgboost(model: Any) -> Mapping[int, Any]:
    """Return pyarrow's arrays of categories, by position."""
    booster = model.get_booster()
    if "c" not in (booster.feature_types or ()) or not hasattr(booster, "get_categories"):
        return {}
    recorded = booster.get_categories(export_to_arrow=True).to_arrow()
    return {i: column for i, (_, column) in enumerate(recorded) if column is not None}
