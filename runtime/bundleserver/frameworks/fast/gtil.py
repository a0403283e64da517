"""treelite's GTIL, called through its C interface.

``treelite.gtil.predict`` parses a configuration and computes the output shape in each call, which
takes longer than 100 trees for one row. Here both are known before.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable
from importlib import metadata
from typing import Any

import numpy as np
import numpy.typing as npt

_KNOWN_INTERFACE = "4."
"""The versions of treelite with the C functions as they are called here."""

_SUMS = b'{"predict_type": "raw", "nthread": 1}'
_TRANSFORMED = b'{"predict_type": "default", "nthread": 1}'

Floats = npt.NDArray[Any]
"""Numbers in the datatype of a model's thresholds."""

Sums = Callable[[Floats], Floats]
"""From rows ``[n, width]`` to ``[n, columns]``."""


def predictor(model: Any, width: int, columns: int, *, transformed: bool = False) -> Sums:
    """Return the function that sums a model's leaves, in the calling thread.

    It is called with rows ``[n, width]`` and returns ``[n, columns]``, both in the model's
    datatype: the sums, or what its own function makes of them if they are to be ``transformed``.

    Raises:
        ValueError: the model has another width, or returns another number of columns.
    """
    import treelite
    import treelite.gtil

    datatype = np.dtype(model.input_type)

    def predict(rows: Floats) -> Floats:
        rows = np.ascontiguousarray(rows, datatype)
        found: Floats = treelite.gtil.predict(model, rows, nthread=1, pred_margin=not transformed)
        return found.reshape(len(rows), columns)

    one = predict(np.zeros((1, width)))
    if one.dtype != datatype or model.num_feature != width:
        raise ValueError(f"treelite's model has {model.num_feature} {model.input_type} columns")
    known = treelite.__version__.startswith(_KNOWN_INTERFACE)
    return _direct(model, columns, transformed) if known else predict


def version() -> str:
    """Return the version of the installed treelite."""
    return metadata.version("treelite")


def _direct(model: Any, columns: int, transformed: bool) -> Sums:
    from treelite import TreeliteError
    from treelite.libpath import find_lib_path

    # A handle of our own, so that the argument types set here do not affect treelite.
    library = ctypes.CDLL(str(find_lib_path()[0]))
    library.TreeliteGetLastError.restype = ctypes.c_char_p
    call = library.TreeliteGTILPredict
    pointer, count = ctypes.c_void_p, ctypes.c_uint64
    call.argtypes = (pointer, pointer, ctypes.c_char_p, count, pointer, pointer)

    def check(status: int) -> None:
        if status:
            raise TreeliteError(library.TreeliteGetLastError().decode())

    configuration = ctypes.c_void_p()
    asked = _TRANSFORMED if transformed else _SUMS
    check(library.TreeliteGTILParseConfig(asked, ctypes.byref(configuration)))
    name, datatype = model.input_type.encode(), np.dtype(model.input_type)

    def predict(rows: Floats) -> Floats:
        rows, number = np.ascontiguousarray(rows, datatype), len(rows)
        sums = np.zeros((number, columns), datatype)
        values, answer = rows.ctypes.data, sums.ctypes.data
        check(call(model.handle, values, name, number, answer, configuration))
        return sums

    weakref.finalize(predict, library.TreeliteGTILDeleteConfig, configuration).atexit = False
    return predict
