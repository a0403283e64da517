"""Opening joblib files so that their large arrays are shared with the other processes."""

from __future__ import annotations

import inspect
from pathlib import Path

from joblib.numpy_pickle import NumpyArrayWrapper, NumpyUnpickler

from bundleserver.frameworks.picklescan import decompressed
from bundleserver.frameworks.shared_arrays import SharedArrays
from bundleserver.tensors import Array

_COPYING_MODULE = "sklearn.tree._tree"
"""Its trees copy their arrays when they are opened, so those are gone at once."""


def load_shared(path: Path, shared: SharedArrays) -> object:
    """Open a joblib file as ``joblib.load`` does; this runs the code that the file names."""
    with path.open("rb") as raw:
        stream = decompressed(raw, raw.peek(256)[:256])
        # joblib knows since 1.5 what its ``load`` always did: numbers get this machine's order.
        takes_order = "ensure_native_byte_order" in inspect.signature(NumpyUnpickler).parameters
        how = {"ensure_native_byte_order": True} if takes_order else {}
        model: object = _SharingUnpickler(shared, str(path), stream, **how).load()
        return model


class _SharingUnpickler(NumpyUnpickler):  # type: ignore[misc]  # joblib has no types
    """joblib's own, with another class for what stands in a file for an array."""

    def __init__(self, shared: SharedArrays, *what: object, **how: object) -> None:
        super().__init__(*what, **how)
        self._shared = shared

    def find_class(self, module: str, name: str) -> object:
        found: object = super().find_class(module, name)
        return _SharedArray if found is NumpyArrayWrapper else found

    def share(self, array: Array) -> Array:
        """Share an array, unless its owner copies it."""
        # What was begun below: the object whose state is being read, and that state so far.
        below = self.metastack[-1] if self.metastack else []
        owner = type(below[-2]) if len(below) > 1 else object
        return array if owner.__module__ == _COPYING_MODULE else self._shared.share(array)


class _SharedArray(NumpyArrayWrapper):  # type: ignore[misc]  # joblib has no types
    """What stands in a file for an array."""

    def read(self, unpickler: _SharingUnpickler, *how: object) -> Array:
        return unpickler.share(super().read(unpickler, *how))
