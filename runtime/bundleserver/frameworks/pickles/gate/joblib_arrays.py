"""Arrays as joblib writes them: a record in the pickle, and the values after it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import numpy as np

from bundleserver.frameworks.free_memory import free_memory
from bundleserver.frameworks.giving_up import go_on
from bundleserver.frameworks.pickles.gate.arrays import check_booleans, checked_shape
from bundleserver.frameworks.pickles.gate.refusal import Refused, kind_of

if TYPE_CHECKING:
    from typing_extensions import Buffer

_PIECE = 1 << 22


class ArrayRecord:
    """In place of joblib's ``NumpyArrayWrapper``, of which nothing is imported."""


def read_array(state: object, stream: BinaryIO, inner: Callable[[], object]) -> object:
    """Read the values of an array, whose description is the state of its record.

    ``inner`` opens the pickle that holds an array of objects.

    Raises:
        Refused: the description is not one that joblib writes.
        EOFError: there are fewer values.
    """
    if type(state) is not dict or not {"subclass", "shape", "order", "dtype"} <= state.keys():
        raise Refused("an array has a description that joblib does not write")
    dtype, order, subclass = state["dtype"], state["order"], state["subclass"]
    if not isinstance(dtype, np.dtype) or dtype.subdtype or not isinstance(subclass, type):
        raise Refused(f"an array has a {kind_of(dtype)} for its datatype, or no class")
    shape = checked_shape(state["shape"])
    if dtype.hasobject:
        return inner()
    if state.get("numpy_array_alignment_bytes") is not None:
        padding = stream.read(1)
        stream.read(padding[0] if padding else 0)
    array = _values(stream, math.prod(shape), dtype)
    check_booleans(array)
    shaped = array.reshape(shape[::-1]).transpose() if order == "F" else array.reshape(shape)
    return shaped if dtype.isnative else shaped.astype(dtype.newbyteorder("="))


def check_room(count: int) -> None:
    """Check that a value fits into the free memory, before any of it is read.

    Raises:
        Refused: it does not.
    """
    free = free_memory() if count > _PIECE else count
    if count > free:
        raise Refused(f"it has a value of {count} bytes, and {free} bytes of memory are free")


def _values(stream: BinaryIO, count: int, dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    check_room(count * dtype.itemsize)
    array = np.empty(count, dtype)
    values = memoryview(cast("Buffer", array.view(np.uint8))) if array.nbytes else memoryview(b"")
    at = 0
    while at < len(values):
        go_on()
        data = stream.read(min(_PIECE, len(values) - at))
        if not data:
            raise EOFError(f"it ends {len(values) - at} bytes too early")
        values[at : at + len(data)] = data
        at += len(data)
    return array
