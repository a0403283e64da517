"""All gadgets."""

from __future__ import annotations

from tests.hostile.gadgets import (
    arrays,
    bundles,
    callables,
    exhausting,
    instructions,
    models,
    names,
    states,
)
from tests.hostile.gadgets.writing import GADGETS

__all__ = ["GADGETS"]

KINDS = (arrays, bundles, callables, exhausting, instructions, models, names, states)
