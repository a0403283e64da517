"""The contents of a pickle or joblib file, without importing or running anything.

Every class and function is replaced by its name, and every object by a record of how it would be
made.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import math
import pickle
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, NamedTuple, cast

import numpy as np

from bundleserver.frameworks.interface import reading


class ClassName(NamedTuple):
    """A class or function as a pickle names it."""

    module: str
    qualname: str

    def __str__(self) -> str:
        return f"{self.module}.{self.qualname}"


@dataclass(frozen=True)
class Contents:
    """The contents of a pickle; ``failure`` says why reading stopped early.

    ``head`` has the file's first bytes, to recognise other formats.
    """

    head: bytes
    top: object
    named: frozenset[ClassName]
    sklearn_versions: frozenset[str]
    failure: Exception | None


@dataclass(eq=False)
class Made:
    """An object that a pickle would make: its class or function, its arguments and its state."""

    maker: object
    args: tuple[object, ...] = ()
    state: object = None
    items: dict[object, object] | None = None

    def extend(self, items: Iterable[object]) -> None:
        """Ignore appended items (pickle prefers this to ``append``)."""

    def append(self, item: object) -> None:
        """Ignore an appended item."""

    def __setitem__(self, key: object, value: object) -> None:
        """Keep an item of a dict of another class, such as an OrderedDict."""
        self.items = self.items or {}
        self.items[key] = value


# joblib subclasses the same class, the Python twin of pickle.Unpickler: both see the same stream.
class _InertUnpickler(pickle._Unpickler):
    """Follow a pickle's instructions without importing, calling or setting anything real."""

    def __init__(self, stream: BinaryIO, named: dict[ClassName, None], versions: set[str]) -> None:
        super().__init__(stream, encoding="latin-1")
        self.stack: list[object] = []
        self.metastack: list[list[object]] = []
        self._stream = stream
        self._named = named
        self._versions = versions

    def find_class(self, module: str, name: str) -> object:
        # Protocols 0 to 2 spell these two modules as Python 2 did.
        renamed = {"copy_reg": "copyreg", "__builtin__": "builtins"}.get(module, module)
        found = ClassName(renamed, name)
        self._named[found] = None
        return found

    def persistent_load(self, pid: object) -> object:
        return Made(None)

    def get_extension(self, code: int) -> None:
        self.stack.append(Made(None))

    def _instantiate(self, maker: object, args: Iterable[object]) -> None:
        self.stack.append(Made(maker, tuple(args)))

    def _newobj(self) -> None:
        args = self.stack.pop()
        self._instantiate(self.stack.pop(), cast("tuple[object, ...]", args))

    def _newobj_ex(self) -> None:
        self.stack.pop()
        self._newobj()

    def _build(self) -> None:
        state = self.stack.pop()
        made = self.stack[-1]
        state = state[0] if type(state) is tuple and len(state) == 2 else state
        if not isinstance(made, Made):
            return
        made.state = state
        if isinstance(state, dict) and isinstance(state.get("_sklearn_version"), str):
            self._versions.add(state["_sklearn_version"])
        made_class = class_of(made)
        if made_class is not None and made_class.qualname == "NumpyArrayWrapper":
            self.stack[-1] = self._skip_array(cast("dict[str, object]", state))

    def _skip_array(self, wrapper: dict[str, object]) -> object:
        """Skip the bytes of an array, which joblib writes into the middle of the pickle."""
        dtype = cast("Made", wrapper["dtype"])
        if _holds_objects(dtype):
            return _InertUnpickler(self._stream, self._named, self._versions).load()
        if wrapper.get("numpy_array_alignment_bytes") is not None:
            self._stream.seek(self._stream.read(1)[0], io.SEEK_CUR)
        shape = cast("tuple[int, ...]", wrapper["shape"])
        itemsize = np.dtype(cast(str, dtype.args[0])).itemsize
        self._stream.seek(itemsize * math.prod(shape), io.SEEK_CUR)
        return Made(ClassName("numpy", "ndarray"))

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = {
        **pickle._Unpickler.dispatch,
        pickle.REDUCE[0]: _newobj,
        pickle.NEWOBJ[0]: _newobj,
        pickle.NEWOBJ_EX[0]: _newobj_ex,
        pickle.BUILD[0]: _build,
    }


