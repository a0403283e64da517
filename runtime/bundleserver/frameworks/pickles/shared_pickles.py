"""Opening joblib files so that their large arrays are shared with the other workers."""

from __future__ import annotations

import inspect
import math
from pathlib import Path

import numpy as np
from joblib.numpy_pickle import NumpyArrayWrapper, NumpyUnpickler

from bundleserver.frameworks.pickles.scan import decompressed
from bundleserver.frameworks.pickles.shared_arrays import LEAST_BYTES, SharedArrays
from bundleserver.tensors import Array

_COPYING_MODULE = "sklearn.tree._tree"
"""Its trees copy the arrays that they are opened with."""


def load_shared(path: Path, shared: SharedArrays) -> object:
    """Open a joblib file as ``joblib.load`` does; this runs the code that the file names.

    Raises:
        Exception: whatever the file's code raises, or sharing; without sharing it may open.
    """
    with path.open("rb") as raw:
        stream = decompressed(raw, raw.peek(256)[:256])
        # Since joblib 1.5 it must be said what always was: numbers get this machine's byte order.
        is_asked = "ensure_native_byte_order" in inspect.signature(NumpyUnpickler).parameters
        how = {"ensure_native_byte_order": True} if is_asked else {}
        model: object = _SharingUnpickler(shared, str(path), stream, **how).load()
        return model


class _SharingUnpickler(NumpyUnpickler):  # type: ignore[misc]  # joblib has no types
    """joblib's own, with another class for what stands in a file for an array."""

    def __init__(self, shared: SharedArrays, *what: object, **how: object) -> None:
        super().__init__(*what, **how)
        self.shared = shared

    def find_class(self, module: str, name: str) -> object:
        found: object = super().find_class(module, name)
        return _SharedArray if found is NumpyArrayWrapper else found

    def is_copied(self) -> bool:
        """Ask whether the object that an array belongs to copies it, so that it is gone at once."""
        # What was begun below: the object whose state is being read, and that state so far.
        below = self.metastack[-1] if self.metastack else []
        return len(below) > 1 and type(below[-2]).__module__ == _COPYING_MODULE


class _SharedArray(NumpyArrayWrapper):  # type: ignore[misc]  # joblib has no types
    """What stands in a file for an array; the array's bytes follow."""

    def read(self, unpickler: _SharingUnpickler, *how: object) -> Array:
        if not self._may_be_shared() or unpickler.is_copied():
            array: Array = super().read(unpickler, *how)
            return array
        stream = unpickler.file_handle
        # Files of joblib before 1.2 do not align arrays.
        if getattr(self, "numpy_array_alignment_bytes", None) is not None:
            stream.read(stream.read(1)[0])
        numbers = np.frombuffer(unpickler.shared.read(stream, self._size()), dtype=self.dtype)
        if self.order == "F":
            return numbers.reshape(self.shape[::-1]).transpose()
        return numbers.reshape(self.shape)

    def _may_be_shared(self) -> bool:
        is_plain = self.subclass in (np.ndarray, np.memmap) and not self.dtype.hasobject
        return is_plain and self.dtype.isnative and self._size() >= LEAST_BYTES

    def _size(self) -> int:
        return int(self.dtype.itemsize) * math.prod(map(int, self.shape))
