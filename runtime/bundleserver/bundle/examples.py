"""Comparing what a bundle answers with what its manifest's examples record."""

from __future__ import annotations

import numpy as np

from bundleserver.errors import WarmUpError
from bundleserver.tensors import Array, TensorSpec, array_from_rows

_ABSOLUTE_TOLERANCE = 1e-9
"""Beside the relative one, so that a recorded 0.0 does not ask for an exact 0.0."""


def check_output(where: str, name: str, came: Array, recorded: object, rtol: float) -> None:
    """Compare one output of an example with its record: labels and text exactly, numbers to rtol.

    Raises:
        WarmUpError: shape or values differ; shows both.
    """
    rows = recorded if isinstance(recorded, list) else [recorded]
    wanted = array_from_rows(rows, TensorSpec(name), where)
    same = came.shape == wanted.shape
    if same and came.dtype.kind == "f" and wanted.dtype.kind in "iuf":
        close = np.isclose(
            came, wanted.astype(np.float64), rtol=rtol, atol=_ABSOLUTE_TOLERANCE, equal_nan=True
        )
        same = bool(close.all())
    elif same:
        same = bool(np.array_equal(came, wanted))
    if not same:
        raise WarmUpError(
            f"{where} gives {_shown(came)} for output '{name}'; the manifest records "
            f"{_shown(wanted)} (relative tolerance {rtol:g}); the files or the installed libraries "
            "are not those that the example was recorded with"
        )


def _shown(values: Array) -> str:
    text = np.array2string(values, threshold=8, separator=", ", max_line_width=10_000)
    return text if values.size <= 8 else f"{text} of shape {list(values.shape)}"