def _holds_objects(dtype: Made) -> bool:
    """Ask whether a pickled dtype holds Python objects: numpy's lowest dtype flag."""
    flags = dtype.state[7] if isinstance(dtype.state, tuple) and len(dtype.state) > 7 else 0
    return bool(cast(int, flags) & 1)


_NOTHING = object()


def inspect_pickle(path: Path) -> Contents:
    """Read a pickle as far as possible without running it.

    Raises:
        LoadError: the file cannot be read.
    """
    with reading(path), path.open("rb") as raw:
        return _inspect(raw)


def named_classes(stream: BinaryIO) -> tuple[ClassName, ...]:
    """List the classes and functions of the next pickle in a stream, as far as it can be read."""
    named: dict[ClassName, None] = {}
    with suppress(Exception):  # any bytes may come
        _InertUnpickler(stream, named, set()).load()
    return tuple(named)


def _inspect(raw: io.BufferedReader) -> Contents:
    head = raw.peek(256)[:256]
    named: dict[ClassName, None] = {}
    versions: set[str] = set()
    top: object = _NOTHING
    failure: Exception | None = None
    reader: _InertUnpickler | None = None
    try:
        reader = _InertUnpickler(decompressed(raw, head), named, versions)
        top = reader.load()
    except Exception as error:  # noqa: BLE001 - any bytes may come; load() reports the failure
        failure = error
        top = _first_object(reader)
    return Contents(head, top, frozenset(named), frozenset(versions), failure)


def decompressed(raw: io.BufferedReader, magic: bytes) -> BinaryIO:
    """Open the compressed stream that joblib may have written."""
    if magic.startswith(b"\x1f\x8b"):
        return cast(BinaryIO, gzip.GzipFile(fileobj=raw))
    if magic.startswith(b"BZ"):
        return cast(BinaryIO, bz2.BZ2File(raw))
    if magic.startswith((b"\xfd7zXZ", b"\x5d\x00")):
        return cast(BinaryIO, lzma.LZMAFile(raw))
    if magic.startswith(b"\x04\x22\x4d\x18"):
        return cast(BinaryIO, import_module("lz4.frame").LZ4FrameFile(raw))
    if magic.startswith(b"\x78"):
        zlib_file = import_module("joblib.compressor").BinaryZlibFile(raw)
        return io.BufferedReader(zlib_file)
    return raw


def _first_object(reader: _InertUnpickler | None) -> object:
    """Return the first object of a damaged pickle."""
    stacks = [*reader.metastack, reader.stack] if reader else []
    first = next((stack[0] for stack in stacks if stack), None)
    return first if isinstance(first, Made) else _NOTHING


_REBUILDERS: Mapping[str, ClassName | None] = {
    "copyreg._reconstructor": None,
    "copyreg.__newobj__": None,
    "copyreg.__newobj_ex__": None,
    "numpy.core.multiarray._reconstruct": None,
    "numpy._core.multiarray._reconstruct": None,
    "numpy.core.numeric._frombuffer": ClassName("numpy", "ndarray"),
    "numpy._core.numeric._frombuffer": ClassName("numpy", "ndarray"),
}
"""Functions that make objects of another class: the named one, or that of their first argument."""


def class_of(value: object) -> ClassName | None:
    """Return the class of a value in a pickle; a class or function is itself."""
    if value is _NOTHING:
        return None
    if isinstance(value, ClassName):
        return value
    if not isinstance(value, Made):
        return ClassName("builtins", type(value).__name__)
    maker = str(value.maker)
    if maker in _REBUILDERS and value.args:
        return _REBUILDERS[maker] or class_of(value.args[0])
    return None if value.maker is None else class_of(value.maker)
