"""State dicts that pickle or joblib wrote: only tensors are made, as with ``weights_only``."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import cast

import torch

from bundleserver.frameworks.pickles.made import ClassName
from bundleserver.frameworks.pickles.scan import decompressed
from bundleserver.frameworks.torch.files import stores_tensors


def load_pickled(path: Path) -> object:
    """Open a plain pickle of tensors; no code runs that the pickle could choose.

    Raises:
        UnpicklingError: it names something that is not part of how tensors are stored.
        Exception: it is damaged.
    """
    with path.open("rb") as raw:
        return _TensorsOnly(decompressed(raw, raw.peek(256)[:256])).load()


_TENSORS = frozenset({"OrderedDict", "Size", "device"})
_REBUILDERS = frozenset({"_rebuild_parameter", "_rebuild_tensor", "_rebuild_tensor_v2"})


class _TensorsOnly(pickle.Unpickler):
    """Makes tensors and the containers of a state dict, and nothing else."""

    def find_class(self, module: str, name: str) -> object:
        if (module, name) == ("torch.storage", "_load_from_bytes"):
            return _load_from_bytes
        is_known = module in ("torch._utils", "torch", "collections") and (
            name in _TENSORS | _REBUILDERS or name.endswith("Storage")
        )
        if is_known and stores_tensors(ClassName(module, name)):
            return cast(object, super().find_class(module, name))
        raise pickle.UnpicklingError(f"it names {module}.{name}, which is not a tensor's")


def _load_from_bytes(data: bytes) -> object:
    """Do what ``torch.storage._load_from_bytes`` does, which would run the code of the bytes."""
    load = cast("Callable[..., object]", torch.load)
    return load(io.BytesIO(data), map_location="cpu", weights_only=True)
