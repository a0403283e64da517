"""State dicts that pickle or joblib wrote: only tensors are made, as with ``weights_only``."""

from __future__ import annotations

import io
import pickle
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, cast

import torch

from bundleserver.frameworks.pickles.made import ClassName
from bundleserver.frameworks.pickles.scan import decompressed


def load_pickled(path: Path) -> object:
    """Open a plain pickle of tensors; no code runs that the pickle could choose.

    Raises:
        UnpicklingError: it names something that is not part of how tensors are stored.
        Exception: it is damaged.
    """
    with path.open("rb") as raw:
        return _TensorsOnly(decompressed(raw, raw.peek(256)[:256])).load()


_KNOWN = frozenset(
    {
        ClassName("collections", "OrderedDict"),
        ClassName("torch", "Size"),
        ClassName("torch", "device"),
        ClassName("torch._utils", "_rebuild_parameter"),
        ClassName("torch._utils", "_rebuild_tensor"),
        ClassName("torch._utils", "_rebuild_tensor_v2"),
    }
)


_Unpickler: Any = pickle._Unpickler


class _TensorsOnly(_Unpickler):  # type: ignore[misc]  # typeshed has it without its insides
    """Makes tensors and the containers of a state dict, and nothing else.

    Python's own unpickler, since what BUILD may change can be said only there.
    """

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = {**_Unpickler.dispatch}

    def find_class(self, module: str, name: str) -> object:
        if (module, name) == ("torch.storage", "_load_from_bytes"):
            return _load_from_bytes
        if ClassName(module, name) in _KNOWN:
            return cast(object, super().find_class(module, name))
        raise pickle.UnpicklingError(f"it names {module}.{name}, which is not a tensor's")

    def load_build(self) -> None:
        """Set the attributes of a dict, such as a state dict's ``_metadata``, and of no other.

        What changes a class or a function changes it for the whole process.
        """
        state, changed = self.stack[-1], self.stack[-2]
        if type(changed) is not OrderedDict or type(state) is not dict or not _plain(state):
            raise pickle.UnpicklingError("it changes something that is not a state dict")
        super().load_build()

    dispatch[pickle.BUILD[0]] = load_build


def _plain(state: Mapping[object, object]) -> bool:
    return all(isinstance(key, str) and not key.startswith("__") for key in state)


def _load_from_bytes(data: bytes) -> object:
    """Do what ``torch.storage._load_from_bytes`` does, which would run the code of the bytes."""
    load = cast("Callable[..., object]", torch.load)
    with only_tensors():
        return load(io.BytesIO(data), map_location="cpu", weights_only=True)


@contextmanager
def only_tensors() -> Iterator[None]:
    """Take what other code added to torch's list of safe classes off it, for the block.

    The list is one for the process; whoever is here holds the turn of torch's readers.
    """
    added = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    try:
        yield
    finally:
        torch.serialization.add_safe_globals(added)
