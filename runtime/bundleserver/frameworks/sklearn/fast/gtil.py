"""treelite's GTIL, called through its C interface.

``treelite.gtil.predict`` parses a configuration and computes the output shape in each call, which
takes longer than 100 trees for one row. Here both are known before.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

_KNOWN_INTERFACE = "4."
"""The versions of treelite with the C functions as they are called here."""

_CONFIGURATION = b'{"predict_type": "raw", "nthread": 1}'

FloatArray = npt.NDArray[np.float64]
Rows = npt.NDArray[Any]


def raw_predictor(model: Any, width: int, columns: int) -> Callable[[Rows], FloatArray]:
    """Return the function that sums a model's leaves, in the calling thread.

    It is called with rows ``[n, width]`` and returns sums ``[n, columns]``.

    Raises:
        ValueError: the model has another width, or returns another number of columns.
    """
    import treelite
    import treelite.gtil

    def predict(rows: Rows) -> FloatArray:
        sums: FloatArray = treelite.gtil.predict(model, rows, nthread=1, pred_margin=True)
        return sums.reshape(len(rows), columns)

    one = predict(np.zeros((1, width)))
    if one.dtype != np.float64 or (model.num_feature, model.input_type) != (width, "float64"):
        raise ValueError(f"treelite's model has {model.num_feature} {model.input_type} columns")
    return _direct(model, columns) if treelite.__version__.startswith(_KNOWN_INTERFACE) else predict


def _direct(model: Any, columns: int) -> Callable[[Rows], FloatArray]:
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
    check(library.TreeliteGTILParseConfig(_CONFIGURATION, ctypes.byref(configuration)))

    def predict(rows: Rows) -> FloatArray:
        rows, number = np.ascontiguousarray(rows, np.float64), len(rows)
        sums = np.zeros((number, columns))
        values, answer = rows.ctypes.data, sums.ctypes.data
        check(call(model.handle, values, b"float64", number, answer, configuration))
        return sums

    weakref.finalize(predict, library.TreeliteGTILDeleteConfig, configuration).atexit = False
    return predict
