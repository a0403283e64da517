"""Categories that the boosting libraries recorded of pandas columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bundleserver.frameworks.interface import has_class_of


def categories_of(model: Any) -> Mapping[int, Sequence[object]]:
    """Return the categories of each column that was one of pandas' categories, by position.

    LightGBM records them, and XGBoost since version 3.1. Empty: there are none, or nothing tells.
    """
    if has_class_of(model, "lightgbm"):
        return _of_lightgbm(model)
    if has_class_of(model, "xgboost"):
        return _of_xgboost(model)
    return {}


def _of_lightgbm(model: Any) -> Mapping[int, Sequence[object]]:
    booster = model.booster_
    recorded = booster.pandas_categorical or []
    positions = sorted(booster.params.get("categorical_column") or [])
    # A column that was named categorical and is none of pandas' has no recorded categories.
    return dict(zip(positions, recorded, strict=True)) if len(positions) == len(recorded) else {}


def _of_xgboost(model: Any) -> Mapping[int, Sequence[object]]:
    booster = model.get_booster()
    if "c" not in (booster.feature_types or ()) or not hasattr(booster, "get_categories"):
        return {}
    recorded = booster.get_categories(export_to_arrow=True).to_arrow()
    return {i: c.to_pylist() for i, (_, c) in enumerate(recorded) if c is not None}
