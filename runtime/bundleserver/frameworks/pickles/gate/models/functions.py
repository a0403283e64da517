"""Functions of ours in place of those that models keep, and that would believe their arguments."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np


def _only_for_fitting(*args: object, **keywords: object) -> object:
    """Stand for a function that calls what it is given, or that believes the sizes it is given.

    Raises:
        ValueError: always.
    """
    raise ValueError("a function of a model that only fitting needs is not there after a load")


def _smoothing(name: str) -> Callable[..., object]:
    """Return the smoothing of an ETS model; compiled code there checks no bounds, so this does."""

    def smooth(
        params: Any, y: Any, yhat: Any, xhat: Any, is_fixed: Any, fixed: Any, *options: bool
    ) -> object:
        arrays = (params, y, yhat, xhat, is_fixed, fixed)
        if any(type(array) is not np.ndarray for array in arrays) or xhat.ndim != 2:
            raise ValueError("an ETS model does not keep its numbers in arrays")
        rows, states = xhat.shape
        if not (
            rows >= 1
            and states >= 3
            and len(is_fixed) == len(fixed) == states + 4
            and min(len(y), len(yhat)) >= rows
            and len(params) >= np.count_nonzero(is_fixed == 0)
        ):
            raise ValueError("an ETS model has arrays whose sizes do not agree")
        real = getattr(import_module(_ETS), name)
        return real(params, y, yhat, xhat, is_fixed, fixed, *options)

    return smooth


_ETS = "statsmodels.tsa.exponential_smoothing._ets_smooth"

CHECKED_FUNCTIONS: dict[str, Callable[..., object]] = {
    **{
        f"{_ETS}.{name}": _smoothing(name)
        for name in (
            *("_ets_smooth_add_add", "_ets_smooth_add_mul"),
            *("_ets_smooth_mul_add", "_ets_smooth_mul_mul"),
        )
    },
    "sklearn.cluster._kmeans._kmeans_single_elkan": _only_for_fitting,
    "sklearn.cluster._kmeans._kmeans_single_lloyd": _only_for_fitting,
    "statsmodels.base.l1_slsqp.fit_l1_slsqp": _only_for_fitting,
}
"""Functions in place of those that a pickle names; each is only a value."""
