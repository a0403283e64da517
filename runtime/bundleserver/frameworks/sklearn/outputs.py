"""Results with several outputs: what an estimator returns beside a single array."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from bundleserver.frameworks.sklearn.results import dense
from bundleserver.tensors import Array

Outputs = tuple[Array, ...] | dict[str, Array]
"""Several outputs, by position or by name."""


def several_outputs(answer: Any, method: str) -> Outputs | None:
    """Return the outputs of a tuple by position, those of a dict or a table by name.

    None for a single output: an array, a series, the table of a transformer whose columns are of
    one kind, or a list with an equally shaped array for each target of a classifier.
    """
    if isinstance(answer, Mapping):
        return {str(name): dense(part) for name, part in answer.items()}
    if isinstance(answer, tuple):
        return tuple(dense(part) for part in answer)
    if isinstance(answer, list) and len({np.shape(part) for part in answer}) > 1:
        arrays = all(isinstance(part, np.ndarray) for part in answer)
        return tuple(dense(part) for part in answer) if arrays else None
    if hasattr(answer, "columns") and hasattr(answer, "to_numpy"):
        kinds = {dtype.kind in "biuf" for dtype in answer.dtypes}
        if method != "transform" or len(kinds) > 1:
            return {str(name): dense(answer[name]) for name in answer.columns}
    return None
