"""Examples and instances: a JSON value for each input, and the comparison of outputs."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from bundleserver.errors import WarmUpError
from bundleserver.tensors import Array, NamedTensor, TensorSpec, array_from_rows
from bundleserver.tensors.signature import Signature

_ABSOLUTE_TOLERANCE = 1e-9
"""In addition to the relative tolerance, so that a recorded 0.0 does not require an exact 0.0."""


def validate_values(
    values: Mapping[str, object], signature: Signature, taker: str
) -> dict[str, NamedTensor]:
    """Validate a JSON value for each input; a plain value is a scalar, or an array of one.

    Raises:
        InvalidInput: a value is not valid for the signature.
    """
    specs = {spec.name: spec for spec in signature.inputs}
    tensors = []
    for name, value in values.items():
        rows = value if isinstance(value, list) else [value]
        spec = specs.get(name, TensorSpec(name))
        array = array_from_rows(rows, spec, taker)
        if spec.shape == () and not isinstance(value, list):
            array = array.reshape(())
        tensors.append(NamedTensor(name, array))
    return signature.validate_tensors(tensors, taker)


def check_output(where: str, name: str, got: Array, recorded: object, rtol: float) -> None:
    """Compare one output of an example: labels and strings exactly, numbers within ``rtol``.

    Raises:
        WarmUpError: shape or values differ; shows both.
    """
    rows = recorded if isinstance(recorded, list) else [recorded]
    wanted = array_from_rows(rows, TensorSpec(name), where)
    if not got.ndim and not isinstance(recorded, list):
        wanted = wanted.reshape(())
    same = got.shape == wanted.shape
    if same and got.dtype.kind == "f" and wanted.dtype.kind in "iuf":
        same = np.allclose(
            got, wanted.astype(np.float64), rtol=rtol, atol=_ABSOLUTE_TOLERANCE, equal_nan=True
        )
    elif same:
        same = np.array_equal(got, wanted)
    if not same:
        raise WarmUpError(
            f"{where}: output '{name}' is {_shown(got)}; expected {_shown(wanted)} as recorded in "
            f"the manifest (relative tolerance {rtol:g}); the files or the installed libraries "
            "probably differ from those of the recording"
        )


def _shown(values: Array) -> str:
    text = np.array2string(values, threshold=8, separator=", ", max_line_width=10_000)
    return text if values.size <= 8 else f"{text} of shape {list(values.shape)}"
