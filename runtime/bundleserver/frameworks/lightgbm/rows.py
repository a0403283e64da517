"""Rows of what a booster was trained on: to ask it before the first request does."""

from __future__ import annotations

import re
from itertools import cycle, islice

import numpy as np

from bundleserver.frameworks.lightgbm.intake import Numbers
from bundleserver.frameworks.lightgbm_text.model import ModelText
from bundleserver.frameworks.tables.row_by_row import TRIED
from bundleserver.tensors import Array

_RANGE = re.compile(r"\[([^:\]]+):([^:\]]+)\]")
_GAPS = 0.05


def random_rows(model: ModelText) -> Numbers:
    """Return rows of numbers around those of training, with gaps, and numbers of categories."""
    generator = np.random.default_rng(0)
    count, width = TRIED, len(model.names)
    low, high = np.array([_range_of(info) for info in model.infos]).T
    rows: Numbers = low + (high - low) * generator.uniform(-0.1, 1.1, (count, width))
    codes = [place for place, info in enumerate(model.infos) if info[:1] != "["]
    rows[:, codes] = np.rint(rows[:, codes])
    rows[generator.random((count, width)) < _GAPS] = np.nan
    return rows


def samples_of(model: ModelText, rows: int) -> Array:
    """Return different rows within the ranges of training; categories as their values."""
    low, high = np.array([_range_of(info) for info in model.infos]).T
    steps = (np.arange(rows) + 1.0)[:, np.newaxis] / (rows + 1)
    table: Numbers = low + (high - low) * steps
    for place, info in enumerate(model.infos):
        if info[:1] != "[":
            table[:, place] = np.rint(table[:, place])
    if not model.categories:
        return table
    mixed: Array = table.astype(object)
    for place, values in model.categories.items():
        chosen = islice(cycle(values or (None,)), rows)
        mixed[:, place] = np.fromiter(chosen, object, rows)
    return mixed


def _range_of(info: str) -> tuple[float, float]:
    """Return the least and the greatest value that training saw; 0 and 1 if nothing tells."""
    if found := _RANGE.fullmatch(info):
        try:
            low, high = float(found[1]), float(found[2])
        except ValueError:
            return 0.0, 1.0
        return (low, high) if np.isfinite(high - low) else (0.0, 1.0)
    codes = [int(code) for code in info.split(":") if re.fullmatch(r"\d{1,9}", code)]
    return (0.0, float(max(codes))) if codes else (0.0, 1.0)
